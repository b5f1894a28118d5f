"""`orch retry`: a person starts stopped jobs again."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.naming import meant, some
from orchestrator.cli.options import Json, OptionalSelectors
from orchestrator.cli.session import open_acting, require_state, state_home


def retry(
    selectors: OptionalSelectors = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only failed jobs (of NAME|JOB, or all).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start failed, held or cancelled jobs again, their budgets whole.

    They go on from their last verified checkpoint.

    Examples:
      orch retry quickstart
      orch retry --failed
      orch retry 3f2a9c1e 77aa01bc
    """
    from jobs.states import JobState
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import count

    wanted = selectors or []
    if not wanted and not failed:
        raise Stop(Exit.USAGE, "which jobs?", fix="name a matrix or jobs, or give --failed")
    home = state_home()
    require_state(home, wanted[0] if wanted else "--failed")
    service = open_acting(home)
    if failed:
        rows = [row for row in service.chosen(wanted) if row.state is JobState.FAILED]
        names = service.again(*(row.id for row in rows)) if rows else []
    else:
        names = service.again(*wanted)
    if as_json:
        streams.show_document(outcome_document("retry", started=names))
        return
    if not names:
        of = f" of {meant(wanted)}" if wanted else ""
        states = "failed" if failed else "failed, held or cancelled"
        streams.say(f"nothing to start again: no job{of} is {states}")
        return
    streams.show(f"{count(len(names), 'job')} started again, budgets whole: {some(names)}")
    streams.hint("orch status --watch", "see them run")
