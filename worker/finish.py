"""The end: the final test, the one curve, the result. Each may be repeated after a crash."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from durable.faults import hit
from durable.files import private_dir, publish_file
from jobs.contract.records import ResultRecord
from jobs.spec import semantic_digest
from worker.evaluation import Evaluation, evaluate
from worker.failures import Stopped
from worker.folding import fold_older
from worker.metrics import encode_row, job_curve, missing_steps
from worker.publication import publish_result
from worker.saving import prune
from worker.scoring import Scored
from worker.session import Session
from worker.snapshot import encode_tensors, evaluation_weights, full_trained, weights_digest

KEPT_AFTER_RESULT = 2
RANDOM_METHODS = ("subset", "apet")  # what they train is a part of the result
log = logging.getLogger("orch")


def finish(session: Session) -> None:
    """Test the selected weights and publish the result. All ranks together.

    Raises `Stopped` when asked to stop meanwhile: the final checkpoint is committed already.
    """
    session.progress.phase("testing")
    final_digest = weights_digest(session.engine)
    tests = [split for split in session.data.evaluations if split != "dev"]
    tested: dict[str, Evaluation] = {}
    with selected_weights(session, final_digest) as tested_digest:
        for split in tests:
            if split != "test":
                session.progress.phase(f"testing_{split}")
            outcome = _test(session, split, tested_digest)
            if outcome is None:
                break
            tested[split] = outcome
        weights = full_trained(session.engine) if _keeps_weights(session) else None
    if len(tested) < len(tests):
        raise Stopped(committed=session.standing.committed_here)
    if session.channel.rank == 0:
        publish(
            session,
            tested,
            weights=weights,
            tested_digest=tested_digest,
            final_digest=final_digest,
        )
        for split in tests:
            session.kept_scores(split, weights=tested_digest).discard()
    # Nobody leaves with 0 before the result is there.
    session.channel.tell(session.channel.ticket("published"), value=True)
    session.progress.phase("finished")


def _test(session: Session, split: str, weights: str) -> Evaluation | None:
    return evaluate(
        session.engine,
        session.data.evaluations[split],
        name=split,
        channel=session.channel,
        kept=session.kept_scores(split, weights=weights),
        batch_sequences=session.eval_batch,
        pad_id=session.data.pad_id,
        noticed=session.noticed,
        beat=session.progress.beat,
        came_to=session.progress.evaluated,
    )


def _keeps_weights(session: Session) -> bool:
    """Tell whether the tested weights are kept beside the result: small, and never purged.

    A fully tuned model is as large as the model: its weights are those of the last checkpoint.
    """
    return session.semantic.method.name != "full"


@contextmanager
def selected_weights(session: Session, final_digest: str) -> Iterator[str]:
    """Put the weights that `train.select` names into the module; yield their digest."""
    standing = session.standing
    if (
        session.semantic.train.select == "last"
        or standing.best_tensors is None
        or standing.best is None
        or standing.best.step == standing.step
    ):
        yield final_digest
        return
    with evaluation_weights(session.engine, standing.best_tensors) as digest:
        yield digest


def publish(
    session: Session,
    tested: Mapping[str, Evaluation],
    *,
    weights: dict[str, Any] | None,
    tested_digest: str,
    final_digest: str,
) -> None:
    """Publish predictions, then curve, weights and result (rank 0). Raises `Fenced`, OSError."""
    job, attempt, epoch = session.attempt.job, session.attempt, session.attempt.epoch
    directory, digests = private_dir(attempt.directory.predictions), {}
    for split, outcome in tested.items():
        predictions = b"".join(encode_row(prediction_row(s)) for s in outcome.scored)
        publish_file(directory / f"{split}.jsonl", predictions)
        digests[split] = _digest(predictions)
    session.curve.flush()
    steps = session.standing.step  # fewer than asked for where it stopped early
    curve = job_curve(job, up_to_epoch=epoch, steps=steps)
    missing = missing_steps(curve, steps=steps)
    if missing:
        session.standing.add_reasons([f"metrics rows of {len(missing)} steps are lost"])
    beside = {job.metrics: b"".join(encode_row(row) for row in curve)}
    if weights is not None:
        beside[job.weights] = encode_tensors(weights)
    record = result_record(
        session,
        tested,
        tested_digest=tested_digest,
        final_digest=final_digest,
        predictions_digest=digests["test"],
    )
    hit("finish.before_publication")
    standing = publish_result(attempt, record, beside=beside)
    hit("finish.after_result")
    prune(session, keep=KEPT_AFTER_RESULT)
    fold_older(job, epoch, ranks=session.channel.world_size, finished=True)
    if standing.epoch != epoch:
        log.warning("epoch %d has published a result meanwhile; it stands", standing.epoch)
    log.info("result: %s", json.dumps(standing.metrics, sort_keys=True))


def result_record(
    session: Session,
    tested: Mapping[str, Evaluation],
    *,
    tested_digest: str,
    final_digest: str,
    predictions_digest: str,
) -> ResultRecord:
    """Return the result of a finished run."""
    standing, spec = session.standing, session.attempt.spec
    sizes = _trained_sizes(session)
    best = standing.best
    dev = best.metrics if best and session.semantic.train.select == "best" else standing.dev
    reasons = standing.inexact_reasons
    return ResultRecord(
        job=spec.id,
        spec_digest=semantic_digest(spec.semantic),
        epoch=session.attempt.epoch,
        exact=not reasons,
        inexact_reasons=reasons,
        waivers=standing.waived,
        metrics={
            "dev": dev or {},
            **{split: dict(outcome.metrics) for split, outcome in tested.items()},
        },
        weights_digest=tested_digest,
        final_weights_digest=final_digest,
        checkpoint_digest=standing.parent.digest if standing.parent else None,
        data_digest=session.data.digest,
        predictions_digest=predictions_digest,
        steps=standing.step,
        resumed_steps=standing.resumed_steps,
        trainable_parameters=sum(sizes.values()),
        picked=sizes if session.semantic.method.name in RANDOM_METHODS else {},
        environment=session.environment.model_dump(mode="json")
        | {"ranks": session.channel.world_size, "reports": list(session.progress.reports)},
    )


def prediction_row(scored: Scored) -> dict[str, object]:
    """Return one line of predictions/test.jsonl."""
    return {
        "index": scored.index,
        "prediction": scored.prediction,
        "correct": scored.correct,
        "nll": scored.nll,
    }


def _trained_sizes(session: Session) -> dict[str, int]:
    named = session.engine.trained_parameters()
    return {name: int(getattr(p, "ds_numel", None) or p.numel()) for name, p in named}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
