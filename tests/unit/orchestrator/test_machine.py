"""The state machine of `orchestration`, and bugs that it must find.

ORCH_MACHINE_EXAMPLES=2000 (and ORCH_MACHINE_STEPS=60) makes it a soak with random seeds
(`scripts/proof machine`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from sqlite3 import IntegrityError
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from orchestrator import applying
from orchestrator import reconcile as reconcile_module
from orchestrator import tick as tick_module
from orchestrator.database import Database
from orchestrator.facts import EndClass, Patience
from orchestrator.policy import GiveUp, next_step
from orchestrator.schedulers.base import Absent, Known, Refused, TaskKey, Uncertain, Unreachable
from orchestrator.schedulers.fake import FakeScheduler
from orchestrator.submission import Submitter
from orchestrator.tick import Tick
from tests.unit.orchestrator.orchestration import Orchestration
from worker import claim

RUN = "takes minutes: scripts/proof machine"
EXAMPLES = int(os.environ.get("ORCH_MACHINE_EXAMPLES", "0"))

Orchestration.TestCase.settings = settings(
    max_examples=EXAMPLES or 25,
    stateful_step_count=int(os.environ.get("ORCH_MACHINE_STEPS", "25")),
    deadline=None,
    derandomize=not EXAMPLES,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes: turn it on by hand
    suppress_health_check=list(HealthCheck),
)
TestOrchestration = Orchestration.TestCase
HUNT = settings(
    Orchestration.TestCase.settings,
    max_examples=400,
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def silence_is_absence(patch: pytest.MonkeyPatch) -> None:
    """P6: an unreachable scheduler is taken for one that has nothing."""
    real = tick_module.reconcile

    def wrong(job: Any, answer: Any, *rest: Any, **more: Any) -> Any:
        return real(job, Absent() if isinstance(answer, Unreachable) else answer, *rest, **more)

    patch.setattr(tick_module, "reconcile", wrong)


def one_listing_is_enough(patch: pytest.MonkeyPatch) -> None:
    """P6: a task that one listing leaves out is called lost."""
    hasty = Patience(absent_answers=1, absent_seconds=0.0)
    patch.setattr(tick_module, "patience_of", lambda scheduler: hasty)


def uncertain_is_refused(patch: pytest.MonkeyPatch) -> None:
    """P2: a submission whose answer was lost is sent again at once."""
    real = Submitter._record

    def wrong(self: Any, token: str, chunk: Any, name: str, outcome: Any) -> None:
        if isinstance(outcome, Uncertain):
            outcome = Refused(reason=outcome.reason, permanent=False)
        real(self, token, chunk, name, outcome)

    patch.setattr(Submitter, "_record", wrong)


def intents_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """P1: what a crash leaves between intent and id is never looked for."""
    patch.setattr(tick_module, "settle_all", lambda *a, **k: [])


def a_number_is_a_name(patch: pytest.MonkeyPatch) -> None:
    """P9: a task is known by its number alone, not by its token."""

    def wrong(self: FakeScheduler, key: TaskKey) -> Any:
        same = [
            t for t in self._tasks if (t.scheduler_id, t.index) == (key.scheduler_id, key.index)
        ]
        return same[-1] if same else None

    patch.setattr(FakeScheduler, "_find", wrong)


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """P2: an attempt does not look whether a newer one holds the job."""
    patch.setattr(claim, "check_fence", lambda job, epoch: None)


def anybody_writes(patch: pytest.MonkeyPatch) -> None:
    """P9: a lease that was taken over still writes."""
    patch.setattr(Database, "check_lease", lambda self, epoch: None)


def preemptions_cost(patch: pytest.MonkeyPatch) -> None:
    """P8: preemptions are charged."""

    def wrong(end: Any, *, ends: Any, **rest: Any) -> Any:
        charged = sum(e.end_class is EndClass.PREEMPTED for e in ends)
        if charged > 1:
            return GiveUp(reason="preempted too often")
        return next_step(end, ends=ends, **rest)

    patch.setattr(applying, "next_step", wrong)


def people_are_not_heard(patch: pytest.MonkeyPatch) -> None:
    """A job that somebody cancelled at the scheduler is brought back."""
    real = reconcile_module.classify

    def wrong(known: Known | None, *rest: Any, **more: Any) -> Any:
        return real(replace(known, by_person=False) if known else None, *rest, **more)

    patch.setattr(reconcile_module, "classify", wrong)


def ends_are_counted_again(patch: pytest.MonkeyPatch) -> None:
    """P7: the end of an attempt is charged each time it is seen."""
    real = tick_module.read_evidence
    patch.setattr(tick_module, "read_evidence", lambda *a, ended_epoch: real(*a, ended_epoch=None))


def the_clock_is_believed(patch: pytest.MonkeyPatch) -> None:
    """P6: a jump of the clock passes for time in which nobody beat."""
    real = Tick._moment
    patch.setattr(Tick, "_moment", lambda self: replace(real(self), resumed=False))


BUGS = [
    silence_is_absence,
    one_listing_is_enough,
    uncertain_is_refused,
    intents_are_forgotten,
    a_number_is_a_name,
    anybody_writes,
    preemptions_cost,
    the_clock_is_believed,
]
# Found within minutes, not seconds: `scripts/proof machine`.
RARE = [no_fence, people_are_not_heard, ends_are_counted_again]
MARKED = [pytest.param(bug, marks=pytest.mark.skipif(not EXAMPLES, reason=RUN)) for bug in RARE]


@pytest.mark.parametrize("bug", [*BUGS, *MARKED], ids=lambda bug: bug.__name__)
def test_the_machine_finds(bug: Callable[[pytest.MonkeyPatch], None]) -> None:
    """A machine that finds nothing proves nothing."""
    with pytest.MonkeyPatch.context() as patch:
        bug(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception, IntegrityError)):
            run_state_machine_as_test(Orchestration, settings=HUNT)  # type: ignore[no-untyped-call]
