"""The state directory for those who only look: as `Service` reads it, without what it writes with.

`orch status` is typed more often than all other verbs together; importing the matrix loader,
the reconciler and the schedulers for it would triple its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from durable.clock import SystemClock
from jobs.contract.paths import JobDir, StateDir
from orchestrator.database import Database
from orchestrator.lease import read_watcher
from orchestrator.observation import Seen, read_seen
from orchestrator.overview import Overview, overview
from orchestrator.reading import Reading
from orchestrator.rows import ExclusionRow, JobRow, ResultRow, Watcher

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.tables.jobs import Fidelity


class Reader:
    """One existing state directory, seen by one process that changes nothing."""

    def __init__(self, home: Path) -> None:
        """Open the database. Raises `orchestrator.database.NewerSchema`."""
        self.state = StateDir(home.absolute())
        self._clock = SystemClock()
        self._database = Database(self.state.database)
        self._reading = Reading(self._database, self.state, self._clock)

    def rows(self, selector: str | None = None) -> list[JobRow]:
        """Return jobs by matrix name, job name or id prefix; None: all. `NotFound`."""
        return self._reading.rows(selector)

    def each(self) -> Iterator[JobRow]:
        """Yield all jobs without keeping them; writers wait until the last one is taken."""
        return self._reading.each()

    def overview(self, selector: str | None, *, limit: int | None) -> Overview:
        """Return what a listing of at most `limit` rows shows. `NotFound`."""
        return overview(self._reading, selector, limit=limit)

    def unsettled(self) -> bool:
        """Return whether a tick may change anything: open jobs, or tasks that have not left.

        A job that is held and was released goes on only after a tick has seen its task leave.
        """
        row = self._database.one("busy")
        return bool(row and row[0]) or bool(self.overview(None, limit=0).open_jobs)

    def results(self, selector: str | None = None) -> list[ResultRow]:
        """Return results by matrix name, job name or id prefix; None: all. `NotFound`."""
        return self._reading.results(selector)

    def fidelity(self, rows: Iterable[ResultRow]) -> dict[str, Fidelity]:
        """Return where the attempts of each job ran, from its claims."""
        from orchestrator.fidelity import read_fidelity

        return {row.id: read_fidelity(self.state.job(row.id), row.settings) for row in rows}

    def ledgers(self, selector: str | None = None) -> dict[str, Ledger]:
        """Return what the time of each job that has run went into, all attempts together.

        Raises `NotFound`.
        The attempt that runs is counted as long as few jobs run, as with their heartbeats.
        """
        running = self._reading.few_running()
        if not running and self._database.one("any_end") is None:
            return {}
        from orchestrator.ledgers import read_ledgers

        ids, now = self._reading.select(selector), self._clock.wall()
        found = read_ledgers(self._database, self.state, ids, running=running, now=now)
        return {job: ledger.summed() for job, ledger in found}

    def exclusions(self) -> list[ExclusionRow]:
        """Return the nodes that tasks keep off now, by name."""
        return self._reading.exclusions()

    def watcher(self) -> Watcher:
        """Return who keeps the matrix moving."""
        return read_watcher(self.state, self._clock)

    def seen(self) -> list[Seen]:
        """Return when each scheduler was last looked at, by whoever did."""
        return read_seen(self.state)

    def job_dir(self, selector: str) -> tuple[JobRow, JobDir]:
        """Return one job's row and directory. Raises `NotFound`, also for several jobs."""
        job = self._reading.select_one(selector)
        return self._reading.rows(job)[0], self.state.job(job)
