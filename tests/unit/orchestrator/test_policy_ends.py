"""Whatever happens to a job, in whatever order: it ends, and preemptions with progress are free.

A small model of a job: each attempt resumes from the newest checkpoint, commits some steps and
ends somehow. The facts that the policy sees are what a store and a job directory would hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract.records import EpochRecord, ExitRecord, Outcome, Overrides, StopCause
from jobs.history import AttemptHistory, JobHistory
from jobs.spec import JobSpec
from orchestrator.classification import Meaning
from orchestrator.facts import Blame, EndClass, EndFacts
from orchestrator.policy import GiveUp, RunAgain, next_step
from tests.contract.stub import make_spec

TOTAL = 12
E = EndClass
WAYS = [c for c in EndClass if c not in (E.COMPLETED, E.CANCELLED)]
OUTCOMES = {
    E.PREEMPTED: Outcome.SAVED,
    E.TIME_LIMIT: Outcome.SAVED,
    E.DEVICE_OOM: Outcome.DEVICE_OOM,
    E.EXCEPTION: Outcome.EXCEPTION,
    E.CONFIGURATION: Outcome.CONFIGURATION,
    E.INCOMPLETE: Outcome.COMPLETED,
    E.FENCED: Outcome.FENCED,
}


@dataclass
class Life:
    """A job's attempts so far, as store and job directory tell them."""

    spec: JobSpec
    overrides: Overrides = field(default_factory=Overrides)
    ends: list[EndFacts] = field(default_factory=list)
    attempts: list[AttemptHistory] = field(default_factory=list)
    checkpoints: list[tuple[str, int]] = field(default_factory=list)

    def live(self, end_class: EndClass, gain: int, last: int) -> RunAgain | GiveUp:
        """Let one attempt end so; return what follows."""
        bad = {item.checkpoint for item in self.overrides.distrusted}
        self.checkpoints = [c for c in self.checkpoints if c[0] not in bad]
        if end_class is E.LAUNCH:
            self.ends.append(EndFacts(epoch=None, end_class=end_class))
        else:
            self._attempt(end_class, gain, last)
        step = next_step(
            Meaning(end_class=end_class, cause="because"),
            ends=self.ends,
            spec=self.spec,
            overrides=self.overrides,
            history=JobHistory(job=self.spec.id, attempts=tuple(self.attempts)),
        )
        if isinstance(step, RunAgain):
            self.overrides = step.overrides
        return step

    def _attempt(self, end_class: EndClass, gain: int, last: int) -> None:
        epoch = len(self.attempts) + 1
        name, start = self.checkpoints[-1] if self.checkpoints else (None, 0)
        committed = min(TOTAL, start + gain)
        if committed > start:
            self.checkpoints.append((f"step-{committed:08d}.e{epoch:04d}", committed))
        reached = min(TOTAL, committed + last)
        self.ends.append(
            EndFacts(
                epoch=epoch,
                end_class=end_class,
                committed_step=committed,
                last_step=reached,
                resumed_from=name,
                blame=Blame.NOBODY,
            )
        )
        outcome = OUTCOMES.get(end_class)
        record = ExitRecord(
            epoch=epoch,
            rank=0,
            outcome=outcome or Outcome.SAVED,
            cause=StopCause.PREEMPTION,
            exit_code=75,
            last_step=reached,
            committed_step=committed,
        )
        claim = EpochRecord(
            epoch=epoch,
            token="t",
            scheduler="fake",
            scheduler_id="1",
            host="h",
            boot_id="b",
            pid=1,
            pid_start=1,
            started_at=0,
            overrides=self.overrides,
        )
        self.attempts.append(
            AttemptHistory(
                epoch=epoch,
                claim=claim,
                exits=(record,) if outcome else (),
                phase="training",
                resumed_step=start,
                resumed_from=name,
                last_step=reached,
                committed_step=committed,
                total_steps=TOTAL,
            )
        )


moments = st.tuples(st.sampled_from(WAYS), st.integers(0, 2), st.integers(0, 2))
retries = st.fixed_dictionaries(
    {
        "exceptions": st.integers(0, 3),
        "incomplete": st.integers(0, 2),
        "node_failures": st.integers(0, 4),
        "stalls": st.integers(0, 2),
        "launch_failures": st.integers(0, 2),
        "restarts_without_progress": st.integers(1, 4),
        "poison_attempts": st.integers(2, 4),
    }
)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(retry=retries, cycle=st.lists(moments, min_size=1, max_size=6))
def test_every_sequence_of_ends_ends(
    retry: dict[str, int], cycle: list[tuple[EndClass, int, int]]
) -> None:
    """P8: budgets refill only by progress, and progress is bounded: nothing runs for ever."""
    life = Life(make_spec(1, steps=TOTAL, retry={"max_memory_gb": 9.0, **retry}))

    for count in range(2000):
        step = life.live(*cycle[count % len(cycle)])
        if isinstance(step, GiveUp):
            assert step.reason
            return

    raise AssertionError(f"2000 attempts, and still: {step}")


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    gains=st.lists(
        st.tuples(st.sampled_from([E.PREEMPTED, E.TIME_LIMIT]), st.just(1)), max_size=TOTAL
    ),
    retry=retries,
)
def test_preemptions_with_progress_never_exhaust(
    gains: list[tuple[EndClass, int]], retry: dict[str, int]
) -> None:
    """As many as there are steps, whatever the budgets, also between failures of other causes."""
    life = Life(make_spec(1, steps=TOTAL, retry=retry))

    for end_class, gain in gains:
        assert isinstance(life.live(end_class, gain, 0), RunAgain)
