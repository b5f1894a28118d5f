"""Resuming: all ranks from the newest checkpoint that all of them can load.

Rank 0 chooses among the verified ones; every rank reads its own files (checked again on the very
bytes), decodes and checks them against the engine; only when all succeeded is anything changed.
A checkpoint that is damaged for one rank is quarantined with the reason and the next is tried; one
that is whole and of other circumstances is refused, or let pass by name (`worker.continuity`).
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from checkpoints.errors import BrokenCheckpoint, NewerFormat
from checkpoints.manifest import Parent
from durable.faults import hit
from worker.comparison import Comparison, Unstated, merged, present, standing_record
from worker.continuity import Difference, inexact_reasons
from worker.failures import Misconfigured, ResumeRefused, Unreadable
from worker.saving import BEST
from worker.session import Session
from worker.snapshot import SnapshotBroken, SnapshotMismatch, decode_tensors, full_trained
from worker.snapshot.files import rank_path
from worker.standing import StandingRecord

log = logging.getLogger("orch")


def resume(session: Session) -> bool:
    """Restore the newest loadable checkpoint; False when there is none. All ranks together.

    Raises `ResumeRefused` when what it says differs from what this attempt has and nobody waived
    that, `Misconfigured` when it is of a newer orch, and `Unreadable` when checkpoints exist and
    cannot be looked at now.
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
            _apply(session, loaded, [Difference(**item) for item in verdict["waived"]])
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
    rank = session.channel.rank
    loaded: dict[str, Any] = {"restoration": None, "opened": None, "best": None}
    try:
        opened = session.store.open(name)
        loaded["opened"] = opened
        record = standing_record(opened)
        if opened.manifest.step > session.steps:
            raise BrokenCheckpoint(
                "lies behind the last step",
                "MANIFEST.json",
                expected=f"<= {session.steps}",
                found=str(opened.manifest.step),
            )
        found = Comparison(session, opened, record)
        if found.can_plan():
            loaded["restoration"] = found.plan()
        if record.best is not None and record.best.step != opened.manifest.step:
            path = rank_path(0, BEST)
            if session.semantic.train.select == "best":
                loaded["best"] = decode_tensors(opened.read(path), path)
        hit("resume.loaded")
    except (BrokenCheckpoint, SnapshotBroken, SnapshotMismatch, KeyError) as error:
        return loaded | {"status": {"broken": f"rank {rank}: {error}"}}
    except Unstated as error:
        return loaded | {"status": error.status()}
    except OSError as error:
        return loaded | {"status": {"unreadable": f"rank {rank}: {error}"}}
    return loaded | {"status": found.status()}


def _judge(session: Session, name: str, statuses: list[dict[str, str]]) -> dict[str, Any]:
    """Rank 0: load only if every rank can; otherwise say why not, and put a bad one away."""
    for status in statuses:
        if "unreadable" in status:
            return {"unreadable": status["unreadable"]}
    broken = [status["broken"] for status in statuses if "broken" in status]
    if not broken:
        told = merged(statuses)
        refusal = told.refusal(checkpoint=name, job=session.attempt.spec.id)
        if refusal is not None:
            return {"refused": refusal}
        return {"load": True, "waived": [asdict(difference) for difference in told.waived]}
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
    if "refused" in word:
        raise ResumeRefused(word["refused"])
    if "misconfigured" in word:
        raise Misconfigured(word["misconfigured"])
    if "unreadable" in word:
        raise Unreadable(f"checkpoints cannot be read now: {word['unreadable']}")


def _apply(session: Session, loaded: dict[str, Any], waived: list[Difference]) -> None:
    """Change the engine and the standing. Collective."""
    restoration, opened, best = loaded["restoration"], loaded["opened"], loaded["best"]
    restoration.apply()
    hit("resume.applied")
    manifest, standing = opened.manifest, session.standing
    record = StandingRecord.model_validate(manifest.extra)
    standing.resume(manifest.step, record, Parent(name=opened.name, digest=opened.digest))
    standing.add_reasons(inexact_reasons(waived, manifest, present(session)))
    standing.add_waived(difference.entry for difference in waived)
    standing.best_tensors = best
    if best is None and record.best is not None and session.semantic.train.select == "best":
        standing.best_tensors = full_trained(session.engine)  # the best step is this one
    session.progress.update(
        step=standing.step, committed_step=standing.step, resumed_from=opened.name
    )
    for difference in waived:
        log.warning("waived: %s: %s", difference.entry, difference.words)
    log.info("resumed from %s", opened.name)
