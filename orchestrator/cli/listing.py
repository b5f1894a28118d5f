"""What `orch status` shows; without typer, so that the plainest lines need not import it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.cli import streams
from orchestrator.cli.catching_up import PATIENT_SECONDS, CatchingUp, catch_up, is_stale
from orchestrator.cli.exits import Exit
from orchestrator.cli.session import (
    has_state,
    open_reading,
    require_state,
    say_empty,
    state_home,
)

if TYPE_CHECKING:
    from orchestrator.overview import Overview
    from orchestrator.reader import Reader
    from orchestrator.rows import JobRow

_REFRESH_SECONDS = 1.0


def show_status(
    selector: str | None, *, watch: bool = False, show_all: bool = False, as_json: bool = False
) -> int:
    """Show the jobs that `selector` means (None: all); return the exit code."""
    home = state_home()
    if selector is not None:
        require_state(home, selector)
    if not has_state(home):
        _show_nothing(as_json=as_json)
        say_empty(home)
        return int(Exit.OK)
    service = open_reading(home)
    if watch:
        return _keep_showing(service, selector, as_json=as_json)
    catching = None
    if is_stale(service.watcher(), now=time.time()):
        catching = catch_up(home, unsettled=service.unsettled())
    # A document is one answer, so it waits; people see what the store knows meanwhile.
    up_to_date = catching is None or catching.done(within=None if as_json else PATIENT_SECONDS)
    if as_json:
        from orchestrator.views.documents import status_text

        rows = service.each() if selector is None else service.rows(selector)
        known = service.ledgers(selector)
        text = status_text(rows, service.watcher(), service.seen(), ledgers=known)
        streams.show_bytes(text)
        return int(Exit.OK)
    before = None if up_to_date else service.rows(selector)
    _show(service, selector, limit=_limit(show_all=show_all))
    if catching is not None and before is not None:
        _show_late(service, selector, before, catching)
    return int(Exit.OK)


def _limit(*, show_all: bool) -> int | None:
    """Return how many rows are shown: a screen, a file that people may still read, or all."""
    from orchestrator.views.status import FILE_LIMIT, ROW_LIMIT

    if show_all:
        return None
    return FILE_LIMIT if streams.out() is None else ROW_LIMIT


def _show_late(
    service: Reader, selector: str | None, before: Sequence[JobRow], catching: CatchingUp
) -> None:
    """Wait for a scheduler that is slow to answer; show what it changed."""
    from orchestrator.views.changes import change_lines

    streams.say("this is what the store knows; the scheduler is being asked …")
    catching.done()
    known = {row.id: row for row in before}
    lines = list(change_lines(known, service.rows(selector), now=time.time()))
    for line in lines:
        streams.show(line)
    if not lines:
        streams.say("nothing else has changed")


def _show_nothing(*, as_json: bool) -> None:
    if as_json:
        from orchestrator.rows import Watcher
        from orchestrator.views.documents import status_document

        streams.show_document(status_document([], Watcher(alive=False)))


def _show(service: Reader, selector: str | None, *, limit: int | None) -> None:
    from orchestrator.views import status as view

    listing = service.overview(selector, limit=limit)
    if not listing.total:
        streams.say("no jobs yet")
        streams.hint("orch submit matrix.yaml", "submit a matrix")
        return
    if listing.rows:
        width = streams.table_width(streams.out())
        streams.show_table(view.job_table(listing.rows, width=width))
    if listing.hidden:
        streams.show(view.hidden_line(listing.hidden, len(listing.rows)), "dim")
    streams.show("")
    streams.show(view.counts_line(listing.tally.counts), "bold")
    if costs := view.costs_line(listing.tally.preemptions, listing.tally.lost_steps):
        streams.show(costs)
    for report in view.report_lines(listing.reporting, jobs=listing.reporting_jobs):
        streams.show(report, "yellow")
    now, open_jobs = time.time(), listing.open_jobs
    line, style = view.watcher_line(
        service.watcher(), open_jobs=open_jobs, now=now, leaving=service.unsettled()
    )
    streams.show(line, style)
    for line, style in view.seen_lines(service.seen(), open_jobs=open_jobs, now=now):
        streams.show(line, style)
    if kept_off := service.exclusions():
        from orchestrator.views.nodes import exclusion_line

        for one in kept_off:
            streams.show(exclusion_line(one, now=now), "yellow")
    _suggest(listing, selector)


def _suggest(listing: Overview, selector: str | None) -> None:
    from jobs.states import JobState
    from orchestrator.views.text import clean, short_id

    rows = listing.rows  # of a listing that is cut the failed ones come first
    failed = next((row for row in rows if row.state is JobState.FAILED), None)
    running = next((row for row in rows if row.state is JobState.RUNNING), None)
    if failed is not None:
        streams.hint(f"orch logs {short_id(failed.id)}", f"why {clean(failed.name)} failed")
    elif running is not None:
        streams.hint(f"orch logs {short_id(running.id)} -f", "follow a job")
    elif not listing.open_jobs and any(row.state is JobState.HELD for row in rows):
        held = next(row for row in rows if row.state is JobState.HELD)
        streams.hint(f"orch release {clean(selector or short_id(held.id))}", "let it go on")
    elif set(listing.tally.counts) == {JobState.COMPLETED.value}:
        streams.hint(f"orch results{f' {clean(selector)}' if selector else ''}", "see the results")


def _keep_showing(service: Reader, selector: str | None, *, as_json: bool) -> int:
    """Show the live view until no job is open or the user lets go; return the exit code."""
    from orchestrator.views.documents import encode, status_document
    from orchestrator.views.live import progress_view
    from orchestrator.views.status import is_open

    try:
        if as_json:
            while True:
                rows, watcher = service.rows(selector), service.watcher()
                known = service.ledgers(selector)
                streams.show(encode(status_document(rows, watcher, service.seen(), ledgers=known)))
                if not any(map(is_open, rows)):
                    return int(Exit.OK)
                time.sleep(_REFRESH_SECONDS)
        with progress_view(streams.out(), say=streams.show) as view:
            while True:
                rows, watcher = service.rows(selector), service.watcher()
                view.update(rows, watcher)
                if not any(map(is_open, rows)):
                    return int(Exit.OK)
                time.sleep(_REFRESH_SECONDS)
    except KeyboardInterrupt:
        streams.say("detached: the jobs go on")
        return int(Exit.INTERRUPTED)
