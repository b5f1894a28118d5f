"""A result that arrives after its job was stopped is valid work and wins (DESIGN: job states)."""

from __future__ import annotations

from jobs.contract.paths import StateDir
from jobs.states import JobState
from orchestrator.evidence import read_result
from orchestrator.store import Store


def accept_late_results(store: Store, state: StateDir, *, lease_epoch: int) -> list[str]:
    """Complete stopped jobs that have a valid result by now; return what happened, for people.

    One `stat` for each stopped job; a file that is no result changes nothing.
    """
    lines = []
    for job in store.stopped_jobs():
        directory = state.job(job)
        if not directory.result.exists():
            continue
        spec = store.spec_of(job)
        result, _ = read_result(directory, spec)
        if result is not None:
            with store.writing(lease_epoch):
                store.add_result(job, result)
                cause = "a valid result.json arrived late"
                store.move(job, JobState.COMPLETED, reason="", cause=cause)
            lines.append(f"{spec.name}: COMPLETED: {cause}")
    return lines
