"""The program `orch` as typer sees it: its verbs and their help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated

import typer

from orchestrator.cli.help_text import Verb, Verbs, help_of
from orchestrator.cli.streams import show

_INTRODUCTION = """Run a matrix of experiments on preemptible machines until each has a result.

\b
Examples:
  $ orch submit matrix.yaml --wait   expand, submit, watch, print the results
  $ orch status                      what runs, how far, what was lost, and why
  $ orch results                     metrics and weight digests, one row a job

State lives in .orch/ of the working directory, or in $ORCH_HOME.
"""

# Verb -> its module in this package, imported when it is needed.
VERBS = {
    "submit": "submit",
    "fetch": "fetch",
    "status": "status",
    "results": "results",
    "plot": "plot",
    "why": "why",
    "history": "history",
    "failures": "failed",
    "logs": "logs",
    "cancel": "cancel",
    "hold": "hold",
    "release": "hold",
    "retry": "retry",
    "preempt": "cancel",
    "watch": "watch",
    "tick": "watch",
    "checkpoints": "checkpoints",
    "nodes": "nodes",
    "doctor": "doctor",
    "rebuild": "rebuild",
}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        show(f"orch {version('orch')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (allowed anywhere).")
    ] = False,
) -> None:
    """Carry the options of `orch` itself; `main` takes --debug out before typer sees it."""


def build_app(words: Sequence[str] = ()) -> typer.Typer:
    """Return the typer application; with the verb that `words` begin with only, if it is one.

    typer resolves the types of every verb that it is given: 40 ms for all of them.
    """
    app = typer.Typer(
        name="orch",
        cls=Verbs,
        help=_INTRODUCTION,
        rich_markup_mode=None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=_INTRODUCTION)(_options)
    for name in words[:1] if words[:1] and words[0] in VERBS else VERBS:
        verb = verb_named(name)
        app.command(name, cls=Verb, help=help_of(verb))(verb)
    return app


def verb_named(name: str) -> Callable[..., None]:
    """Return the function of a verb."""
    verb: Callable[..., None] = getattr(import_module(f"{__package__}.{VERBS[name]}"), name)
    return verb
