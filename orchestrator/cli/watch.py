"""`orch watch` and `orch tick`: what keeps a matrix moving."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import BackendOfJobs, Json, SiteFile, Slots
from orchestrator.cli.session import has_state, open_acting, say_empty, state_home

if TYPE_CHECKING:
    from orchestrator.cli.backend import Backend
    from orchestrator.rows import TickReport

_STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class TickSpeaker:
    """Says what ticks did, and each lasting condition only when it changes."""

    def __init__(self) -> None:
        self._unreachable: str | None = None
        self._warnings: tuple[str, ...] = ()

    def __call__(self, report: TickReport) -> None:
        """Print the happenings of one tick on stderr."""
        from orchestrator.views.text import clean_line

        stamp = time.strftime("%H:%M:%S")
        for happening in report.happenings:
            streams.say(f"{stamp} {clean_line(happening)}")
        for warning in report.warnings:
            if warning not in self._warnings:
                streams.say(f"{stamp} warning: {clean_line(warning)}", "yellow")
        self._warnings = report.warnings
        if report.unreachable != self._unreachable:
            state = (
                f"the scheduler cannot be asked: {clean_line(report.unreachable)}; trying again"
                if report.unreachable
                else "the scheduler answers again"
            )
            streams.say(f"{stamp} {state}", "yellow")
        self._unreachable = report.unreachable


@contextmanager
def stopping_signals(stop: threading.Event) -> Iterator[list[int]]:
    """Let TERM, HUP and INT set `stop`; yields the list of signals that came."""
    came: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if number in came:  # asked twice: a tick may be killed at any point, so obey
            raise KeyboardInterrupt
        came.append(number)
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in _STOPPING}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(
    *,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Leave when no job is open any more.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Watch in the background, also after logout.")
    ] = False,
    as_job: Annotated[
        bool, typer.Option("--as-job", help="Watch as a tiny Slurm job that brings itself back.")
    ] = False,
    end: Annotated[
        bool, typer.Option("--stop", help="Ask the watcher to leave, on whichever host it is.")
    ] = False,
    backend: BackendOfJobs = None,
    site: SiteFile = None,
    slots: Slots = None,
) -> None:
    """Keep every matrix moving, in the foreground, in the background or as a Slurm job.

    One holder at a time: a second one leaves with 5. Killing it harms nothing; running attempts
    go on, and the next watcher picks up where this one was.

    Examples:
      orch watch
      orch watch --until-idle
      orch watch --detach
      orch watch --as-job
      orch watch --stop
    """
    if detach + as_job + end > 1:
        raise Stop(Exit.USAGE, "--detach, --as-job and --stop exclude each other", fix="give one")
    home = state_home(site)
    if not has_state(home) and (until_idle or detach or as_job or end):
        say_empty(home)
        return
    if detach or as_job or end:
        _elsewhere(
            home,
            detach=detach,
            as_job=as_job,
            until_idle=until_idle,
            backend=backend,
            site=site,
            slots=slots,
        )
        return
    service = open_acting(home, backend=backend, site=site, slots=slots)
    stop = threading.Event()
    with stopping_signals(stop) as came:
        service.watch(until_idle=until_idle, on_tick=TickSpeaker(), stop=stop)
    if signal.SIGINT in came:
        streams.say("stopped watching: running attempts go on, nothing was cancelled")
        streams.hint("orch watch", "take it up again")
        raise typer.Exit(int(Exit.INTERRUPTED))


def _elsewhere(
    home: Path,
    *,
    detach: bool,
    as_job: bool,
    until_idle: bool,
    backend: Backend | None,
    site: Path | None,
    slots: int | None,
) -> None:
    """Do what is not watching in this process."""
    from orchestrator.cli import watching

    if detach:
        watching.detach(home, until_idle=until_idle, backend=backend, site=site, slots=slots)
    elif as_job:
        watching.as_job(home, site=site)
    else:
        watching.stop(home, site=site)


def tick(
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Say nothing unless something happened: for cron."),
    ] = False,
    backend: BackendOfJobs = None,
    site: SiteFile = None,
    as_json: Json = False,
) -> None:
    """Look once, decide, act, and leave.

    For cron, or where no process may stay. Beside a watcher it leaves with 5 and changes nothing.

    Examples:
      orch tick
      while orch tick; do sleep 60; done
      */5 * * * * ORCH_HOME=$HOME/run/.orch orch tick --quiet
    """
    from durable.locks import Locked
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import count

    home = state_home(site)
    if not has_state(home):
        if not quiet:
            say_empty(home)
        if as_json:
            streams.show_document(
                outcome_document("tick", happenings=[], open_jobs=0, unreachable=None, warnings=[])
            )
        return
    try:
        report = open_acting(home, backend=backend, site=site).tick()
    except Locked:
        if quiet:  # somebody else looks: that is what cron is there for
            raise typer.Exit(int(Exit.LOCKED)) from None
        raise
    TickSpeaker()(report)
    if report.unreachable is not None:
        raise Stop(
            Exit.UNREACHABLE,
            f"the scheduler cannot be asked: {report.unreachable}",
            fix="nothing was changed on this ignorance; run orch tick again, or see: orch doctor",
        )
    if as_json:
        streams.show_document(
            outcome_document(
                "tick",
                happenings=list(report.happenings),
                open_jobs=report.open_jobs,
                unreachable=None,
                warnings=list(report.warnings),
            )
        )
    elif not quiet:
        streams.say(f"{count(report.open_jobs, 'job')} open")
