"""Cells of packed allocations: reading what became of them, and ending one beside its neighbours.

No scheduler can cancel a part of an allocation. So a cell is dropped: a durable wish in the
submission's directory, which whoever starts the allocation obeys, and a running cell's processes
are ended by themselves. The allocation itself is cancelled when no cell of it is wanted any more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from durable.faults import hit
from durable.files import private_dir, publish_new
from jobs.contract.paths import StateDir, SubmissionDir
from jobs.contract.records import (
    BadRecord,
    DepartureRecord,
    DropRecord,
    TasksRecord,
    read_record,
)
from orchestrator.facts import Departure, Evidence
from orchestrator.schedulers.base import Scheduler, TaskKey

_DROP, _LEFT = ".drop.json", ".left.json"


class CellNotes:
    """What submissions' directories say of single cells; each is listed once a tick."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._names: dict[str, frozenset[str]] = {}

    def begin(self) -> None:
        """Begin a tick: what was listed is old."""
        self._names.clear()

    def departed(self, key: TaskKey) -> bool:
        """Return whether a cell's departure is on record."""
        return key.cell is not None and f"{key.cell:05d}{_LEFT}" in self._listed(key.token)

    def add(self, key: TaskKey, evidence: Evidence) -> Evidence:
        """Return the evidence with what is known of the cell besides its job's directory."""
        if key.cell is None or not (names := self._listed(key.token)):
            return evidence
        dropped = f"{key.cell:05d}{_DROP}" in names
        gone = None
        if f"{key.cell:05d}{_LEFT}" in names:
            gone = _departure(self._state.submission(key.token), key.cell)
        if gone is None and not dropped:
            return evidence
        return replace(evidence, departure=gone, dropped=dropped)

    def _listed(self, token: str) -> frozenset[str]:
        if token not in self._names:
            self._names[token] = _names(self._state.submission(token))
        return self._names[token]


def end_tasks(
    wishes: Mapping[TaskKey, float], scheduler: Scheduler, state: StateDir, *, now: float
) -> Mapping[TaskKey, str | None]:
    """End tasks, cells too, with so many seconds of grace; None, or why it was not done.

    May be repeated: a cell that was told and does not leave is killed when its grace is over.
    """
    problems: dict[TaskKey, str | None] = {}
    whole: dict[TaskKey, list[TaskKey]] = {}  # allocations, and who asked
    single: list[tuple[TaskKey, DropRecord]] = []
    cells: dict[TaskKey, list[TaskKey]] = {}
    for key in wishes:
        if key.cell is None:
            whole[key] = [key]
        else:
            cells.setdefault(key.allocation, []).append(key)
    for allocation, keys in cells.items():
        submission = state.submission(allocation.token)
        try:
            dropped = [(k, _drop(submission, k, grace=wishes[k], now=now)) for k in keys]
            wanted = _wanted(submission, allocation)
        except (OSError, BadRecord) as error:
            problems.update(dict.fromkeys(keys, str(error)))
            continue
        hit("packs.dropped")
        if wanted:
            single += dropped
        else:
            whole[allocation] = keys
    if whole:
        said = scheduler.cancel(list(whole))
        problems.update({key: said[asked] for asked, keys in whole.items() for key in keys})
    for key, wish in single:
        # A problem is no refusal: what has not begun needs no signal, and this is repeated.
        if now - wish.at > wish.grace_seconds:
            scheduler.kill(key)
        else:
            scheduler.notify(key)
        problems[key] = None
    return problems


def _drop(submission: SubmissionDir, key: TaskKey, *, grace: float, now: float) -> DropRecord:
    """Put the wish on record, durably; the first one counts and is returned."""
    wish = DropRecord(at=now, grace_seconds=grace)
    path = submission.drop(key.place)
    private_dir(submission.cells)
    if publish_new(path, wish.to_json()):
        return wish
    return read_record(path, DropRecord) or wish


def _wanted(submission: SubmissionDir, allocation: TaskKey) -> bool:
    """Return whether a cell of an allocation is neither over nor dropped."""
    tasks = read_record(submission.tasks, TasksRecord)
    if tasks is None:
        raise BadRecord(f"{submission.tasks}: missing")
    names = _names(submission)
    return any(
        f"{task.index:05d}{_DROP}" not in names and f"{task.index:05d}{_LEFT}" not in names
        for task in tasks.cells_of(allocation.index)
    )


def _departure(submission: SubmissionDir, cell: int) -> Departure | None:
    try:
        record = read_record(submission.departure(cell), DepartureRecord)
    except (BadRecord, OSError):
        return None  # it speaks through its allocation's end, as if it had written nothing
    if record is None:
        return None
    return Departure(
        epoch=record.epoch,
        exit_code=record.exit_code,
        reason=record.reason,
        out_of_memory=record.out_of_memory,
    )


def _names(submission: SubmissionDir) -> frozenset[str]:
    try:
        return frozenset(os.listdir(submission.cells))  # noqa: PTH208 - once a tick for each
    except OSError:
        return frozenset()
