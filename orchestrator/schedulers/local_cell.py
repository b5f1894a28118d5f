"""One cell of a packed allocation of the embedded scheduler, as processes."""

from __future__ import annotations

import signal

from jobs.contract.environment import LOCAL_CELL
from jobs.contract.paths import SubmissionDir
from jobs.contract.records import BadRecord, read_record
from orchestrator.schedulers.local_processes import LaunchReport, kill_marked


class LocalCell:
    """A cell's launcher and its ranks; its allocation and its neighbours are left alone."""

    def __init__(self, submission: SubmissionDir, index: int) -> None:
        self._record = submission.cell_launch(index)
        self._marker = f"{LOCAL_CELL}={submission.token}/{index}"

    def notify(self) -> str | None:
        """Give the notice: CONT and TERM to its launcher; return why it could not be given."""
        report = self._report()
        process = report.process() if report else None
        if process is None:
            return "its launcher has not said who it is yet"
        process.signal(signal.SIGCONT)
        return None if process.signal(signal.SIGTERM) else "its launcher is gone"

    def kill(self) -> None:
        """SIGKILL the launcher's group and every process that carries the cell's marker."""
        report = self._report()
        process = report.process() if report and report.exit_code is None else None
        if process is not None:
            process.signal_group(signal.SIGKILL)
        kill_marked(self._marker)

    def _report(self) -> LaunchReport | None:
        try:
            return read_record(self._record, LaunchReport)
        except BadRecord:
            return None
