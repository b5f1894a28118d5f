"""Facts for decision tests, with everything ordinary filled in."""

from __future__ import annotations

from typing import Any

from jobs.contract.records import ErrorRecord, ExitRecord, Outcome, ResultRecord, StopCause
from jobs.spec import semantic_digest
from jobs.states import JobState
from orchestrator.actions import Action
from orchestrator.facts import AttemptFacts, Evidence, JobFacts, Limits, Patience, TaskFacts
from orchestrator.reconcile import Moment, reconcile
from orchestrator.schedulers.base import Answer, TaskKey
from tests.contract.stub import make_spec

NOW = 1000.0
KEY = TaskKey(token="a" * 16, scheduler_id="7", index=0)
SPEC = make_spec(1, steps=10, grace_seconds=20.0)


def exit_record(
    outcome: Outcome,
    *,
    rank: int = 0,
    cause: StopCause | None = None,
    error: tuple[str, str] | None = None,
) -> ExitRecord:
    """Return a rank's account of its end; `error`: type and message."""
    record = ErrorRecord(type=error[0], message=error[1], digest="d") if error else None
    if record is None and outcome in (Outcome.EXCEPTION, Outcome.DEVICE_OOM, Outcome.CONFIGURATION):
        record = ErrorRecord(type="ValueError", message="bad\nsecond line", digest="d")
    return ExitRecord(
        epoch=1, rank=rank, outcome=outcome, cause=cause, exit_code=1, last_step=3, error=record
    )


def result_record() -> ResultRecord:
    """Return a valid result of `SPEC`."""
    return ResultRecord(
        job=SPEC.id,
        spec_digest=semantic_digest(SPEC.semantic),
        epoch=1,
        exact=True,
        metrics={},
        weights_digest="sha256:00",
        steps=10,
        trainable_parameters=1,
    )


def attempt(epoch: int = 1, *exits: ExitRecord, token: str = KEY.token) -> AttemptFacts:
    """Return an attempt that was not recorded as ended."""
    return AttemptFacts(epoch=epoch, token=token, last_step=4, committed_step=2, exits=exits)


def evidence(**fields: Any) -> Evidence:
    """Return the evidence of a running first attempt."""
    values = {"epoch": 1, "sequence": 5, "step": 4, "attempts": (attempt(),)}
    return Evidence(**{**values, **fields})


def job(**fields: Any) -> JobFacts:
    """Return a running job as the store knows it; `task_…` fields are the task's."""
    task = {k.removeprefix("task_"): fields.pop(k) for k in list(fields) if k.startswith("task_")}
    values: dict[str, Any] = {
        "id": SPEC.id,
        "name": SPEC.name,
        "spec": SPEC,
        "state": JobState.RUNNING,
        "epoch": 1,
        "sequence": 5,
        "heartbeat_at": NOW - 1,
        "attempts": 1,
        "task": TaskFacts(**{"id": 1, "key": KEY, "scheduler": "slurm", **task}),
    }
    return JobFacts(**{**values, **fields})


def decide(
    facts: JobFacts,
    answer: Answer | None,
    seen: Evidence,
    *,
    now: float = NOW,
    resumed: bool = False,
    patience: Patience | None = None,
) -> tuple[Action, ...]:
    """Reconcile with ordinary patience and limits."""
    return reconcile(
        facts,
        answer,
        seen,
        Moment(now=now, resumed=resumed),
        patience=patience or Patience(),
        limits=Limits(),
    )


def of_kind(actions: tuple[Action, ...], kind: type) -> list[Any]:
    """Return the actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]
