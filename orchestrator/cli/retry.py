"""`orch retry`: a person starts stopped jobs again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            metavar="G",
            help="Only the jobs of a group of orch failures: its number or id.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start failed, held or cancelled jobs again, their budgets whole.

    They go on from their last verified checkpoint.

    Examples:
      orch retry quickstart
      orch retry --failed
      orch retry --group 1 quickstart
      orch retry 3f2a9c1e 77aa01bc
    """
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import count

    wanted = selectors or []
    if not wanted and not failed and group is None:
        raise Stop(
            Exit.USAGE, "which jobs?", fix="name a matrix or jobs, or give --failed or --group"
        )
    home = state_home()
    require_state(home, wanted[0] if wanted else "any job")
    names = _start(home, wanted, failed=failed, group=group)
    if as_json:
        streams.show_document(outcome_document("retry", started=names))
        return
    if not names:
        of = f" of {meant(wanted)}" if wanted else ""
        states = "failed" if failed or group else "failed, held or cancelled"
        streams.say(f"nothing to start again: no job{of} is {states}")
        return
    streams.show(f"{count(len(names), 'job')} started again, budgets whole: {some(names)}")
    streams.hint("orch status --watch", "see them run")


def _start(home: Path, wanted: Sequence[str], *, failed: bool, group: str | None) -> list[str]:
    """Have the jobs started again; return their names."""
    from jobs.states import JobState

    service = open_acting(home)
    if not failed and group is None:
        return service.again(*wanted)
    ids = [row.id for row in service.chosen(wanted) if row.state is JobState.FAILED]
    if group is not None:
        ids = _of_group(home, wanted, group, ids)
    return service.again(*ids) if ids else []


def _of_group(home: Path, wanted: Sequence[str], group: str, ids: Sequence[str]) -> list[str]:
    """Return the jobs of a group as `orch failures` counts it. Raises `Stop` without one.

    One name narrows the groups as it does there; several names are groups of all jobs.
    """
    from orchestrator.failure_groups import choose_group
    from orchestrator.inquiry import Inquiry

    _, groups = Inquiry(home).failures(wanted[0] if len(wanted) == 1 else None)
    chosen = choose_group(groups, group)
    if chosen is None:
        raise Stop(
            Exit.NOT_FOUND,
            f"there is no group {group!r} of failures",
            fix="orch failures lists them",
        )
    among = set(ids)
    return [job.id for job in chosen.jobs if job.id in among]
