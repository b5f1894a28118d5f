"""The watcher as a tiny Slurm job that brings itself back: `orch watch --as-job`.

One per state directory, by the rules of every submission: a token recorded before sbatch, searched
for before another one is drawn.
"""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from durable.clock import Clock
from durable.faults import hit
from durable.files import private_dir, publish_file
from durable.locks import SingleHolderLock
from jobs.contract.paths import StateDir
from orchestrator.observation import publish_watcher_job
from orchestrator.rows import WatcherJobSeen
from orchestrator.schedulers.base import (
    OVER,
    Accepted,
    Known,
    Refused,
    Scheduler,
    TaskKey,
    Unreachable,
)
from orchestrator.schedulers.slurm_options import TRAP, checked_options, job_name, site_options
from orchestrator.schedulers.slurm_submit import SBATCH_SECONDS, submit_script, write_script
from orchestrator.site_schema import Site
from orchestrator.watcher_job import WatcherJobRecord, read_watcher_record, record_file

# A killed sbatch's request may still lie in a busy controller's queue.
QUIET_SECONDS = SBATCH_SECONDS + 60.0
LEAD_SECONDS = 120  # before the time limit; Slurm signals up to a minute early


class WatcherJobProblem(Exception):
    """No watcher job could be submitted, or it is not known whether there is one."""

    def __init__(
        self, message: str, *, fix: str, unreachable: bool = False, full: bool = False
    ) -> None:
        """`full`: a submit limit is in the way; there is room when a job has ended."""
        super().__init__(message)
        self.fix = fix
        self.unreachable = unreachable
        self.full = full


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherJob:
    """The watcher job that there is now."""

    scheduler_id: str
    state: str
    new: bool


def ensure_watcher_job(
    state: StateDir, site: Site, scheduler: Scheduler, clock: Clock, *, site_file: Path | None
) -> WatcherJob:
    """Return the state directory's watcher job, submitted now unless there is one.

    Raises `WatcherJobProblem`, `durable.locks.Locked` while another process does the same.
    """
    about = {"command": "orch watch --as-job", "verb": "watch --as-job"}
    with SingleHolderLock(state.path / "watcher-job.lock", about=about):
        record = read_watcher_record(state)
        known = None if record is None else find_watcher_job(record, scheduler)
        if known is not None:
            _publish(state, known, record, clock)
            return known
        if record is not None and record.scheduler_id is None:
            _require_quiet(record, clock)
        job = _submit(state, site, clock, site_file)
        _publish(state, job, read_watcher_record(state), clock)
        return job


def _publish(
    state: StateDir, job: WatcherJob, record: WatcherJobRecord | None, clock: Clock
) -> None:
    """Let `orch status` know of it before the next tick has seen it."""
    if record is not None:
        seen = WatcherJobSeen(
            token=record.token,
            task=f"{job.scheduler_id}_0",
            state=job.state,
            reason="",
            live=True,
            seen_at=clock.wall(),
        )
        publish_watcher_job(state, seen)


def find_watcher_job(record: WatcherJobRecord, scheduler: Scheduler) -> WatcherJob | None:
    """Return the recorded job if it lives. Raises `WatcherJobProblem` when nobody can tell."""
    key = watcher_key(record, scheduler)
    if key is None:
        return None
    answer = scheduler.observe([key]).answers[key]
    if isinstance(answer, Unreachable):
        raise _silent(answer.reason)
    if isinstance(answer, Known) and answer.state not in OVER:
        return WatcherJob(scheduler_id=key.scheduler_id, state=answer.state, new=False)
    return None


def watcher_key(record: WatcherJobRecord, scheduler: Scheduler) -> TaskKey | None:
    """Return the task that carries the record's token; None: the cluster surely has none."""
    found = scheduler.find(record.token)
    if isinstance(found, Unreachable):
        raise _silent(found.reason)
    ids = found.scheduler_ids
    return TaskKey(token=record.token, scheduler_id=ids[-1], index=0) if ids else None


