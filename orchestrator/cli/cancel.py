"""`orch cancel`, `orch retry` and `orch preempt`: a person interferes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import JobSelector, Json, RequiredSelector
from orchestrator.cli.session import open_acting, require_state, state_home

_NAMES_SHOWN = 10


def cancel(
    selector: RequiredSelector,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """End jobs for good; finished ones are not touched.

    Checkpoints and logs stay; `orch retry`, or the same `orch submit`, takes them up again.

    Examples:
      orch cancel quickstart
      orch cancel 3f2a9c1e --yes
    """
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import clean, count

    home = state_home()
    require_state(home, selector)
    service = open_acting(home)
    names = [row.name for row in service.rows(selector) if not _is_over(row.state)]
    if names and not yes:
        _ask(names)
    cancelled = service.cancel(selector) if names else []
    if as_json:
        streams.show_document(outcome_document("cancel", cancelled=cancelled))
        return
    if not cancelled:
        streams.say(f"nothing to cancel: every job of {clean(selector)} is over")
        streams.hint(f"orch status {clean(selector)}", "see them")
        return
    streams.show(f"{count(len(cancelled), 'job')} cancelled: {_some(cancelled)}")
    streams.hint(f"orch retry {clean(selector)}", "to run them after all")


def _is_over(state: object) -> bool:
    from jobs.states import TERMINAL

    return state in TERMINAL


def _some(names: list[str]) -> str:
    from orchestrator.views.text import clean

    shown = ", ".join(clean(name) for name in names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def _ask(names: list[str]) -> None:
    from orchestrator.views.text import count

    question = f"cancel {count(len(names), 'job')}: {_some(names)}"
    if not sys.stdin.isatty():
        raise Stop(Exit.USAGE, f"{question}? nobody is there to answer", fix="add --yes")
    if not typer.confirm(f"{question}?", err=True):
        raise Stop(Exit.FAILED, "nothing was cancelled")


def retry(
    selector: RequiredSelector,
    as_json: Json = False,
) -> None:
    """Start failed, held or cancelled jobs again.

    They go on from their last verified checkpoint.

    Examples:
      orch retry quickstart
      orch retry 3f2a9c1e
    """
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import clean, count

    home = state_home()
    require_state(home, selector)
    names = open_acting(home).again(selector)
    if as_json:
        streams.show_document(outcome_document("retry", started=names))
        return
    if not names:
        streams.say(f"nothing to start again: no job of {clean(selector)} is failed or cancelled")
        return
    streams.show(f"{count(len(names), 'job')} started again: {_some(names)}")
    streams.hint("orch status --watch", "see them run")


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
