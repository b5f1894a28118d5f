"""Saving, as the training sees it: at once, or behind the next steps (`worker.background`).

A save that fails (a full disk) is reported and training goes on, unless the job says otherwise
(`save.on_failure`); the previous checkpoint stays. What all ranks must see alike (was it
committed, has the state changed since) changes only where they settle it together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from checkpoints.errors import Fenced
from checkpoints.manifest import ManifestHeader, Parent, Position
from jobs.contract.records import Notice
from worker.committer import BEST, PendingSave, Verdict
from worker.deadline import grace_warning, too_late
from worker.failures import PeerLost, SaveFailed
from worker.losses import StepLosses
from worker.patience import Patience, running
from worker.session import Session
from worker.snapshot import copy_state

STATES = ("model", "optimizer", "rng", "position", "best")
LEAVING_SECONDS = 1.0  # before a deadline: farewell, exit records
log = logging.getLogger("orch")

__all__ = ["BEST", "prune", "save", "save_at_stop", "save_periodically", "settle"]


def save(session: Session, losses: StepLosses, *, kind: str) -> bool:
    """Commit a checkpoint of the present step; False when that failed. All ranks together.

    Raises `Fenced` on every rank when a higher epoch holds the job, `SaveFailed` when the job is
    not to go on after a failure.
    """
    phase = session.progress.record.phase
    session.progress.phase("saving")
    losses.reduce()
    pending = _take(session, kind)
    verdict = session.committer.attempt(pending)
    if verdict.get("full"):  # what the rules allow to go has gone: once more
        verdict = session.committer.attempt(pending)
    session.progress.phase(phase)
    if "problem" in verdict:
        line = f"step {pending.step} not saved: {verdict['problem']}"
        log.warning("%s", line)
        session.progress.report(line)
    if "name" in verdict:
        _announce(session, pending, verdict)
    saved = _account(session, pending, verdict)
    if saved and kind != "notice" and session.channel.rank == 0:
        prune(session, keep=session.attempt.spec.run.save.keep)
    return saved


def save_periodically(session: Session, losses: StepLosses) -> None:
    """Take the checkpoint that is due; by default it is written behind the next steps.

    The one before must be down first. Where a stop is agreed meanwhile, that decides what is
    saved, and this one is left out.
    """
    if not session.attempt.spec.run.save.background:
        save(session, losses, kind="periodic")
        return
    phase = session.progress.record.phase
    session.progress.phase("saving")
    if settle(session, yields=True):
        losses.reduce()
        pending = _take(session, "periodic")
        session.standing.changed = False  # should it fail, `_account` says so
        session.progress.update(saving_step=pending.step)
        session.background.start(pending)
    session.progress.phase(phase)


def look(session: Session) -> None:
    """Let people know what became of the save in flight, once this rank knows it.

    Raises `Fenced` and what went wrong in its thread.
    """
    for line in session.background.heard():
        log.warning("%s", line)
        session.progress.report(line)
    current = session.background.current
    if current is None or not current.decided or current.told:
        return
    current.told = True
    session.progress.update(saving_step=None)
    if current.error is not None:
        raise current.error
    verdict = current.verdict or {}
    if "fenced" in verdict:
        raise Fenced(verdict["fenced"])
    if "name" in verdict:
        _announce(session, current.pending, verdict)


def settle(session: Session, *, yields: bool = False) -> bool:
    """Wait for the save in flight; all ranks agree on how it went. All together.

    False: it is still in flight, because the deadline of a notice is near or, with `yields`,
    because a stop is agreed. Raises like `save`.
    """
    current = session.background.current
    if current is None:
        return True
    phase = session.progress.record.phase
    session.progress.phase("saving")
    ticket = session.channel.ticket("settle")
    known = current.wait(_patience(session, yields=yields))
    if current.error is not None:
        raise current.error
    mine = current.verdict if known and current.verdict is not None else {"in_flight": True}
    verdict: Verdict = session.channel.tell(ticket, mine)
    session.progress.phase(phase)
    if "in_flight" in verdict:
        return False
    patience = Patience(session.channel.timeout_seconds)
    # The others' word reaches this rank's thread in a moment, too.
    if not current.wait(lambda: patience.over):
        raise PeerLost(f"step {current.pending.step} is committed, this rank still saves it")
    look(session)
    session.background.settled()
    _account(session, current.pending, verdict)
    return True


def save_at_stop(session: Session, losses: StepLosses, notice: Notice) -> None:
    """Save because all ranks stop here, unless the deadline would come first. All together.

    A save in flight goes first: it is nearer to its end than a new one.
    """
    standing, channel = session.standing, session.channel
    if settle(session):
        if not standing.changed:
            return
        # By rank 0's clock: half of the ranks in a save that the others leave out would hang.
        seconds = standing.save_seconds
        late = too_late(deadline=notice.deadline, now=time.time(), save_seconds=seconds)
        verdict: str = channel.tell(channel.ticket("deadline"), late or "")
        if not verdict:
            save(session, losses, kind="notice")
            return
    else:
        pending = session.background.current
        at = pending.pending.step if pending else standing.step
        verdict = f"the deadline is here and the save of step {at} is not over"
    back = standing.committed_step or 0
    line = f"step {standing.step} not saved: {verdict}; the next attempt goes on from step {back}"
    log.warning("%s", line)
    session.progress.report(line)


def leave(session: Session) -> None:
    """After a failure: let the save in flight come to its end, bounded; it may be the newest."""
    current = session.background.current
    if current is None or current.decided:
        return
    session.background.leave()
    patience = Patience(session.channel.timeout_seconds)
    near = _patience(session, yields=False, asks=False)
    if current.wait(lambda: patience.over or near()):
        look(session)


def prune(session: Session, *, keep: int) -> None:
    """Delete superseded checkpoints. A failure is reported: it costs space, not safety."""
    session.committer.prune(keep=keep)


def _take(session: Session, kind: str) -> PendingSave:
    """Copy all that a save puts down."""
    standing, began = session.standing, running.now()
    return PendingSave(
        header=manifest_header(session, kind),
        copies=copy_state(session.engine, session.background.memory),
        best=standing.best_tensors if session.channel.rank == 0 and _keeps_best(session) else None,
        began=began,
    )


def _keeps_best(session: Session) -> bool:
    """Tell whether the best weights need a file: those of the saved step itself do not."""
    standing = session.standing
    return standing.best_tensors is not None and (
        standing.best is not None and standing.best.step != standing.step
    )


def _announce(session: Session, pending: PendingSave, verdict: Verdict) -> None:
    """Let people know of a committed checkpoint."""
    seconds = float(verdict["seconds"])
    log.info("saved %s (%s) in %.1f s", verdict["name"], pending.header.kind, seconds)
    session.progress.update(save_seconds=round(seconds, 3))
    session.progress.committed(pending.step)
    grace = session.preemption.preemption_grace
    warning = grace_warning(save_seconds=seconds, grace_seconds=grace)
    known = any(line.startswith("a save takes") for line in session.progress.reports)
    if warning is not None and not known:  # once
        log.warning("%s", warning)
        session.progress.report(warning)


def _account(session: Session, pending: PendingSave, verdict: Verdict) -> bool:
    """Let the standing know how a save went, the same on all ranks; return whether it is down.

    Raises `Fenced`, `SaveFailed`.
    """
    standing = session.standing
    if "fenced" in verdict:
        raise Fenced(verdict["fenced"])
    if "problem" in verdict:
        standing.changed = True
        if session.attempt.spec.run.save.on_failure == "stop" and pending.header.kind != "notice":
            raise SaveFailed(
                f"step {pending.step} cannot be saved: {verdict['problem']}; make room or repair"
                " the directory, or set save.on_failure to continue"
            )
        return False
    standing.parent = Parent(name=verdict["name"], digest=verdict["digest"])
    standing.changed = standing.step != pending.step
    standing.committed_here, standing.committed_step = True, pending.step
    standing.save_seconds = float(verdict["seconds"])
    return True


def _patience(session: Session, *, yields: bool, asks: bool = True) -> Callable[[], bool]:
    """Return what tells a rank that it has waited long enough for the save in flight."""

    def gives_up() -> bool:
        if asks:
            session.noticed()
        stop = session.agreement.stop
        if stop is None:
            return False
        deadline = stop.notice.deadline
        return yields or (deadline is not None and time.time() > deadline - LEAVING_SECONDS)

    return gives_up


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
