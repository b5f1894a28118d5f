"""A rank's comparison of a checkpoint with what it has: what differs, and a plan to go on.

`worker.continuity` decides; here is read what it decides about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from checkpoints.errors import BrokenCheckpoint
from checkpoints.store import OpenCheckpoint
from jobs.waivers import Waiver
from worker.continuity import (
    Difference,
    Present,
    Verdict,
    differences,
    effective_waivers,
    judge,
)
from worker.machine import seed_everything
from worker.session import Session
from worker.snapshot import (
    RankState,
    Restoration,
    SnapshotMismatch,
    decode,
    files_needed,
    files_read,
    plan_restore,
    reshaped,
)
from worker.snapshot.files import FILE_ENTRIES, rank_path
from worker.standing import StandingRecord

_TAKE_AWAY = "nothing can replace it: go back to an older checkpoint, or start the job anew"


def present(session: Session) -> Present:
    """Return what this attempt has."""
    return Present(
        environment=session.environment,
        engine=session.semantic.engine.model_dump(mode="json"),
        world_size=session.channel.world_size,
        micro_batch=session.standing.micro_batch,
        global_batch=session.semantic.train.global_batch,
        data_digest=session.data.digest,
        vocabulary_digest=session.data.vocabulary_digest,
        order_digest=session.data.order.digest,
        base_digest=session.base.digest,
    )


class Unstated(Exception):
    """A whole manifest that does not say where the run stood."""

    def status(self) -> dict[str, Any]:
        """Return the refusal as `Comparison.status` does."""
        difference = Difference(entry="standing", words=str(self), fix=_TAKE_AWAY)
        return {"refused": [asdict(difference)], "waived": []}


def standing_record(opened: OpenCheckpoint) -> StandingRecord:
    """Return where the run stood. Raises `Unstated` naming the fields."""
    try:
        return StandingRecord.model_validate(opened.manifest.extra)
    except ValidationError as error:
        said = [
            f"extra.{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors(include_url=False)
        ]
        raise Unstated(", ".join(said)) from error


class Comparison:
    """One rank's view of one checkpoint."""

    def __init__(self, session: Session, opened: OpenCheckpoint, record: StandingRecord) -> None:
        self._session = session
        self._opened = opened
        claim = session.attempt.claim
        self._waived = effective_waivers(claim.waivers, claim.overrides)
        found = differences(opened.manifest, record, present(session))
        self._other_world = opened.manifest.world_size != session.channel.world_size
        self._missing: frozenset[str] = frozenset()
        found += self._missing_files()
        self._verdict = judge(found, self._waived)

    def can_plan(self) -> bool:
        """Return whether looking further could tell more: what is refused may yet be waived."""
        refused = self._verdict.refused
        return all(d.waiver is not None and d.entry != Waiver.WORLD_SIZE for d in refused)

    def plan(self) -> Restoration | None:
        """Return the checked state, None when it does not fit. Raises `SnapshotBroken`."""
        session, step = self._session, self._opened.manifest.step
        rank = session.channel.rank
        try:
            state = self._state()
        except SnapshotMismatch as error:
            self._add(error.entries)
            return None
        if state.state["counters"].get("global_steps") != step:
            raise BrokenCheckpoint(
                "holds another step than its manifest", rank_path(rank, "state.json")
            )
        # A missing file is refused or waived already; it must not hide what else differs. And
        # ranks that were not there have no random state.
        no_rng = self._other_world or bool(self._missing)
        passed = self._waived | ({Waiver.RNG} if no_rng else set())
        try:
            plan = plan_restore(
                session.engine,
                state,
                waived=passed,
                draw_anew=lambda: seed_everything(session.semantic.seed, rank, step=step),
            )
        except SnapshotMismatch as error:
            self._add(error.entries)
            return None
        self._add([one for one in plan.waived if not (no_rng and one[0] == Waiver.RNG)])
        return plan

    def _state(self) -> RankState:
        """Return what this rank is to go on with."""
        channel, stage = self._session.channel, self._session.engine.zero_stage
        saved_ranks = self._opened.manifest.world_size
        if self._other_world:
            state = reshaped(
                self._session.engine,
                self._opened.read,
                saved_ranks=saved_ranks,
                missing=self._missing,
            )
            if state.buffers:
                self._add([(Waiver.WORLD_SIZE, "rank 0's changed buffers serve all ranks")])
            return state
        needed = files_needed(channel.rank, channel.world_size, stage)
        files = {path: self._opened.read(path) for path in needed if path not in self._missing}
        return decode(
            files,
            rank=channel.rank,
            world_size=channel.world_size,
            zero_stage=stage,
            may_lack_rng=bool(self._missing),
        )

    def status(self) -> dict[str, Any]:
        """Return the verdict as JSON."""
        return {
            "refused": [asdict(difference) for difference in self._verdict.refused],
            "waived": [asdict(difference) for difference in self._verdict.waived],
        }

    def _missing_files(self) -> list[Difference]:
        session = self._session
        listed = {entry.path for entry in self._opened.manifest.files}
        rank, stage = session.channel.rank, session.engine.zero_stage
        saved_ranks = self._opened.manifest.world_size
        if self._other_world:
            needed = files_read(saved_ranks, stage)
        else:
            needed = files_needed(rank, saved_ranks, stage)
        missing = [path for path in needed if path not in listed]
        self._missing = frozenset(missing)
        return [
            Difference(
                entry=FILE_ENTRIES[path.rpartition("/")[2]],
                words=f"{path} is missing in the manifest",
                fix=_TAKE_AWAY,
            )
            for path in missing
        ]

    def _add(self, entries: Sequence[tuple[str, str]]) -> None:
        rank = self._session.channel.rank
        found = [
            Difference(entry=entry, words=f"rank {rank}: {words}", fix=_TAKE_AWAY)
            for entry, words in entries
        ]
        more = judge(found, self._waived)
        self._verdict = Verdict(
            refused=(*self._verdict.refused, *more.refused),
            waived=(*self._verdict.waived, *more.waived),
        )


def merged(statuses: Sequence[dict[str, Any]]) -> Verdict:
    """Return what all ranks found, each difference once."""
    refused = [Difference(**item) for status in statuses for item in status["refused"]]
    waived = [Difference(**item) for status in statuses for item in status["waived"]]
    return Verdict(
        refused=tuple(dict.fromkeys(refused)),
        waived=tuple(dict.fromkeys(waived)),
    )
