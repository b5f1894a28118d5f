"""A Slurm cluster as a `Scheduler`: submits through submitit, asks squeue and sacct, signals.

What Slurm really does at preemption, and why the batch script looks as it does, is written in
docs/slurm.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from durable.clock import Clock, SystemClock
from durable.faults import hit
from orchestrator.facts import Patience
from orchestrator.schedulers.base import (
    OVER,
    Found,
    Observation,
    Refused,
    SubmitOutcome,
    SubmitRequest,
    TaskKey,
    TaskState,
    Unreachable,
)
from orchestrator.schedulers.slurm_answers import (
    Queue,
    answer,
    by_task,
    name_of,
    needs_accounts,
    ours,
)
from orchestrator.schedulers.slurm_commands import Broken, run
from orchestrator.schedulers.slurm_options import (
    Unfit,
    batch_template,
    carries,
    job_name,
    sbatch_options,
    script_body,
)
from orchestrator.schedulers.slurm_parse import compress_ranges
from orchestrator.schedulers.slurm_queries import Accounts, NoAnswer, read_accounts, read_queue
from orchestrator.schedulers.slurm_submit import SBATCH_SECONDS, submit_script, write_script
from orchestrator.site_schema import Site

CONTROL_SECONDS = 20.0
SCANCEL_AT_ONCE = 200  # ids in one call
DEFAULT_MAX_ARRAY = 1001
LARGEST_CHUNK = 1000
REVOKED_FOR = timedelta(seconds=3)


class SlurmScheduler:
    """The cluster that SLURM_CONF (or the machine) names; `site` says how to ask it."""

    name = "slurm"
    # A killed sbatch's request may still lie in a busy controller's queue.
    patience = Patience(quiet_seconds=SBATCH_SECONDS + 60.0)

    def __init__(self, home: Path, *, site: Site | None = None, clock: Clock | None = None) -> None:
        self.home = home
        self.site = site or Site()
        self._clock = clock or SystemClock()
        self._chunk_limit: int | None = None

    @property
    def chunk_limit(self) -> int:
        """Tasks that one submission may have: below the cluster's MaxArraySize."""
        if self._chunk_limit is None:
            said = run(["scontrol", "show", "config"], seconds=CONTROL_SECONDS)
            text = "" if isinstance(said, Broken) else said.out
            match = re.search(r"^MaxArraySize\s*=\s*([0-9]{1,9})$", text, re.MULTILINE)
            if match is None:
                return DEFAULT_MAX_ARRAY - 1  # ask again the next time
            self._chunk_limit = max(1, min(LARGEST_CHUNK, int(match[1]) - 1))
        return self._chunk_limit

    def submit(self, request: SubmitRequest) -> SubmitOutcome:
        """Write batch.sh and hand it to sbatch."""
        try:
            options = sbatch_options(request, self.site)
            body = script_body(request, self.site, python=sys.executable, template=batch_template())
        except Unfit as error:
            return Refused(reason=str(error), permanent=True, hint="site.yaml, or ORCH_HOME")
        try:
            script = write_script(Path(request.directory), options, body)
        except OSError as error:
            return Refused(reason=f"batch.sh could not be written: {error}", permanent=False)
        hit("slurm.script_written")
        return submit_script(script)

    def find(self, token: str) -> Found | Unreachable:
        """Search queue and accounting; an empty answer needs both (where accounts are kept)."""
        try:
            name = job_name(token)
            ids = {row.array_id for row in read_queue(name=name)}
            if not ids:
                rows = read_accounts(name=name).rows
                ids = {row.array_id for row in rows if carries(token, name=row.name, comment="")}
        except (NoAnswer, Unfit) as error:
            return Unreachable(reason=str(error))
        return Found(scheduler_ids=tuple(sorted(ids, key=int)))

    def observe(self, keys: Sequence[TaskKey]) -> Observation:
        """Ask squeue once, and sacct once for the tasks that are over or not in the queue."""
        taken_at = self._clock.wall()
        if not keys:
            return Observation(taken_at=taken_at, answers={})
        try:
            queue = by_task(read_queue())
        except NoAnswer as error:
            why = str(error)
            unknown = dict.fromkeys(keys, Unreachable(reason=why))
            return Observation(taken_at=taken_at, answers=unknown, unreachable=why)
        accounts: Accounts | str | None = None
        over = {key.scheduler_id for key in keys if needs_accounts(queue, key)}
        if over:
            try:
                accounts = read_accounts(array_ids=sorted(over, key=int))
            except NoAnswer as error:
                accounts = str(error)
        answers = {key: answer(queue, key, accounts) for key in keys}
        return Observation(taken_at=taken_at, answers=answers)

    def cancel(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """End tasks for good; None also for one that is over already."""
        queue = self._queue()
        if isinstance(queue, str):
            return dict.fromkeys(keys, queue)
        live = [key for key in keys if (row := ours(queue, key)) and row.state not in OVER]
        # A rank that saves within KillWait leaves with 75: its script must not requeue itself.
        self._update(live, "Requeue=0")
        hit("slurm.before_scancel")
        problems: dict[TaskKey, str | None] = dict.fromkeys(keys)
        for start in range(0, len(live), SCANCEL_AT_ONCE):
            some = live[start : start + SCANCEL_AT_ONCE]
            said = _control(["scancel", *map(name_of, some)])
            if said is not None and "completing or completed" not in said:
                problems.update(dict.fromkeys(some, said))
        return problems

    def notify(self, key: TaskKey) -> str | None:
        """SIGCONT and SIGTERM to the task's steps, not to its script: as preemption begins."""
        steps = self._steps(key)
        if isinstance(steps, str):
            return steps
        return _signal("CONT", steps) or _signal("TERM", steps)

    def kill(self, key: TaskKey) -> str | None:
        """SIGKILL every step. The script lives on and leaves with srun's 137.

        At the end of a real grace time Slurm kills the script, too; here it stays, so that the
        task's end is on record. (`scancel --signal=KILL ID` without a step would cancel the job.)
        """
        steps = self._steps(key)
        return steps if isinstance(steps, str) else _signal("KILL", steps)

    def undelay(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """Let requeued tasks begin a moment after their requeue instead of two minutes.

        May be repeated: the new begin time does not depend on when it is asked for.
        """
        queue = self._queue()
        if isinstance(queue, str):
            return dict.fromkeys(keys, queue)
        problems: dict[TaskKey, str | None] = dict.fromkeys(keys)
        delayed = [
            (key, row)
            for key in keys
            if (row := ours(queue, key)) and row.state is TaskState.DELAYED
        ]
        for begin in {soonest_begin(row.submitted) for _, row in delayed}:
            some = [key for key, row in delayed if soonest_begin(row.submitted) == begin]
            problems.update(self._update(some, f"StartTime={begin}"))
        return problems

    def _update(self, keys: Sequence[TaskKey], change: str) -> dict[TaskKey, str | None]:
        """`scontrol update`, one call an array; the token was checked."""
        problems: dict[TaskKey, str | None] = {}
        for array_id, group in _by_array(keys):
            indices = compress_ranges([key.index for key in group])
            said = _control(["scontrol", "update", f"JobId={array_id}_[{indices}]", change])
            problems.update(dict.fromkeys(group, said))
        return problems

    def _queue(self) -> Queue | str:
        try:
            return by_task(read_queue())
        except NoAnswer as error:
            return str(error)

    def _steps(self, key: TaskKey) -> list[str] | str:
        """Return the steps of a running task of ours, or why there are none."""
        queue = self._queue()
        if isinstance(queue, str):
            return queue
        name, row = name_of(key), ours(queue, key)
        if row is None:
            return f"{name} is not ours (any more)"
        if row.state is not TaskState.RUNNING:
            return f"{name} is {row.word}"
        listed = run(
            ["squeue", "--noheader", "--steps", f"--jobs={name}", "--format=%i"],
            seconds=CONTROL_SECONDS,
        )
        if isinstance(listed, Broken) or listed.code != 0:
            return listed.reason if isinstance(listed, Broken) else listed.err.strip()[:200]
        pattern = re.compile(rf"{name}\.[0-9]+")  # not .batch, which is the script
        steps = [word for word in listed.out.split() if pattern.fullmatch(word)]
        return steps or f"{name} has not started its ranks yet"


def _signal(number: str, steps: Sequence[str]) -> str | None:
    return _control(["scancel", f"--signal={number}", *steps])


def soonest_begin(requeued: str) -> str:
    """Return the begin time to set for a task that was requeued at `requeued` (ISO 8601).

    A node refuses, as "Job credential revoked", what starts on it in the second in which the
    task's last run was ended there, and Slurm then calls the task FAILED (measured). `now`, asked
    for at once, did that; so it is a fixed moment after the requeue, which may lie in the past.
    """
    try:
        moment = datetime.fromisoformat(requeued) + REVOKED_FOR
    except ValueError:
        return f"now+{int(REVOKED_FOR.total_seconds())}"
    return moment.isoformat(timespec="seconds")


def _control(command: list[str]) -> str | None:
    """Run a command that changes something; None, or what went wrong."""
    said = run(command, seconds=CONTROL_SECONDS)
    if isinstance(said, Broken):
        return said.reason
    if said.code == 0:
        return None
    words = (said.err or said.out).strip().encode("ascii", "replace").decode()
    return f"{command[0]}: {words[:300] or f'left with {said.code}'}"


def _by_array(keys: Iterable[TaskKey]) -> list[tuple[str, list[TaskKey]]]:
    groups: dict[str, list[TaskKey]] = {}
    for key in keys:
        groups.setdefault(key.scheduler_id, []).append(key)
    return list(groups.items())
