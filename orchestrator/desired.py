"""What the newest record of each matrix wants, in the database: needs, and what was removed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from orchestrator.database import Database
from orchestrator.requests import MatrixRecord


def take_needs(database: Database, record: MatrixRecord) -> None:
    """Let the jobs of a matrix wait for what its newest record says. Inside `writing`.

    The matrix and its jobs are in the store already.
    """
    if not record.needs and database.one("needs_any") is None:
        return
    values = {"matrix": record.digest}
    database.run("needs_retire", {**values, "name": record.name})
    if database.rows("needs_of", values):
        database.run("needs_renew", values)  # the same record, submitted again
    else:
        for need in record.needs:
            number = database.insert("need_add", {**values, "name": need.name})
            members = [{"need": number, "job": job} for job in need.of]
            database.run_many("need_member_add", members)
            database.run_many("need_job_add", [{"need": number, "job": job} for job in need.jobs])
            database.run("need_count", {"need": number})
    database.run("jobs_unmet", values)


def removed_jobs(
    database: Database, names: Collection[str], *, named: Collection[str]
) -> list[sqlite3.Row]:
    """Return (id, name, state, matrix) of jobs of earlier records that nobody wants any more.

    `names`: the matrices that are asked about; `named`: what their newest records name. What
    another matrix's newest record names is wanted.
    """
    gone = {
        row["id"]: row
        for name in names
        for row in database.rows("jobs_of_versions", {"name": name})
        if row["id"] not in named
    }
    if gone:
        for row in database.rows("jobs_of_all_current"):
            if row["name"] not in names:
                gone.pop(row["job"], None)
    return list(gone.values())


def jobs_of_current(database: Database, name: str) -> tuple[str, ...]:
    """Return the jobs of a matrix's newest record, in its order; empty when there is none."""
    return tuple(row["job"] for row in database.rows("jobs_of_current", {"name": name}))
