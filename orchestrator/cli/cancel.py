"""`orch cancel` and `orch preempt`: a person interferes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.naming import meant, some
from orchestrator.cli.options import JobSelector, Json, Selectors
from orchestrator.cli.session import open_acting, require_state, state_home


def cancel(
    selectors: Selectors,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """End jobs for good; finished ones are not touched.

    Checkpoints and logs stay; `orch retry`, or the same `orch submit`, takes them up again.

    Examples:
      orch cancel quickstart
      orch cancel 3f2a9c1e 77aa01bc --yes
    """
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import count

    home = state_home()
    require_state(home, selectors[0])
    service = open_acting(home)
    names = [row.name for row in service.going_on(selectors)]
    if names and not yes:
        _ask(names)
    cancelled = service.cancel(*selectors) if names else []
    if as_json:
        streams.show_document(outcome_document("cancel", cancelled=cancelled))
        return
    if not cancelled:
        streams.say(f"nothing to cancel: every job of {meant(selectors)} is over")
        streams.hint("orch status", "see them")
        return
    streams.show(f"{count(len(cancelled), 'job')} cancelled: {some(cancelled)}")
    streams.hint(f"orch retry {meant(selectors)}", "to run them after all")


def _ask(names: list[str]) -> None:
    from orchestrator.views.text import count

    question = f"cancel {count(len(names), 'job')}: {some(names)}"
    if not sys.stdin.isatty():
        raise Stop(Exit.USAGE, f"{question}? nobody is there to answer", fix="add --yes")
    if not typer.confirm(f"{question}?", err=True):
        raise Stop(Exit.FAILED, "nothing was cancelled")


def preempt(job: JobSelector, as_json: Json = False) -> None:
    """Rehearse a preemption on a running job.

    Notice, grace time, SIGKILL, as the site would do it. The job saves, leaves and comes back by
    itself; it costs no retry.

    Example:
      orch preempt 3f2a9c1e
    """
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import clean, clean_line

    home = state_home()
    require_state(home, job)
    service = open_acting(home)
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        streams.say(clean_line(line))

    service.preempt(job, on_line=on_line)
    if as_json:
        streams.show_document(outcome_document("preempt", job=job, happenings=lines))
    else:
        streams.hint(f"orch status {clean(job)} --watch", "see it come back")
