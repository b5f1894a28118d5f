"""Why jobs wait before any scheduler has them: found out when somebody looks.

Written into 100,000 rows at every change it would cost more than the waiting is worth, and it
could be stale.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.database import Database
from orchestrator.waiting_jobs import remembered_full

NEVER_SAID = "new"  # the reason of a job of which nothing has been said yet


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingReasons:
    """Answers for all jobs, from a handful of queries."""

    full: dict[str, str]  # home -> words; "": the limit over all matrices
    unmet: dict[str, str]  # job -> for what it waits
    stuck: frozenset[str]  # jobs that wait for one that nobody moves

    @classmethod
    def read(cls, database: Database) -> WaitingReasons:
        """Read them from the store."""
        full = remembered_full(database)
        if database.one("needs_any") is None:
            return cls(full=full, unmet={}, stuck=frozenset())
        words: dict[int, str] = {}
        stuck_needs = set()
        for row in database.rows("needs_unmet"):
            missing = f"{row['open']:,} of {row['members']:,} results missing"
            words[row["id"]] = f"needs {row['name']}: {missing}"
            if row["stuck"]:
                stuck_needs.add(row["id"])
            if row["stopped"] is not None:
                job = database.one("job_at", {"position": row["stopped"]})
                if job is not None:
                    words[row["id"]] += f"; {job['name']} ({job['id'][:8]}) is {job['state']}"
        unmet: dict[str, str] = {}
        stuck = set()
        for row in database.rows("jobs_that_need"):
            said = words.get(row["need"], "")
            job, need = row["job"], row["need"]
            # Of several needs, one that nobody moves is what a person must hear of.
            if job not in unmet or (need in stuck_needs and job not in stuck):
                unmet[job] = f"waits: {said}"
            if need in stuck_needs:
                stuck.add(job)
        return cls(full=full, unmet=unmet, stuck=frozenset(stuck))

    def of(self, job: str, home: str, said: str) -> str:
        """Return why a NEW job waits; `said` is what the store says of it."""
        found = self.unmet.get(job) or self.full.get(home) or self.full.get("")
        if found is None:
            return said
        return found if said == NEVER_SAID else f"{found} ({said})"
