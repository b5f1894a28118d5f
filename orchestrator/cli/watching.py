"""What `orch watch` does besides watching here: in the background, as a job, or ending it."""

from __future__ import annotations

import time
from pathlib import Path

from orchestrator.cli import streams
from orchestrator.cli.backend import Backend
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.session import choose_backend, open_acting

ROOM_SECONDS = 15.0  # between two attempts to submit the watcher job under a full submit limit


def detach(
    home: Path, *, until_idle: bool, backend: Backend | None, site: Path | None, slots: int | None
) -> None:
    """Leave a watcher in the background; say who watches."""
    from orchestrator.background import ensure_watcher
    from orchestrator.cli.remembered import remembered_choice
    from orchestrator.views.text import clean

    open_acting(home, backend=backend, site=site, slots=slots).close()  # says what is wrong, here
    name = (backend or Backend(remembered_choice(home).backend)).value
    options = [] if slots is None else ["--slots", str(slots)]
    watcher = ensure_watcher(home, backend=name, site=site, options=options, until_idle=until_idle)
    if watcher.alive:
        who = f"pid {watcher.pid} on {clean(watcher.host or 'this host')}"
        streams.say(f"a watcher runs in the background ({who}); this terminal may close")
        streams.hint("orch watch --stop", "end it; running attempts go on")
    elif until_idle:
        streams.say("no job is open: the watcher has left again")
    else:
        raise Stop(
            Exit.FAILED,
            "the background watcher did not come up",
            fix=f"its words are in {home / 'watch.log'}",
        )


def stop(home: Path, *, site: Path | None) -> None:
    """Ask the watcher to leave, wait, and say who it was; end a watcher job for good."""
    from durable.clock import SystemClock
    from jobs.contract.paths import StateDir
    from orchestrator.leaving import StillThere, dismiss
    from orchestrator.views.text import clean

    state = StateDir(home)
    try:
        left = dismiss(state, SystemClock())
    except StillThere as error:
        raise Stop(Exit.LOCKED, str(error), fix="orch status shows when it has left") from error
    job = _end_job(home, site)
    if job is not None:
        streams.say(f"watcher job {job} was cancelled")
    if left is not None:
        watcher = left.watcher
        how = " (after a SIGTERM)" if left.signalled else ""
        streams.say(
            f"the watcher has left{how}: pid {watcher.pid} on {clean(watcher.host or 'this host')};"
            " running attempts go on"
        )
        streams.hint("orch watch", "take it up again")
    elif job is None:
        streams.say("no watcher is alive")


def _end_job(home: Path, site: Path | None) -> str | None:
    from jobs.contract.paths import StateDir
    from orchestrator.schedulers.slurm_watcher import (
        WatcherJobProblem,
        cancel_watcher_job,
        has_watcher_job,
    )

    state = StateDir(home)
    if not has_watcher_job(state):
        return None
    chosen = choose_backend(home, Backend.SLURM, site)
    try:
        return cancel_watcher_job(state, chosen.choice.scheduler)
    except WatcherJobProblem as error:
        raise _stop_of(error) from error


def as_job(home: Path, *, site: Path | None) -> None:
    """Submit the watcher as a Slurm job unless there is one; say which.

    Where a submit limit is full it waits for room.
    """
    from durable.clock import SystemClock
    from jobs.contract.paths import StateDir
    from orchestrator.schedulers.slurm_watcher import WatcherJobProblem, ensure_watcher_job

    chosen = choose_backend(home, Backend.SLURM, site)
    said = ""
    while True:
        try:
            job = ensure_watcher_job(
                StateDir(home),
                chosen.site.site,
                chosen.choice.scheduler,
                SystemClock(),
                site_file=chosen.site.path,
            )
            break
        except WatcherJobProblem as error:
            if not error.full:
                raise _stop_of(error) from error
            # Our own jobs may have filled the limit a moment ago: the first that ends makes room.
            if str(error) != said:
                streams.say(f"{error}; waiting until a job has ended (Ctrl-C: not now)", "yellow")
            said = str(error)
        time.sleep(ROOM_SECONDS)
    if job.new:
        streams.say(f"the watcher is Slurm job {job.scheduler_id}; it leaves when no job is open")
    else:
        streams.say(f"the watcher is Slurm job {job.scheduler_id} already ({job.state})")
    streams.hint("orch watch --stop", "end it; running attempts go on")


def _stop_of(error: Exception) -> Stop:
    from orchestrator.schedulers.slurm_watcher import WatcherJobProblem

    assert isinstance(error, WatcherJobProblem)
    code = Exit.UNREACHABLE if error.unreachable else Exit.FAILED
    return Stop(code, str(error), fix=error.fix)
