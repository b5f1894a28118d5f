"""The heavy part of a rank: build, resume, train, test. Importing this imports torch."""

from __future__ import annotations

from contextlib import suppress

from checkpoints.errors import Fenced
from jobs.history import read_history
from worker.attempt import Attempt
from worker.build import build_session
from worker.failures import Stopped
from worker.finish import finish
from worker.loop import train
from worker.patience import running
from worker.preemption import Preemption
from worker.progress import Progress
from worker.resume import resume
from worker.saving import leave

FAREWELL_SECONDS = 5.0


def furthest_step(attempt: Attempt) -> int:
    """Return the last step that any earlier attempt has said it did."""
    earlier = read_history(attempt.job).attempts
    steps = [one.last_step or 0 for one in earlier if one.epoch < attempt.epoch]
    return max(steps, default=0)


def run_training(attempt: Attempt, *, progress: Progress, preemption: Preemption) -> None:
    """Run the job to its result. Raises `Stopped`, or what else ended the attempt."""
    running.watched()
    session = build_session(attempt, progress=progress, preemption=preemption)
    resume(session)
    progress.stopwatch.replay_until(furthest_step(attempt))
    # Until here nothing could be saved and leaving at once was right.
    preemption.install()
    try:
        train(session)
        finish(session)
    except Stopped:
        stop = session.agreement.seen()
        if stop is not None and progress.record.notice is None:
            progress.notice(stop.notice)
        session.channel.farewell(FAREWELL_SECONDS)
        raise
    except Fenced:
        raise
    except Exception:
        with suppress(Exception):  # the first failure is the one to be told
            leave(session)
        raise
    session.channel.farewell(FAREWELL_SECONDS)
