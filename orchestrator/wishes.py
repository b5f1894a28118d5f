"""Carried-out wishes, kept in requests/done: what people asked for, in their order.

A job directory does not tell that its job was cancelled before it ran, nor which of the written
matrices somebody asked for. The wishes do.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.contract.paths import StateDir
from orchestrator import requests
from orchestrator.ingestion import Ingestion
from orchestrator.remains import PastSubmission


def replayed(
    state: StateDir,
    ingestion: Ingestion,
    submissions: Sequence[PastSubmission],
    *,
    lease_epoch: int,
) -> list[str]:
    """Carry all kept wishes out once more, on an empty store; return what could not be."""
    problems: list[str] = []
    for digest in _unasked(state, submissions):
        try:
            ingestion.take_in(digest, lease_epoch=lease_epoch)
        except ValueError as error:
            problems.append(f"matrix {digest}: {error}")
    lines = [line for name in requests.done(state) for line in ingestion.again(name, lease_epoch)]
    return problems + [line for line in lines if "set aside" in line]


def _unasked(state: StateDir, submissions: Sequence[PastSubmission]) -> list[str]:
    """Return matrices without a kept wish whose jobs were handed over all the same, oldest first.

    Directories that are older than the keeping of wishes have such; then every matrix is one.
    """
    asked, kept = set(), requests.done(state)
    for name in kept:
        try:
            wish = requests.read(state, name)
        except (OSError, ValueError):
            continue
        if isinstance(wish, requests.SubmitWish):
            asked.add(wish.matrix)
    given = {job for past in submissions for job in past.jobs.values()}
    found = []
    for digest in requests.written_matrices(state):
        if digest in asked:
            continue
        try:
            record, _ = requests.read_matrix(state, digest)
        except ValueError:
            continue
        if not kept or given & set(record.jobs):
            found.append(digest)
    return found
