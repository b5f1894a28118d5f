"""The training loop. It knows steps, not engines, files or signals.

Resume equals no interruption: everything that the next step depends on is in the engine (which
the snapshot restores), in the standing, or a pure function of the step.
"""

from __future__ import annotations

import logging

import torch

from durable.faults import hit
from worker.evaluation import evaluate
from worker.failures import Stopped
from worker.losses import StepLosses
from worker.machine import seed_micro_batch
from worker.saving import look, save, save_at_stop, save_periodically, settle
from worker.schedule import lr_at
from worker.session import Session
from worker.snapshot import full_trained, weights_digest
from worker.standing import BestSoFar

log = logging.getLogger("orch")


def train(session: Session) -> None:
    """Train up to the last step, evaluated and saved. Raises `Stopped` when asked to stop."""
    standing, engine = session.standing, session.engine
    losses = StepLosses(session)
    session.progress.phase("training")
    evaluate_if_pending(session, losses)
    while standing.step < session.steps and not stops_early(session):
        stop_if_agreed(session, losses)
        step = standing.step + 1
        engine.set_lr(lr_at(session.semantic.train, step - 1))
        losses.add(step, micro_losses(session, step))
        standing.step, standing.changed = step, True
        standing.evaluation_pending = evaluates_at(session, step)
        session.progress.at(step)
        hit("loop.after_step")
        evaluate_if_pending(session, losses)
        look(session)
        if step % session.attempt.spec.run.save.every_steps == 0 and step < session.steps:
            save_periodically(session, losses)
    save_finally(session, losses)


def stops_early(session: Session) -> bool:
    """Tell whether dev has not become better for as many evaluations as the job waits.

    A function of the best step and the step: a resumed run decides as the interrupted one.
    """
    train, standing = session.semantic.train, session.standing
    if train.early_stopping is None or standing.best is None or standing.evaluation_pending:
        return False
    assert train.evaluate_every_steps is not None
    waited = standing.step - standing.best.step
    return waited >= train.early_stopping * train.evaluate_every_steps


def save_finally(session: Session, losses: StepLosses) -> None:
    """After the last step: have its checkpoint committed before anything is tested."""
    if not settle(session):  # asked to stop, and the time is over
        raise Stopped(committed=session.standing.committed_here)
    if session.standing.changed:
        save(session, losses, kind="final")


def micro_losses(session: Session, step: int) -> list[torch.Tensor]:
    """Train on this rank's micro-batches of a step; return their losses."""
    channel, order, found = session.channel, session.data.order, []
    for micro, batch in enumerate(session.batches(step)):
        number = order.micro_batch_number(micro, rank=channel.rank, world_size=channel.world_size)
        seed_micro_batch(session.semantic.seed, step, number)
        found.append(session.engine.micro_step(batch))
    return found


def evaluates_at(session: Session, step: int) -> bool:
    """Tell whether the dev split is evaluated after a step: every n, and at the end."""
    every = session.semantic.train.evaluate_every_steps
    return step == session.steps or (every is not None and step % every == 0)


def stop_if_agreed(session: Session, losses: StepLosses) -> None:
    """At a step boundary: save and raise `Stopped` if all ranks agreed to stop here."""
    stop = session.agreement.poll(session.standing.step, session.notice())
    if stop is not None:
        log.info("stopping at step %d: %s", session.standing.step, stop.notice.cause)
        save_at_stop(session, losses, stop.notice)
        raise Stopped(committed=session.standing.committed_here)


def evaluate_if_pending(session: Session, losses: StepLosses) -> None:
    """Evaluate the dev split if that is due at this step; asked to stop meanwhile, save and go.

    The evaluation then stays pending: the resumed run does it, with the same outcome.
    """
    standing = session.standing
    if not standing.evaluation_pending:
        return
    session.progress.phase("evaluating")
    losses.reduce()
    outcome = evaluate(
        session.engine,
        session.data.evaluations["dev"],
        name="dev",
        channel=session.channel,
        kept=session.kept_scores("dev", weights=weights_digest(session.engine)),
        batch_sequences=session.eval_batch,
        pad_id=session.data.pad_id,
        noticed=session.noticed,
        beat=session.progress.beat,
        came_to=session.progress.evaluated,
    )
    if outcome is None:
        log.info("asked to stop while evaluating at step %d", standing.step)
        stop = session.agreement.seen()
        if stop is not None:
            save_at_stop(session, losses, stop.notice)
        raise Stopped(committed=standing.committed_here)
    note_evaluation(session, dict(outcome.metrics))
    session.progress.phase("training")


def note_evaluation(session: Session, metrics: dict[str, float]) -> None:
    """Record a dev evaluation of the present step, and keep its weights if it is the best."""
    standing, train = session.standing, session.semantic.train
    session.curve.add({"step": standing.step, "dev": metrics})
    standing.dev, standing.evaluation_pending, standing.changed = metrics, False, True
    if standing.best is None or standing.best.beaten_by(metrics, metric=train.best_metric):
        standing.best = BestSoFar(step=standing.step, metrics=metrics)
        if train.select == "best":
            standing.best_tensors = full_trained(session.engine)
