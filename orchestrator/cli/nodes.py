"""`orch nodes`: which nodes are kept off, why, until when; and forgiving one."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import Json
from orchestrator.cli.session import open_acting, open_reading, require_state, state_home


def nodes(
    forgive: Annotated[
        list[str] | None,
        typer.Option("--forgive", metavar="NODE", help="Use this node again; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the nodes that jobs keep off, and forgive them.

    A node is kept off for a while after jobs died on it. Forgiven, it starts with no strikes.

    Examples:
      orch nodes
      orch nodes --forgive n17
    """
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.nodes import exclusion_document, exclusion_line
    from orchestrator.views.text import clean

    home = state_home()
    require_state(home, "nodes")
    if forgive:
        _check_names(forgive)
        forgiven = open_acting(home).forgive(forgive)
        if as_json:
            streams.show_document(outcome_document("nodes", forgiven=forgiven))
            return
        for node in forgiven:
            streams.show(f"{clean(node)} is forgiven: what it did before counts no more")
        return
    found = open_reading(home).exclusions()
    if as_json:
        streams.show_document(exclusion_document(found))
        return
    if not found:
        streams.say("no node is kept off")
    for one in found:
        streams.show(exclusion_line(one, now=time.time()), "yellow")
    if found:
        streams.hint(f"orch nodes --forgive {clean(found[0].node)}", "use it again now")


def _check_names(nodes: list[str]) -> None:
    from orchestrator.node_strikes import NODE_NAME
    from orchestrator.views.text import clean

    for node in nodes:
        if not NODE_NAME.fullmatch(node):
            raise Stop(
                Exit.USAGE, f"{clean(node)} is not the name of a node", fix="orch nodes lists them"
            )
