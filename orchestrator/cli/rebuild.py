"""`orch rebuild`: the database made anew from what is on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import Json, SiteFile
from orchestrator.cli.session import open_acting, state_home

if TYPE_CHECKING:
    from orchestrator.rebuild import RebuildReport

_SHOWN_PROBLEMS = 10


def rebuild(
    moved: Annotated[
        bool,
        typer.Option(
            "--moved", help="Take a directory as it was moved: end tasks of the old place."
        ),
    ] = False,
    site: SiteFile = None,
    as_json: Json = False,
) -> None:
    """Build the database anew from job directories, after a loss, a backup or a move.

    The old database is kept. Whatever may still run at a scheduler is looked for by its token.

    Examples:
      orch rebuild
      orch rebuild --moved
    """
    from durable.clock import SystemClock
    from jobs.contract.paths import StateDir
    from orchestrator.rebuild import rebuild as build
    from orchestrator.views.documents import outcome_document

    home = state_home(site)
    state = StateDir(home)
    if not state.jobs.is_dir() and not state.database.exists():
        raise Stop(
            Exit.NOT_FOUND,
            f"{home} has no jobs to rebuild a database from",
            fix="set ORCH_HOME to the state directory that you mean",
        )
    if moved:
        service = open_acting(home, site=site)
        try:
            lines = service.adopt_here()
        finally:
            service.close()
        _show_lines(lines, as_json=as_json)
        return
    report = build(state, SystemClock())
    if as_json:
        streams.show_document(
            outcome_document(
                "rebuild",
                jobs=report.jobs,
                states=report.states,
                looked_for=report.looked_for,
                events_kept=report.events_kept,
                kept=None if report.kept is None else str(report.kept),
                problems=list(report.problems),
            )
        )
    else:
        _say(report)


def _show_lines(lines: list[str], *, as_json: bool) -> None:
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import clean_line

    for line in lines:
        streams.say(clean_line(line))
    if as_json:
        streams.show_document(outcome_document("rebuild", happenings=lines))


def _say(report: RebuildReport) -> None:
    from orchestrator.views.text import clean_line, count

    states = ", ".join(f"{number} {state}" for state, number in report.states.items())
    streams.show(f"{count(report.jobs, 'job')}: {states or 'none'}")
    if report.kept is not None:
        streams.say(f"the old database is {report.kept} ({report.events_kept:,} events copied)")
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        streams.say(f"warning: {clean_line(problem)}", "yellow")
    if len(report.problems) > _SHOWN_PROBLEMS:
        streams.say(f"… and {len(report.problems) - _SHOWN_PROBLEMS} more warnings; --json")
    if report.looked_for:
        what = count(report.looked_for, "submission")
        streams.say(f"{what} may still be at a scheduler: the next tick looks for them")
    streams.hint("orch watch", "go on")
