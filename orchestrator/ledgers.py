"""The ledgers of many jobs at once, in a few queries whatever their number."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from jobs.contract.paths import StateDir
from orchestrator.database import Database
from orchestrator.ledger import Ledger, job_ledger
from orchestrator.timeline import ended_attempts, running_attempt, what_followed

_JOB = itemgetter(0)  # the first column of both queries


def read_ledgers(
    database: Database,
    state: StateDir,
    ids: Collection[str] | None,
    *,
    running: Iterable[str],
    now: float,
) -> Iterator[tuple[str, Ledger]]:
    """Yield the ledger of each job among `ids` (None: all) that has run.

    `running`: jobs whose directory is read, too, for the attempt that has not ended. An attempt
    that runs in another job is not in its ledger.
    """
    begun = {job for job in running if ids is None or job in ids}
    values = {
        "ids": None if ids is None else json.dumps(sorted(ids)),
        "running": json.dumps(sorted(begun)),
    }
    followed = {
        job: what_followed((kind, decision) for _, kind, decision in rows)
        for job, rows in groupby(database.each("ends_and_states", values), _JOB)
    }
    for job, rows in groupby(database.each("attempts_of_jobs", values), _JOB):
        attempts = ended_attempts(list(rows), followed.get(job, []))
        if job in begun:
            begun.remove(job)
            last = running_attempt(database, state, job, {one.epoch for one in attempts})
            attempts += (last,) if last is not None else ()
        yield job, job_ledger(attempts, now=now)
    for job in sorted(begun):
        last = running_attempt(database, state, job, ())
        if last is not None:
            yield job, job_ledger([last], now=now)
