"""Saving: every rank stages its own files, rank 0 commits, all learn how it went.

A save that fails (a full disk) is reported and training goes on; the previous checkpoint stays.
"""

from __future__ import annotations

import errno
import logging
import time
from typing import Any

from checkpoints.errors import BrokenCheckpoint, Fenced, StagingFailed
from checkpoints.manifest import FileEntry, ManifestHeader, Parent, Position
from checkpoints.retention import MIN_KEEP
from durable.faults import hit
from jobs.contract.records import Notice
from worker.claim import check_fence
from worker.deadline import grace_warning, too_late
from worker.losses import StepLosses
from worker.session import Session
from worker.snapshot import capture, encode, encode_tensors

BEST = "best.safetensors"
STATES = ("model", "optimizer", "rng", "position", "best")
log = logging.getLogger("orch")


def save(session: Session, losses: StepLosses, *, kind: str) -> bool:
    """Commit a checkpoint of the present step; False when that failed. All ranks together.

    Raises `Fenced` on every rank when a higher epoch holds the job.
    """
    standing, channel = session.standing, session.channel
    phase = session.progress.record.phase
    session.progress.phase("saving")
    losses.reduce()
    began = time.monotonic()
    verdict = _try(session, kind)
    if verdict.get("full"):  # what the rules allow to go has gone: once more
        verdict = _try(session, kind)
    session.progress.phase(phase)
    if "fenced" in verdict:
        raise Fenced(verdict["fenced"])
    if "problem" in verdict:
        log.warning("step %d not saved: %s", standing.step, verdict["problem"])
        session.progress.report(f"step {standing.step} not saved: {verdict['problem']}")
        return False
    standing.parent = Parent(name=verdict["name"], digest=verdict["digest"])
    standing.changed, standing.committed_here = False, True
    standing.committed_step = standing.step
    standing.save_seconds = time.monotonic() - began
    log.info("saved %s (%s) in %.1f s", verdict["name"], kind, standing.save_seconds)
    session.progress.committed(standing.step)
    _warn_of_grace(session)
    if kind != "notice" and channel.rank == 0:  # under a notice the seconds are for leaving
        prune(session, keep=session.attempt.spec.run.save.keep)
    return True


def save_at_stop(session: Session, losses: StepLosses, notice: Notice) -> None:
    """Save because all ranks stop here, unless the deadline would come first. All together."""
    standing, channel = session.standing, session.channel
    # By rank 0's clock: half of the ranks in a save that the others leave out would hang.
    late = too_late(deadline=notice.deadline, now=time.time(), save_seconds=standing.save_seconds)
    verdict: str = channel.tell(channel.ticket("deadline"), late or "")
    if not verdict:
        save(session, losses, kind="notice")
        return
    back = standing.committed_step or 0
    line = f"step {standing.step} not saved: {verdict}; the next attempt goes on from step {back}"
    log.warning("%s", line)
    session.progress.report(line)


def _warn_of_grace(session: Session) -> None:
    """Say once that a preemption will cost steps."""
    warning = grace_warning(
        save_seconds=session.standing.save_seconds or 0.0,
        grace_seconds=session.attempt.spec.run.grace_seconds,
    )
    known = any(line.startswith("a save takes") for line in session.progress.reports)
    if warning is not None and not known:
        log.warning("%s", warning)
        session.progress.report(warning)


def _try(session: Session, kind: str) -> dict[str, Any]:
    """Stage and commit once; return rank 0's verdict on every rank."""
    channel = session.channel
    ticket = channel.ticket("save")
    # Tickets count alike on all ranks, also where one of them failed before it could stage.
    statuses = channel.collect(ticket, _stage(session, try_number=int(ticket.partition("/")[0])))
    verdict: dict[str, Any] = channel.tell(
        ticket, _commit(session, statuses, kind) if statuses else None
    )
    return verdict


