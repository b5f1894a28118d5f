"""What a submission would do: new, unchanged, removed; needs of other matrices looked up."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.contract.paths import StateDir
from jobs.errors import MatrixInvalid, Problem
from jobs.names import printable
from jobs.spec import JobSpec
from jobs.states import TERMINAL, JobState
from jobs.suggestions import did_you_mean
from orchestrator.database import Database
from orchestrator.desired import jobs_of_current, removed_jobs
from orchestrator.estimation import estimate, measured_pace
from orchestrator.rows import Plan, RemovedJob

if TYPE_CHECKING:
    from jobs.matrix import Matrix
    from jobs.matrix.needs import Need


class Planner:
    """Compares matrices with the store; changes nothing."""

    def __init__(self, database: Database, state: StateDir) -> None:
        self._database = database
        self._state = state

    def resolve(self, matrices: Sequence[Matrix]) -> list[Matrix]:
        """Return the matrices with the jobs that their needs of other matrices mean.

        Raises `MatrixInvalid` for a matrix that nobody has submitted, and for a cycle.
        """
        if not any(matrix.needs for matrix in matrices):
            return list(matrices)
        here = {matrix.name: tuple(spec.id for spec in matrix.jobs) for matrix in matrices}
        problems: list[Problem] = []
        resolved = []
        for matrix in matrices:
            needs = [self._resolved(need, here, problems) for need in matrix.needs]
            resolved.append(replace(matrix, needs=tuple(needs)))
        if not problems:
            problems = self._cycles(resolved)
        if problems:
            raise MatrixInvalid(problems)
        return resolved

    def _resolved(
        self, need: Need, here: Mapping[str, tuple[str, ...]], problems: list[Problem]
    ) -> Need:
        if need.matrix is None:
            return need
        found = here.get(need.matrix) or jobs_of_current(self._database, need.matrix)
        if not found:
            known = {row["name"] for row in self._database.rows("matrix_names")} | set(here)
            likely = did_you_mean(need.matrix, known)
            fix = "submit it first, or in the same command"
            fix = f"{likely} or {fix}" if likely.startswith("did you mean") else fix
            message = f"no matrix called {printable(need.matrix)} was submitted"
            problems.append(need.problem(message, fix))
        return replace(need, of=found)

    def _cycles(self, matrices: Sequence[Matrix]) -> list[Problem]:
        from jobs.matrix.needs import Need, cycle_problem, find_cycle

        new = [need for matrix in matrices for need in matrix.needs]
        names = {matrix.name for matrix in matrices}
        stored = []
        for row in self._database.rows("needs_active"):
            if row["matrix"] in names:
                continue  # its new record says it anew
            values = {"need": row["id"]}
            place = Problem(file=row["path"], line=1, column=1, key="", message="", fix="")
            stored.append(
                Need(
                    name=f"{row['matrix']}: {row['name']}",
                    jobs=tuple(r["job"] for r in self._database.rows("need_jobs_of", values)),
                    of=tuple(r["job"] for r in self._database.rows("need_members_of", values)),
                    place=place,
                )
            )
        cycle = find_cycle([*new, *stored])
        if not cycle:
            return []
        # Said where the file can be changed.
        first = next(index for index, need in enumerate(cycle) if need in new)
        return [cycle_problem([*cycle[first:], *cycle[:first]])]

    def plan(self, matrices: Sequence[Matrix]) -> Plan:
        """Return what `submit` would do. Raises `MatrixInvalid` as `resolve` does."""
        jobs: dict[str, JobSpec] = {}
        for matrix in self.resolve(matrices):
            for spec in matrix.jobs:
                jobs.setdefault(spec.id, spec)
        known = {row["id"]: row for row in self._database.rows("job_states")}
        new = frozenset(jobs) - known.keys()
        removed, kept = self._removed(matrices, jobs)
        names = [matrix.name for matrix in matrices]
        fresh = [spec for identity, spec in jobs.items() if identity in new]
        return Plan(
            cells=sum(matrix.cells for matrix in matrices),
            unique_jobs=len(jobs),
            new=len(new),
            unchanged=len(jobs) - len(new),
            jobs=tuple(jobs.values()),
            new_ids=new,
            again=sum(identity in known and _is_started(known[identity]) for identity in jobs),
            removed=removed,
            kept=kept,
            estimate=estimate(fresh, measured_pace(self._database, self._state, names)),
        )

    def _removed(
        self, matrices: Sequence[Matrix], jobs: Mapping[str, JobSpec]
    ) -> tuple[tuple[RemovedJob, ...], int]:
        """Return jobs that nobody wants any more, and how many more of them are over."""
        removed = []
        kept = 0
        for row in removed_jobs(self._database, {m.name for m in matrices}, named=jobs):
            state = JobState(row["state"])
            if state in TERMINAL:
                kept += 1
            else:
                removed.append(
                    RemovedJob(id=row["id"], name=row["name"], state=state, matrix=row["matrix"])
                )
        return tuple(removed), kept


def _is_started(row: sqlite3.Row) -> bool:
    """Return whether asking for a job starts it again: stopped, and not held by a person."""
    if row["state"] == JobState.HELD:
        return not row["held_by_person"]
    return bool(row["state"] == JobState.CANCELLED)
