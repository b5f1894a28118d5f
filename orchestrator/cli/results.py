"""`orch results`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.catching_up import catch_up, is_stale
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import Json, Selector
from orchestrator.cli.session import (
    has_state,
    open_reading,
    require_state,
    say_empty,
    state_home,
)

if TYPE_CHECKING:
    from orchestrator.rows import ResultRow


def results(
    selector: Selector = None,
    as_json: Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV on stdout: every axis and every metric.")
    ] = False,
) -> None:
    """Show the evaluated results, one row a job.

    Examples:
      orch results
      orch results quickstart --csv > quickstart.csv
    """
    if as_json and as_csv:
        raise Stop(Exit.USAGE, "--json and --csv exclude each other", fix="give one of them")
    home = state_home()
    if selector is not None:
        require_state(home, selector)
    found = has_state(home)
    rows = _read(home, selector) if found else []
    if as_json:
        from orchestrator.views.documents import results_document

        streams.show_document(results_document(rows))
    elif as_csv:
        from orchestrator.views.results import results_csv

        sys.stdout.write(results_csv(rows))
    elif rows:
        show_results(rows)
    if not found:
        say_empty(home)


def _read(home: Path, selector: str | None) -> list[ResultRow]:
    reader = open_reading(home)
    if is_stale(reader.watcher(), now=time.time()):
        catching = catch_up(home, unsettled=reader.unsettled())
        if catching is not None:
            catching.done()
    return reader.results(selector)


def show_results(rows: Sequence[ResultRow]) -> None:
    """Print the table of results and what to do next."""
    from jobs.states import JobState
    from orchestrator.views.results import missing_line, result_table

    streams.show_table(result_table(rows, width=streams.table_width(streams.out())))
    if missing := missing_line(rows):
        streams.say(missing, "yellow")
        streams.hint("orch status", "see why")
    elif all(row.state is JobState.COMPLETED for row in rows):
        streams.hint("orch results --csv", "all splits, for a spreadsheet or pandas")
