"""The verb `orch status`; what it does is in `listing`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.listing import show_status
from orchestrator.cli.options import Json, Selector


def status(
    selector: Selector = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing it; Ctrl-C ends only the view.")
    ] = False,
    show_all: Annotated[
        bool, typer.Option("--all", "-a", help="Show every job, however many there are.")
    ] = False,
    goodput: Annotated[
        bool, typer.Option("--goodput", help="Show what the time of jobs went into.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what runs, how far, what was lost, and why.

    Examples:
      orch status
      orch status quickstart --watch
      orch status --goodput
      orch status --json | jq '.jobs[] | select(.state == "FAILED")'
    """
    if goodput:
        from orchestrator.cli.goodput import show_goodput

        if watch:
            raise Stop(
                Exit.USAGE, "--goodput and --watch exclude each other", fix="give one of them"
            )
        raise typer.Exit(show_goodput(selector, show_all=show_all, as_json=as_json))
    raise typer.Exit(show_status(selector, watch=watch, show_all=show_all, as_json=as_json))
