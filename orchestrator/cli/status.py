"""The verb `orch status`; what it does is in `listing`."""

from __future__ import annotations

from typing import Annotated

import typer

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
    as_json: Json = False,
) -> None:
    """Show what runs, how far, what was lost, and why.

    Examples:
      orch status
      orch status quickstart --watch
      orch status --json | jq '.jobs[] | select(.state == "FAILED")'
    """
    raise typer.Exit(show_status(selector, watch=watch, show_all=show_all, as_json=as_json))
