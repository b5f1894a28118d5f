"""Records each look of a tick with what was decided from it; never stands in a tick's way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jobs.contract.paths import StateDir
from orchestrator.actions import Action, Move, RecordEnd, SeeProgress
from orchestrator.applying import Decided
from orchestrator.reconcile import Moment
from orchestrator.recordings import CASES, RecordedCase, Recording, Recordings
from orchestrator.schedulers.base import Observation, Scheduler


def words_of(actions: Sequence[Action]) -> tuple[str, ...]:
    """Return a decision in words that two tellings of it share, e.g. `Move RETRYING`."""
    words = []
    for action in actions:
        match action:
            case SeeProgress():
                continue
            case Move(state=state):
                words.append(f"Move {state.value}")
            case RecordEnd(end_class=end_class):
                words.append(f"RecordEnd {end_class.value}")
            case _:
                words.append(type(action).__name__)
    return tuple(words)


class TickRecorder:
    """Writes recordings for those schedulers that tell what they heard (`recorded`)."""

    def __init__(self, state: StateDir, scheduler_named: Callable[[str], Scheduler | None]) -> None:
        self._recordings = Recordings(state)
        self._scheduler_named = scheduler_named
        self._problem = ""

    def record(
        self,
        observations: Mapping[str, Observation],
        changed: Sequence[Decided],
        moment: Moment,
    ) -> list[str]:
        """Record what led to the changes; return why it cannot be done, once for each reason."""
        problems: list[str] = []
        for name, observation in observations.items():
            heard = getattr(self._scheduler_named(name), "recorded", None)
            if heard is None:
                continue
            mine = [item for item in changed if item.job.task.scheduler == name]
            recording = Recording(
                taken_at=observation.taken_at,
                scheduler=name,
                unreachable=observation.unreachable,
                heard=heard(),
                cases=tuple(_case(item, moment) for item in mine[:CASES]),
                left_out=max(0, len(mine) - CASES),
            )
            try:
                self._recordings.add(recording)
            except (OSError, ValueError) as error:
                if str(error) != self._problem:
                    problems.append(f"looks are not recorded: {error}")
                self._problem = str(error)
        return problems


def _case(item: Decided, moment: Moment) -> RecordedCase:
    return RecordedCase(
        job=item.job,
        evidence=item.evidence,
        now=moment.now,
        resumed=moment.resumed,
        decided=words_of(item.actions),
    )