def prune(session: Session, *, keep: int) -> None:
    """Delete superseded checkpoints. A failure is reported: it costs space, not safety."""
    try:
        session.store.prune(keep, every_steps=session.attempt.spec.run.save.keep_every_steps)
    except OSError as error:
        session.progress.report(f"old checkpoints not removed: {error}")


def _stage(session: Session, *, try_number: int) -> dict[str, Any]:
    """Write this rank's files; return their entries, or the problem."""
    standing, rank = session.standing, session.channel.rank
    try:
        if rank == 0:
            session.curve.flush()  # the rows that this checkpoint covers come first
        files = encode(capture(session.engine))
        if rank == 0 and _keeps_best(session):
            assert standing.best_tensors is not None
            files[BEST] = encode_tensors(standing.best_tensors)
        hit("save.before_stage")
        writer = session.store.stage(
            step=standing.step, epoch=session.attempt.epoch, rank=rank, try_number=try_number
        )
        for name in sorted(files):
            writer.write(name, files.pop(name))
        entries = writer.finish()
        hit("save.after_stage")
    except (OSError, StagingFailed) as error:
        return {"problem": f"rank {rank}: {error}", "full": _is_full(error)}
    return {"entries": [entry.model_dump(mode="json") for entry in entries]}


def _keeps_best(session: Session) -> bool:
    """Tell whether the best weights need a file: those of the saved step itself do not."""
    standing = session.standing
    return standing.best_tensors is not None and (
        standing.best is not None and standing.best.step != standing.step
    )


def _commit(session: Session, statuses: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Commit (rank 0); return what to tell the ranks."""
    standing, epoch = session.standing, session.attempt.epoch
    problems = [status["problem"] for status in statuses if "problem" in status]
    try:
        if problems:
            check_fence(session.attempt.job, epoch)  # or a newer epoch swept what was staged
            session.store.discard(step=standing.step, epoch=epoch)
            full = any(status.get("full") for status in statuses)
            return {"problem": "; ".join(problems), "full": full and _made_room(session)}
        entries = [FileEntry.model_validate(e) for status in statuses for e in status["entries"]]
        committed = session.store.commit(
            manifest_header(session, kind),
            entries,
            fence=lambda: check_fence(session.attempt.job, epoch),
        )
    except Fenced as error:
        return {"fenced": str(error)}
    except (OSError, BrokenCheckpoint) as error:
        _discard(session)
        return {"problem": str(error), "full": _is_full(error) and _made_room(session)}
    if session.attempt.spec.run.save.read_back:
        try:
            session.store.verify(committed.name, cold=True)
        except BrokenCheckpoint as error:
            session.store.quarantine(committed.name, error)
            return {"problem": f"read back differently from what was written: {error}"}
    return {"name": committed.name, "digest": committed.digest}


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _made_room(session: Session) -> bool:
    """Delete all that the rules allow; return whether anything went (rank 0)."""
    try:
        every_steps = session.attempt.spec.run.save.keep_every_steps
        return bool(session.store.prune(MIN_KEEP, every_steps=every_steps))
    except OSError as error:
        log.warning("no room could be made: %s", error)
        return False


def _discard(session: Session) -> None:
    try:
        session.store.discard(step=session.standing.step, epoch=session.attempt.epoch)
    except OSError as error:
        session.progress.report(f"staging left behind: {error}")


def manifest_header(session: Session, kind: str) -> ManifestHeader:
    """Return what the manifest says besides the files."""
    standing, semantic = session.standing, session.semantic
    return ManifestHeader(
        epoch=session.attempt.epoch,
        step=standing.step,
        kind=kind,
        parent=standing.parent,
        world_size=session.channel.world_size,
        engine=semantic.engine.model_dump(mode="json"),
        position=Position(
            samples=standing.step * semantic.train.global_batch,
            order_digest=session.data.order.digest,
        ),
        states=STATES,
        base=session.base,
        environment=session.environment,
        waivers=standing.waived,
        extra=standing.record(),
    )