def cancel_watcher_job(state: StateDir, scheduler: Scheduler) -> str | None:
    """End the watcher job, also one that waits to come back; return its id, None without one.

    Raises `WatcherJobProblem`.
    """
    record = read_watcher_record(state)
    job = None if record is None else find_watcher_job(record, scheduler)
    if record is None or job is None:
        return None
    key = TaskKey(token=record.token, scheduler_id=job.scheduler_id, index=0)
    problem = scheduler.cancel([key])[key]
    if problem is not None:
        raise WatcherJobProblem(
            f"watcher job {job.scheduler_id} could not be cancelled: {problem}",
            fix=f"scancel {job.scheduler_id}",
        )
    publish_watcher_job(state, None)
    return job.scheduler_id


def has_watcher_job(state: StateDir) -> bool:
    """Return whether a watcher job was ever submitted here."""
    return record_file(state).exists()


def _silent(reason: str) -> WatcherJobProblem:
    return WatcherJobProblem(
        f"Slurm does not say whether there is a watcher job: {reason}",
        fix="again when it answers; nothing was submitted",
        unreachable=True,
    )


def _require_quiet(record: WatcherJobRecord, clock: Clock) -> None:
    waited = clock.wall() - record.submitted_at
    if 0 <= waited < QUIET_SECONDS:
        raise WatcherJobProblem(
            f"a watcher job was submitted {waited:.0f} s ago, and sbatch's answer was lost: it may"
            " still arrive",
            fix=f"again in {QUIET_SECONDS - waited:.0f} s",
            unreachable=True,
        )


def _submit(state: StateDir, site: Site, clock: Clock, site_file: Path | None) -> WatcherJob:
    token = secrets.token_hex(8)
    directory = private_dir(state.path / "watchers" / token)
    options = watcher_options(token, directory, site)
    script = write_script(directory, options, watcher_body(state, site, site_file))
    record = WatcherJobRecord(token=token, submitted_at=clock.wall())
    publish_file(record_file(state), record.to_json())
    hit("watchjob.recorded")
    outcome = submit_script(script)
    hit("watchjob.submitted")
    if isinstance(outcome, Accepted):
        known = record.model_copy(update={"scheduler_id": outcome.scheduler_id})
        publish_file(record_file(state), known.to_json())
        return WatcherJob(scheduler_id=outcome.scheduler_id, state="pending", new=True)
    if isinstance(outcome, Refused):
        record_file(state).unlink(missing_ok=True)
        raise WatcherJobProblem(
            f"Slurm refused the watcher job: {outcome.reason}",
            fix=f"{outcome.hint or 'see the reason'}; `watcher:` in site.yaml has keys of its own",
            full=outcome.limit,
        )
    raise WatcherJobProblem(
        f"Slurm may or may not have the watcher job: {outcome.reason}",
        fix=f"again in {QUIET_SECONDS:.0f} s: it is looked for first",
        unreachable=True,
    )


def watcher_options(token: str, directory: Path, site: Site) -> Mapping[str, str | int | bool]:
    """Return all sbatch options by their long names. Raises Unfit."""
    name, own = job_name(token), site.watcher
    options: dict[str, str | int | bool] = {
        **site_options(site),
        "job-name": name,
        "comment": f"{name} watcher",
        "array": "0",  # one form of id for everything
        "chdir": str(directory),
        "output": f"{directory}/%A_%a.out",
        "open-mode": "append",
        "requeue": True,
        "export": "NONE",
        "ntasks": 1,
        "cpus-per-task": 1,
        "mem": f"{own.memory_mb}M",
        "signal": f"B:USR2@{LEAD_SECONDS}",
    }
    words = {"account": own.account, "qos": own.qos, "partition": own.partition}
    options |= {key: value for key, value in words.items() if value is not None}
    if own.time_limit_minutes is not None:
        options["time"] = own.time_limit_minutes
    return checked_options(options)


def watcher_body(state: StateDir, site: Site, site_file: Path | None) -> str:
    """Return the script behind the directives: values, then the constant part."""
    # Slurm's commands are needed inside, so it runs on the bare node, not in a container.
    python = sys.executable if site.container_prefix else site.python or sys.executable
    values = {
        "orch_home": shlex.quote(str(state.path)),
        "orch_site": shlex.quote("" if site_file is None else str(site_file.absolute())),
        "orch_python": shlex.quote(python),
    }
    template = resources.files("orchestrator.schedulers").joinpath("watcher.sh").read_text("utf-8")
    lines = [TRAP, *site.setup, *(f"{name}={value}" for name, value in values.items())]
    return "\n".join(lines) + "\n" + template
