"""`orch submit`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import streams
from orchestrator.cli.backend import Backend
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.fetching import load_fetched, load_here
from orchestrator.cli.options import Json, Matrices, Overrides, Profile, SiteFile, Slots
from orchestrator.cli.session import (
    choose_backend,
    open_with,
    plan_only,
    remember,
    state_home,
)
from orchestrator.cli.warming import DATA, DRY, warm_data

if TYPE_CHECKING:
    from jobs.matrix import Matrix
    from jobs.spec import JobSpec
    from orchestrator.checkpoint_space import CheckpointSpace
    from orchestrator.cli.session import Chosen
    from orchestrator.rows import JobRow, Plan, SubmitReport
    from orchestrator.service import Service


SubmitBackend = Annotated[
    Backend, typer.Option("--backend", help="Where to run; auto: Slurm where it answers.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]
Wait = Annotated[bool, typer.Option("--wait", help="Show progress until every job is over.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0,
        help="With --wait: let go after this time (exit 124); the jobs go on.",
        show_default=False,
    ),
]
NoWatch = Annotated[bool, typer.Option("--no-watch", help="Leave no background watcher running.")]
Prune = Annotated[
    bool,
    typer.Option("--prune", help="Cancel jobs that the file named earlier and nobody wants now."),
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="With --prune: do not ask before running jobs end.")
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Ask no hub; as HF_HUB_OFFLINE=1. Models must be there."),
]


def submit(
    *,
    matrices: Matrices,
    backend: SubmitBackend = Backend.AUTO,
    site: SiteFile = None,
    slots: Slots = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = None,
    no_watch: NoWatch = False,
    overrides: Overrides = None,
    profile: Profile = None,
    prune: Prune = False,
    yes: Yes = False,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Expand matrices into jobs and run them, none twice.

    Examples:
      orch submit matrix.yaml --wait
      orch submit a.yaml b.yaml --backend slurm
      orch submit matrix.yaml --set train.steps=20 --dry-run
      orch submit matrix.yaml --profile dev --wait
      orch submit edited.yaml --prune
    """
    dry_run, only_data = dry_run or profile == DRY, profile == DATA
    profile = None if profile in (DRY, DATA) else profile
    _check_options(dry_run=dry_run, wait=wait, timeout=timeout)
    home = state_home(site)
    chosen = choose_backend(home, backend, site, slots=slots)
    asked = (matrices, overrides or (), chosen.worker_site)
    if dry_run:
        _show_plan(load_here(*asked, profile=profile, absent_ok=True), chosen, prune, as_json)
        return
    loaded, _ = load_fetched(*asked, profile=profile, offline=offline)
    if only_data:
        warm_data(loaded, chosen, as_json=as_json)
        return
    remember(chosen)
    service = open_with(chosen)
    earlier = service.rows(None)
    space = _say_plan(service.plan(loaded), chosen, earlier, prune=prune, yes=yes)
    report = service.submit(loaded, prune=prune)
    _say_submitted(service, report, chosen, loaded, as_json=as_json, earlier=earlier)
    code, fields = _outcome(report), dict[str, Any]()
    if wait:
        from orchestrator.cli.follow import wait_and_show

        code, fields = wait_and_show(
            service, report, chosen, timeout=timeout, no_watch=no_watch, as_json=as_json
        )
    elif not no_watch:
        _leave_watcher(service, report, chosen)
    if as_json:
        from orchestrator.views.documents import submit_document

        document = submit_document(report, watcher=service.watcher(), space=space)
        streams.show_document({**document, **fields})
    raise typer.Exit(int(code))


def _say_plan(
    planned: Plan, chosen: Chosen, earlier: Sequence[JobRow], *, prune: bool, yes: bool
) -> CheckpointSpace | None:
    """Say what a submission is about to do; ask where jobs would end. Return the space it needs."""
    space = _space(planned, chosen)
    _say_space(space)
    _say_deadlines(planned, chosen, earlier)
    _say_changes(planned, prune=prune, yes=yes)
    return space


def _check_options(*, dry_run: bool, wait: bool, timeout: float | None) -> None:
    if timeout is not None and not wait:
        raise Stop(Exit.USAGE, "--timeout belongs to --wait", fix="add --wait")
    if dry_run and wait:
        raise Stop(Exit.USAGE, "--dry-run and --wait exclude each other", fix="give one of them")


def _show_plan(loaded: Sequence[Matrix], chosen: Chosen, prune: bool, as_json: bool) -> None:
    plan = plan_only(chosen.home, loaded)
    from orchestrator.views.documents import plan_document
    from orchestrator.views.missing import missing_lines
    from orchestrator.views.plan import PLAN_LIMIT, change_lines, plan_line, plan_table
    from orchestrator.views.text import clean

    missing = [problem for matrix in loaded for problem in matrix.missing]
    space = _space(plan, chosen)
    if as_json:
        backend = {"name": chosen.name, "reason": chosen.reason}
        streams.show_document(plan_document(plan, backend=backend, space=space, missing=missing))
        return
    limit = PLAN_LIMIT if streams.out() is not None else None
    streams.show_table(plan_table(plan, limit=limit))
    if limit is not None and len(plan.jobs) > limit:
        streams.show(f"… and {len(plan.jobs) - limit:,} more; --json shows all", "dim")
    streams.show("")
    streams.show(plan_line(plan), "bold")
    for line in change_lines(plan, prune=prune):
        streams.show(line)
    _say_space(space)
    _say_grace(plan, chosen)
    for line in missing_lines(missing):
        streams.say(line, "yellow")
    streams.say(f"backend: {chosen.name} ({chosen.reason})")
    streams.say(f"site: {'; '.join(map(clean, chosen.site.describe()))}")
    streams.say("dry run: nothing was changed")


