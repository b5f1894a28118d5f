"""What `orch submit --wait` does after the hand-over: watch, show, print the results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit
from orchestrator.cli.mover import BackgroundMover, ForegroundMover, Mover
from orchestrator.cli.session import open_with
from orchestrator.cli.waiting import WaitEnd, wait_for
from orchestrator.cli.watch import TickSpeaker

if TYPE_CHECKING:
    from orchestrator.cli.session import Chosen
    from orchestrator.rows import JobRow, SubmitReport, Watcher
    from orchestrator.service import Service

_CODES = {
    WaitEnd.COMPLETED: Exit.OK,
    WaitEnd.UNFINISHED: Exit.FAILED,
    WaitEnd.TIMED_OUT: Exit.TIMED_OUT,
}


def ids_of(report: SubmitReport) -> frozenset[str]:
    """Return the ids of all jobs that the submission names, new or not."""
    return frozenset(spec.id for spec in report.plan.jobs)


def open_jobs(service: Service, ids: Collection[str]) -> int:
    """Return how many of the jobs still need someone."""
    from orchestrator.views.status import is_open

    return sum(is_open(row) for row in service.rows(None) if row.id in ids)


def ensure_watcher(chosen: Chosen) -> None:
    """Start the background watcher of the state directory unless one is alive."""
    from orchestrator import background

    background.ensure_watcher(
        chosen.home,
        backend=chosen.name,
        site=chosen.site_file,
        options=() if chosen.slots is None else ("--slots", str(chosen.slots)),
    )


def _mover(chosen: Chosen, *, no_watch: bool) -> Mover:
    if chosen.name == "local" and not no_watch:
        return BackgroundMover(lambda: ensure_watcher(chosen))
    return ForegroundMover(lambda: open_with(chosen), on_tick=_WarningSpeaker())


class _WarningSpeaker(TickSpeaker):
    """Says warnings only: the view shows what happens to the jobs."""

    def __call__(self, report: Any) -> None:
        import dataclasses

        super().__call__(dataclasses.replace(report, happenings=()))


def wait_and_show(
    service: Service,
    report: SubmitReport,
    chosen: Chosen,
    *,
    timeout: float | None,
    no_watch: bool,
    as_json: bool,
) -> tuple[Exit, dict[str, Any]]:
    """Wait for the jobs of a submission and print their results.

    Returns the exit code, and the fields that `--json` adds to the document.
    """
    from orchestrator.views.live import progress_view

    ids = ids_of(report)
    mover = _mover(chosen, no_watch=no_watch)

    def look() -> tuple[Sequence[JobRow], Watcher]:
        return service.rows(None), service.watcher()

    try:
        if open_jobs(service, ids):
            with progress_view(streams.err(), say=streams.say) as view:
                end = wait_for(ids=ids, look=look, mover=mover, view=view, timeout=timeout)
        else:
            end = _already_over(service, ids)
    except KeyboardInterrupt:
        streams.say(f"detached: {mover.detach()}; nothing was cancelled")
        streams.hint("orch status --watch", "look on again")
        return Exit.INTERRUPTED, {"outcome": "interrupted", "results": []}
    if end is WaitEnd.TIMED_OUT:
        goes_on = mover.detach()
        streams.say(f"{timeout:g} s are over, {open_jobs(service, ids)} jobs are not: {goes_on}")
        streams.hint("orch status --watch", "look on again")
    else:
        mover.close()
    return _CODES[end], _show_end(service, ids, end, as_json=as_json)


def _already_over(service: Service, ids: Collection[str]) -> WaitEnd:
    from jobs.states import JobState

    mine = [row for row in service.rows(None) if row.id in ids]
    done = all(row.state is JobState.COMPLETED for row in mine)
    return WaitEnd.COMPLETED if done else WaitEnd.UNFINISHED


def _show_end(
    service: Service, ids: Collection[str], end: WaitEnd, *, as_json: bool
) -> dict[str, Any]:
    from orchestrator.views.documents import results_document

    rows = [row for row in service.results(None) if row.id in ids]
    if not as_json and end is not WaitEnd.TIMED_OUT:
        from orchestrator.cli.results import show_results

        show_results(rows)
        if end is WaitEnd.UNFINISHED:
            _say_unfinished([row for row in service.rows(None) if row.id in ids])
    return {"outcome": end.value, "results": results_document(rows)["jobs"]}


def _say_unfinished(rows: Sequence[JobRow]) -> None:
    from orchestrator.views.plan import unfinished
    from orchestrator.views.text import clean, short_id

    missing = unfinished(rows)
    for row in missing[:10]:
        streams.say(f"{clean(row.name)} {row.state.value}: {clean(row.reason)}", "red")
    if missing:
        streams.hint(f"orch logs {short_id(missing[0].id)}", "read its log")
