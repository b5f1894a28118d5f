"""One rank of a command job: start it, hear it, warn it, and say how it ended.

The runner claims, beats, listens for notices and writes the exit record as for a training; only
the work itself is somebody else's program. Documented for its authors in docs/command-jobs.md.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from durable.faults import hit
from jobs.contract.records import Notice
from worker.attempt import Attempt, valid_result
from worker.command.desk import Desk
from worker.command.endings import Asked, Left, failure, meaning
from worker.command.peers import Peers, Start
from worker.command.process import CommandProcess
from worker.command.results import BadMetrics, publish_result, read_metrics, split_metrics
from worker.command.saves import Kept, NotKept, Saves, save_directory
from worker.command.surroundings import (
    Places,
    command_of,
    environment,
    find_inputs,
    make_places,
    words,
    write_params,
)
from worker.failures import (
    CommandFailed,
    Incomplete,
    KilledOutright,
    Misconfigured,
    PeerLost,
    Stopped,
)
from worker.preemption import Preemption
from worker.progress import Progress
from worker.scratch import make_checkpoint_directory

POLL_SECONDS = 0.05
RESERVE_SECONDS = 2.0  # of the grace time, for the runner's own last words
PEER_LOOK_SECONDS = 1.0
PEER_SECONDS = 10.0  # after another rank failed
GAP_SECONDS = 2.0  # between two looks: we were stopped, deadlines start anew
log = logging.getLogger("orch")


def run_command(attempt: Attempt, *, progress: Progress, preemption: Preemption) -> None:
    """Run the command to its result. Raises what `worker.failures.classify` knows."""
    ranks = command_of(attempt).engine.ranks
    if attempt.layout.world_size != ranks:
        raise Misconfigured(
            f"engine.ranks is {ranks}, but {attempt.layout.world_size} ranks were started"
        )
    preemption.install()
    Runner(attempt, progress=progress, preemption=preemption).run()


class Runner:
    """One rank's runner."""

    def __init__(self, attempt: Attempt, *, progress: Progress, preemption: Preemption) -> None:
        self._attempt, self._progress, self._preemption = attempt, progress, preemption
        self._first = attempt.layout.rank == 0
        if self._first:
            purged = make_checkpoint_directory(attempt.job, attempt.assignment.site.scratch_root)
            if purged is not None:
                progress.report(purged)
        self._places = make_places(attempt, save_directory(attempt))
        self._saves = Saves(attempt)
        self._peers = Peers(attempt, self._places, self._pause)
        self._resumed: Kept | None = None
        self._asked = Asked()
        self._kill_at: float | None = None  # monotonic
        self._looked = time.monotonic()
        self._look_at_peers_from = 0.0
        self._published = False
        self._desk = Desk(
            self._places.api,
            progress=progress,
            rows=attempt.directory.metrics,
            commit=self._commit,
            result=self._publish_asked,
        )

    def run(self) -> None:
        """Run the command and end as it did."""
        process, begin = self._start()
        try:
            code = self._follow(process)
        finally:
            process.kill()  # whatever raised: nothing may go on behind the runner's back
        if self._first:
            self._desk.serve()
            self._desk.flush()
        self._peers.tell_left(code)
        log.info("the command %s", f"got signal {-code}" if code < 0 else f"left with {code}")
        try:
            self._end(code, begin)
        finally:
            if self._first:
                self._saves.tidy()
            _tidy(self._places)

    def _start(self) -> tuple[CommandProcess, int]:
        inputs = find_inputs(self._attempt)
        if self._first:
            write_params(self._attempt, self._places, inputs)
            self._resumed = self._saves.resume(self._progress.report)
            if self._resumed is not None:
                step, name = self._resumed.step, self._resumed.name
                self._progress.update(step=step, committed_step=step, resumed_from=name)
            kept = self._resumed
            start = Start(resume=kept.path, step=kept.step) if kept else Start()
            self._peers.tell_start(start)
        else:
            start = self._peers.hear_start()
        self._raise_if_noticed()
        grace = self._attempt.spec.run.grace_seconds
        env = environment(
            self._attempt,
            self._places,
            resume=start.resume,
            resume_step=start.step,
            grace_seconds=grace - _reserve(grace),
        )
        argv = words(self._attempt, env, inputs)
        log.info("starting %s", json.dumps(argv))
        begin = self._log.stat().st_size
        hit("command.before_start")
        process = CommandProcess(argv, env=env, cwd=self._places.work)
        self._progress.phase("running")
        return process, begin

    @property
    def _log(self) -> Path:
        return self._attempt.directory.log(self._attempt.layout.rank)

    # --- while it runs

    def _follow(self, process: CommandProcess) -> int:
        while (code := process.poll()) is None:
            self._look_at_clock()
            notice = self._preemption.notice()
            if notice is not None and not self._asked.notice:
                self._warn(process, notice)
            if self._first:
                self._desk.serve()
            self._look_at_peers(process)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._asked = Asked(notice=self._asked.notice, killed=True)
                process.kill()
            self._progress.beat()
            time.sleep(POLL_SECONDS)
        return code

    def _look_at_peers(self, process: CommandProcess) -> None:
        """End this rank's process when another's has failed: it would wait for it in vain."""
        if self._kill_at is not None or self._looked < self._look_at_peers_from:
            return
        self._look_at_peers_from = self._looked + PEER_LOOK_SECONDS
        failed = self._peers.failed()
        if failed is not None:
            log.warning("%s: ending this rank's process", failed)
            process.terminate()
            self._kill_at = time.monotonic() + PEER_SECONDS

    def _look_at_clock(self) -> None:
        now = time.monotonic()
        gap, self._looked = now - self._looked, now
        if self._kill_at is not None and gap > GAP_SECONDS:
            self._kill_at += gap  # stopped time counts for nobody

    def _warn(self, process: CommandProcess, notice: Notice) -> None:
        """Pass the notice on; the command has the grace time less our own reserve."""
        self._asked = Asked(notice=True)
        grace = self._attempt.spec.run.grace_seconds
        left = grace if notice.deadline is None else notice.deadline - time.time()
        left = max(0.0, min(left, grace) - _reserve(grace))
        self._kill_at = time.monotonic() + left
        if self._first:
            self._desk.notice(notice)
        self._progress.notice(notice)
        log.info("SIGTERM to the command; it has %.0f s", left)
        process.terminate()

    def _pause(self) -> None:
        self._progress.beat()
        self._raise_if_noticed()
        time.sleep(POLL_SECONDS)

    def _raise_if_noticed(self) -> None:
        if self._preemption.notice() is not None:
            raise Stopped(committed=self._saves.committed_here)

    # --- what it asks for

    def _commit(self, step: int) -> None:
        self._progress.phase("saving")
        try:
            kept = self._saves.commit(step, reasons=self._reasons(None))
        finally:
            self._progress.phase("running")
        self._progress.committed(step)
        log.info("saved %s", kept.name)
        if not self._asked.notice:  # under a notice the seconds are for leaving
            try:
                self._saves.prune(self._attempt.spec.run.save.keep)
            except OSError as error:
                self._progress.report(f"old checkpoints not removed: {error}")

    def _publish_asked(self, question: Mapping[str, Any]) -> None:
        metrics = split_metrics(question["metrics"])
        steps, exact = question.get("steps"), question.get("exact")
        self._publish(
            metrics,
            steps=steps if isinstance(steps, int) else None,
            exact=exact if isinstance(exact, bool) else None,
        )

    def _publish(
        self,
        metrics: Mapping[str, Mapping[str, float]],
        *,
        steps: int | None = None,
        exact: bool | None = None,
    ) -> None:
        newest = self._saves.newest
        publish_result(
            self._attempt,
            metrics,
            steps=steps if steps is not None else (self._desk.step or self._progress.record.step),
            reasons=self._reasons(exact),
            resumed_step=self._resumed.step if self._resumed else None,
            checkpoint_digest=newest.digest if newest else None,
        )
        self._published = True
        log.info("result: %s", json.dumps(metrics, sort_keys=True))

    def _reasons(self, exact: bool | None) -> tuple[str, ...]:
        """Return why a result, or what comes of a state, cannot be called exact.

        An attempt from the beginning is an uninterrupted run. Whether resuming gives the same,
        only the program can claim.
        """
        if exact is False:
            return ("the command says so",)
        kept = self._resumed
        if kept is None:
            return ()
        now = self._attempt.claim.packages
        reasons = list(kept.reasons)
        if None not in (kept.packages, now) and kept.packages != now:
            reasons.append(f"other installed packages than before at step {kept.step}")
        if exact is None:
            unclaimed = "resumed, and the command does not claim that resuming is exact"
            reasons = [*(r for r in reasons if r != unclaimed), unclaimed]
        else:
            reasons = [r for r in reasons if not r.startswith("resumed, and")]
        return tuple(dict.fromkeys(reasons))

    # --- how it ended

    def _end(self, code: int, begin: int) -> None:
        """Return when the result is there; raise what the end means otherwise."""
        if self._desk.fenced is not None:
            raise self._desk.fenced
        if self._published or valid_result(self._attempt.job, self._attempt.spec) is not None:
            self._finish()
            return
        failed = self._peers.failed()
        left = meaning(code, self._asked)
        if failed is not None and left is not Left.FAILED:
            raise PeerLost(failed)
        match left:
            case Left.AGAIN:
                self._keep_rest(code)
                raise Stopped(committed=self._saves.committed_here)
            case Left.CONFIGURATION:
                raise Misconfigured("the command left with 78: no retry can help; see its log")
            case Left.KILLED:
                raise KilledOutright("the command got SIGKILL, and not from orch")
            case Left.FAILED:
                raise CommandFailed(failure(code, self._log, begin=begin))
            case Left.DONE:
                self._done()

    def _keep_rest(self, code: int) -> None:
        """Keep what a command that left with 75 has saved and not committed itself."""
        if not self._first or code != 75 or not self._saves.holds_something():
            return
        newest = self._saves.newest
        step = max(self._progress.record.step, newest.step + 1 if newest else 1)
        try:
            self._commit(step)
        except (NotKept, OSError) as error:
            self._progress.report(f"what was saved is not kept: {error}")
            log.warning("what was saved is not kept: %s", error)

    def _done(self) -> None:
        if not self._first:
            self._peers.wait_first()
            return
        self._peers.wait_done()
        declared = command_of(self._attempt).command.result
        if declared is not None:
            try:
                metrics = read_metrics(self._places.work / declared)
            except FileNotFoundError:
                raise Incomplete(
                    f"it left with 0, but its result {declared} is not in the working directory"
                ) from None
            except (BadMetrics, OSError) as error:
                raise Incomplete(f"it left with 0, but its result is none: {error}") from error
        elif self._desk.opened:
            raise Incomplete(
                "it left with 0 and used orch_job, but never called result(): call it at the end"
            )
        else:
            metrics = {}
        self._publish(metrics)
        self._finish()

    def _finish(self) -> None:
        # A published result makes every step of it durable: none has to be run again.
        self._progress.committed(self._progress.record.step)
        self._progress.phase("finished")


def _reserve(grace: float) -> float:
    return min(RESERVE_SECONDS, grace / 4)


def _tidy(places: Places) -> None:
    """Remove the links to the snapshot, and what only this attempt's processes needed."""
    for entry in [*places.work.iterdir()]:
        if entry.is_symlink():
            entry.unlink(missing_ok=True)
    for name in ("said.json", "notice.json", "opened"):
        (places.api / name).unlink(missing_ok=True)