def _space(plan: Plan, chosen: Chosen) -> CheckpointSpace | None:
    """Return what the new jobs' checkpoints need, where that can be told."""
    from orchestrator.checkpoint_space import predict

    return predict(_fresh(plan), site=chosen.worker_site, home=chosen.home)


def _fresh(plan: Plan) -> list[JobSpec]:
    return [spec for spec in plan.jobs if spec.id in plan.new_ids]


def _say_grace(plan: Plan, chosen: Chosen) -> None:
    """Warn where the site is known to leave less time than the new jobs count with."""
    from orchestrator.grace_warning import grace_warning

    warning = grace_warning(_fresh(plan), chosen.site.site.preemption)
    if warning is not None and chosen.name == "slurm":
        streams.say(warning, "yellow")


def _say_deadlines(plan: Plan, chosen: Chosen, earlier: Sequence[JobRow]) -> None:
    """Warn where a preemption will leave too little time."""
    _say_grace(plan, chosen)
    _say_save_time(plan, chosen, earlier)


def _say_save_time(plan: Plan, chosen: Chosen, earlier: Sequence[JobRow]) -> None:
    """Warn where saves will take longer than a preemption leaves, by what earlier ones took."""
    from jobs.contract.paths import StateDir
    from orchestrator.checkpoint_space import predictions
    from orchestrator.save_time import measured_saves, save_warning

    saves = list(measured_saves(StateDir(chosen.home), earlier))
    found = predictions(_fresh(plan), site=chosen.worker_site) if saves else ()
    if warning := save_warning(filter(None, found), saves):
        streams.say(warning, "yellow")


def _say_space(space: CheckpointSpace | None) -> None:
    """Say what the checkpoints need; in yellow where it is more than there is."""
    if space is None:
        return
    if warning := space.memory_warning():
        streams.say(warning, "yellow")
    if not space.scarce:
        streams.say(space.words())
        return
    streams.say(
        f"{space.words()}: that is too little if all run at once; lower save.keep, or set"
        " scratch_root in site.yaml to a larger file system",
        "yellow",
    )


def _say_changes(plan: Plan, *, prune: bool, yes: bool) -> None:
    """Say what is about to change; on a terminal, ask before running work is cancelled."""
    from jobs.states import JobState
    from orchestrator.views.plan import change_lines
    from orchestrator.views.text import count

    for line in change_lines(plan, prune=prune):
        streams.say(line)
    running = sum(job.state is JobState.RUNNING for job in plan.removed)
    if not prune or not running or yes or not sys.stdin.isatty():
        return
    if not typer.confirm(f"cancel {count(running, 'running job')}?", err=True):
        raise Stop(Exit.FAILED, "nothing was changed", fix="leave --prune out to only add jobs")


def _say_submitted(
    service: Service,
    report: SubmitReport,
    chosen: Chosen,
    matrices: Sequence[Matrix],
    *,
    as_json: bool,
    earlier: Sequence[JobRow],
) -> None:
    from orchestrator.views import plan as view
    from orchestrator.views.text import clean

    known = {row.id for row in earlier}
    rows = [row for row in service.rows(None) if row.id in known]
    names = ", ".join(dict.fromkeys(clean(matrix.name) for matrix in matrices))
    line = f"{names}: {view.plan_line(report.plan, rows)}"
    (streams.say if as_json else streams.show)(line)
    if handed := view.handed_over_line(report, chosen.label):
        streams.say(handed)
    for refusal in report.refused:
        streams.say(f"refused: {clean(refusal)}", "red")
    if report.unreachable:
        streams.say(
            f"the scheduler cannot be asked: {clean(report.unreachable)}; the jobs are recorded"
            " and handed over when it answers (orch watch, orch tick)",
            "yellow",
        )


def _outcome(report: SubmitReport) -> Exit:
    if report.refused:
        return Exit.PARTIAL if report.submitted else Exit.FAILED
    return Exit.UNREACHABLE if report.unreachable else Exit.OK


def _leave_watcher(service: Service, report: SubmitReport, chosen: Chosen) -> None:
    """Start the background watcher on the local backend; elsewhere say how to have one."""
    from orchestrator.cli.follow import ensure_watcher, ids_of, open_jobs
    from orchestrator.views.text import clean

    if not open_jobs(service, ids_of(report)):
        streams.hint("orch results", "nothing to run; see the results")
        return
    if chosen.name == "local":
        ensure_watcher(chosen)
        watcher = service.watcher()
        who = f"pid {watcher.pid} on {clean(watcher.host or 'this host')}" if watcher.pid else "on"
        streams.say(f"a watcher runs in the background ({who}); this terminal may close")
    elif not service.watcher().alive:
        streams.say("requeued jobs restart without a watcher; with one they restart sooner")
        streams.hint("orch watch", "start one")
    streams.hint("orch status --watch", "see the progress")
