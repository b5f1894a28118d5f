"""`orch retry`: a person starts stopped jobs again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.naming import meant, some
from orchestrator.cli.options import Json, OptionalSelectors
from orchestrator.cli.session import open_acting, require_state, state_home

if TYPE_CHECKING:
    from jobs.waivers import Waiver


Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="G",
        help="Only the jobs of a group of orch failures: its number or id.",
        show_default=False,
    ),
]
Waive = Annotated[
    list[str] | None,
    typer.Option(
        "--waive",
        metavar="NAME",
        help="Let this differ from their checkpoints (repeatable); results say exact: false.",
        show_default=False,
    ),
]

Ranks = Annotated[
    int | None,
    typer.Option(
        "--ranks",
        metavar="N",
        min=1,
        max=4096,
        help="Go on with so many ranks, the same global batch; results say exact: false.",
        show_default=False,
    ),
]


def retry(
    selectors: OptionalSelectors = None,
    *,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only failed jobs (of NAME|JOB, or all).")
    ] = False,
    group: Group = None,
    waive: Waive = None,
    ranks: Ranks = None,
    as_json: Json = False,
) -> None:
    """Start failed, held or cancelled jobs again, their budgets whole.

    They go on from their last verified checkpoint. A job whose attempt refused that, since
    something differs, names what to put right, and what may be let pass with --waive.

    Examples:
      orch retry quickstart
      orch retry --failed
      orch retry --group 1 quickstart
      orch retry 3f2a9c1e 77aa01bc
      orch retry 3f2a9c1e --waive library_versions
      orch retry 3f2a9c1e --ranks 2
    """
    from jobs.waivers import parse_waivers
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import count

    wanted = selectors or []
    if not wanted and not failed and group is None:
        raise Stop(
            Exit.USAGE, "which jobs?", fix="name a matrix or jobs, or give --failed or --group"
        )
    try:
        waivers = parse_waivers(waive or [])
    except ValueError as error:
        raise Stop(
            Exit.USAGE, str(error), fix="see docs/reference/matrix.md, resume.waive"
        ) from None
    home = state_home()
    require_state(home, wanted[0] if wanted else "any job")
    names = _start(home, wanted, failed=failed, group=group, waive=waivers, ranks=ranks)
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


def _start(
    home: Path,
    wanted: Sequence[str],
    *,
    failed: bool,
    group: str | None,
    waive: Sequence[Waiver],
    ranks: int | None,
) -> list[str]:
    """Have the jobs started again; return their names."""
    from jobs.geometry import BadGeometry
    from jobs.states import JobState

    service = open_acting(home)
    chosen = list(wanted)
    if failed or group is not None:
        chosen = [row.id for row in service.chosen(wanted) if row.state is JobState.FAILED]
        if group is not None:
            chosen = _of_group(home, wanted, group, chosen)
        if not chosen:
            return []
    try:
        return service.again(*chosen, waive=waive, ranks=ranks)
    except BadGeometry as error:
        raise Stop(Exit.USAGE, str(error), fix="give --ranks another number") from None


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
