"""`orch watch` and `orch tick`: what keeps a matrix moving."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import BackendOfJobs, Json, SiteFile, Slots
from orchestrator.cli.session import has_state, open_acting, say_empty, state_home

if TYPE_CHECKING:
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
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Leave when no job is open any more.")
    ] = False,
    backend: BackendOfJobs = None,
    site: SiteFile = None,
    slots: Slots = None,
) -> None:
    """Keep every matrix moving, in the foreground.

    One holder at a time: a second one leaves with 5. Killing it harms nothing; running attempts
    go on, and the next watcher picks up where this one was.

    Examples:
      orch watch
      orch watch --until-idle
    """
    home = state_home(site)
    if not has_state(home) and until_idle:
        say_empty(home)
        return
    service = open_acting(home, backend=backend, site=site, slots=slots)
    stop = threading.Event()
    with stopping_signals(stop) as came:
        service.watch(until_idle=until_idle, on_tick=TickSpeaker(), stop=stop)
    if signal.SIGINT in came:
        streams.say("stopped watching: running attempts go on, nothing was cancelled")
        streams.hint("orch watch", "take it up again")
        raise typer.Exit(int(Exit.INTERRUPTED))


def tick(backend: BackendOfJobs = None, site: SiteFile = None, as_json: Json = False) -> None:
    """Look once, decide, act, and leave.

    For cron, or where no process may stay.

    Examples:
      orch tick
      while orch tick; do sleep 60; done
    """
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import count

    home = state_home(site)
    if not has_state(home):
        say_empty(home)
        if as_json:
            streams.show_document(
                outcome_document("tick", happenings=[], open_jobs=0, unreachable=None, warnings=[])
            )
        return
    report = open_acting(home, backend=backend, site=site).tick()
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
    else:
        streams.say(f"{count(report.open_jobs, 'job')} open")
