"""Resuming: all ranks from the newest checkpoint that all of them can load.

Rank 0 chooses among the verified ones; every rank reads its own files (checked again on the very
bytes), decodes and checks them against the engine; only when all succeeded is anything changed.
A checkpoint that one rank cannot load is quarantined with the reason and the next is tried.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError

from checkpoints.errors import BrokenCheckpoint, NewerFormat
from checkpoints.manifest import Parent
from checkpoints.store import OpenCheckpoint
from durable.faults import hit
from worker.continuity import check_inputs, inexact_reasons
from worker.failures import Misconfigured, Unreadable
from worker.saving import BEST
from worker.session import Session
from worker.snapshot import (
    Restoration,
    SnapshotBroken,
    SnapshotMismatch,
    decode,
    decode_tensors,
    files_needed,
    full_trained,
    plan_restore,
)
from worker.snapshot.files import rank_path
from worker.standing import StandingRecord

log = logging.getLogger("orch")


def resume(session: Session) -> bool:
    """Restore the newest loadable checkpoint; False when there is none. All ranks together.

    Raises `Misconfigured` when the inputs changed or the checkpoint is of a newer orch, and
    `Unreadable` when checkpoints exist and cannot be looked at now.
    """
    channel = session.channel
    while True:
        ticket = channel.ticket("resume")
        choice = channel.tell(ticket, _choose(session) if channel.rank == 0 else None)
        for line in choice["reports"] if channel.rank else ():
            session.progress.report(line)
        _raise_refusal(choice)
        if choice["name"] == "":
            return False
        loaded = _load(session, choice["name"])
        statuses = channel.collect(channel.ticket("resume-loaded"), loaded["status"])
        verdict = channel.tell(
            channel.ticket("resume-verdict"),
            _judge(session, choice["name"], statuses) if statuses else None,
        )
        _raise_refusal(verdict)
        if verdict["load"]:
            _apply(session, loaded["restoration"], loaded["opened"], loaded["best"])
            return True


def _choose(session: Session) -> dict[str, Any]:
    """Rank 0: pick the newest verified checkpoint; report the bad ones."""
    before = len(session.progress.reports)
    try:
        session.store.sweep(epoch=session.attempt.epoch)
        _put_away(session)
        opened = session.store.latest_verified(session.progress.report)
    except NewerFormat as error:
        return {"misconfigured": str(error), "reports": []}
    except OSError as error:
        return {"unreadable": str(error), "reports": []}
    for line in session.progress.reports[before:]:
        log.warning("%s", line)
    return {
        "name": opened.name if opened else "",
        "reports": session.progress.reports[before:],
    }


def _put_away(session: Session) -> None:
    """Quarantine what the orchestrator no longer trusts; this attempt holds the job now."""
    for item in session.attempt.claim.overrides.distrusted:
        if item.checkpoint in session.store.candidates():
            cell = session.store.quarantine(item.checkpoint, item.reason)
            where = cell.relative_to(session.attempt.job.path)
            session.progress.report(
                f"checkpoint {item.checkpoint} quarantined: {item.reason}; evidence in {where}"
            )


def _load(session: Session, name: str) -> dict[str, Any]:
    """Read and check this rank's part; change nothing."""
    rank, world, stage = (
        session.channel.rank,
        session.channel.world_size,
        session.engine.zero_stage,
    )
    loaded: dict[str, Any] = {"restoration": None, "opened": None, "best": None}
    try:
        opened = session.store.open(name)
        record = _check_manifest(session, opened)
        files = {path: opened.read(path) for path in files_needed(rank, world, stage)}
        state = decode(files, rank=rank, world_size=world, zero_stage=stage)
        if state.state["counters"]["global_steps"] != opened.manifest.step:
            raise BrokenCheckpoint(
                "holds another step than its manifest", rank_path(rank, "state.json")
            )
        if record.best is not None and record.best.step != opened.manifest.step:
            path = rank_path(0, BEST)
            if session.semantic.train.select == "best":
                loaded["best"] = decode_tensors(opened.read(path), path)
        loaded["restoration"] = plan_restore(session.engine, state)
        loaded["opened"] = opened
        hit("resume.loaded")
    except (BrokenCheckpoint, SnapshotBroken, SnapshotMismatch, KeyError) as error:
        return loaded | {"status": {"broken": f"rank {rank}: {error}"}}
    except Misconfigured as error:
        return loaded | {"status": {"misconfigured": str(error)}}
    except OSError as error:
        return loaded | {"status": {"unreadable": f"rank {rank}: {error}"}}
    return loaded | {"status": {}}


def _check_manifest(session: Session, opened: OpenCheckpoint) -> StandingRecord:
    manifest = opened.manifest
    if manifest.world_size != session.channel.world_size:
        raise BrokenCheckpoint(
            "is of another number of ranks",
            "MANIFEST.json",
            expected=str(session.channel.world_size),
            found=str(manifest.world_size),
        )
    if manifest.step > session.steps:
        raise BrokenCheckpoint(
            "lies behind the last step",
            "MANIFEST.json",
            expected=f"<= {session.steps}",
            found=str(manifest.step),
        )
    try:
        record = StandingRecord.model_validate(manifest.extra)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BrokenCheckpoint(f"extra.{field}: {first['msg']}", "MANIFEST.json") from error
    check_inputs(
        record,
        data_digest=session.data.digest,
        vocabulary_digest=session.data.vocabulary_digest,
        saved_base=manifest.base.digest if manifest.base else None,
        base_digest=session.base.digest,
        name=opened.name,
    )
    if manifest.position.order_digest != session.data.order.digest:
        raise BrokenCheckpoint("is of another data order", "MANIFEST.json")
    return record


def _judge(session: Session, name: str, statuses: list[dict[str, str]]) -> dict[str, Any]:
    """Rank 0: load only if every rank can; otherwise say why not, and put a bad one away."""
    for kind in ("misconfigured", "unreadable"):
        for status in statuses:
            if kind in status:
                return {kind: status[kind]}
    broken = [status["broken"] for status in statuses if "broken" in status]
    if not broken:
        return {"load": True}
    try:
        session.store.quarantine(name, "; ".join(broken))
    except FileNotFoundError:
        return {"load": False}
    except OSError as error:
        return {"unreadable": str(error)}
    log.warning("checkpoint %s quarantined: %s", name, broken[0])
    session.progress.report(f"checkpoint {name} quarantined: {broken[0]}")
    return {"load": False}


def _raise_refusal(word: dict[str, Any]) -> None:
    if "misconfigured" in word:
        raise Misconfigured(word["misconfigured"])
    if "unreadable" in word:
        raise Unreadable(f"checkpoints cannot be read now: {word['unreadable']}")


def _apply(
    session: Session, restoration: Restoration, opened: OpenCheckpoint, best: dict[str, Any] | None
) -> None:
    """Change the engine and the standing. Collective."""
    restoration.apply()
    hit("resume.applied")
    manifest, standing = opened.manifest, session.standing
    record = StandingRecord.model_validate(manifest.extra)
    standing.resume(manifest.step, record, Parent(name=opened.name, digest=opened.digest))
    standing.add_reasons(
        inexact_reasons(
            manifest, record, now=session.environment, micro_batch=session.standing.micro_batch
        )
    )
    standing.best_tensors = best
    if best is None and record.best is not None and session.semantic.train.select == "best":
        standing.best_tensors = full_trained(session.engine)  # the best step is this one
    session.progress.update(
        step=standing.step, committed_step=standing.step, resumed_from=opened.name
    )
    log.info("resumed from %s", opened.name)
