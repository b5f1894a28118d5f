"""A Slurm cluster as a `Scheduler`: submits through submitit, asks squeue and sacct, signals.

What Slurm really does at preemption, and why the batch script looks as it does, is written in
docs/slurm.md.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from durable.clock import Clock, SystemClock
from durable.faults import hit
from orchestrator.facts import Patience
from orchestrator.recordings import HeardText
from orchestrator.schedulers.base import (
    OVER,
    CheckOutcome,
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
    answer,
    name_of,
    needs_accounts,
    ours,
)
from orchestrator.schedulers.slurm_control import by_array, control, update_tasks
from orchestrator.schedulers.slurm_limits import LimitReader
from orchestrator.schedulers.slurm_look import Looks
from orchestrator.schedulers.slurm_nodes import ROOT, SlurmNodes
from orchestrator.schedulers.slurm_options import (
    Unfit,
    batch_template,
    carries,
    excluded_nodes,
    job_name,
    sbatch_options,
    script_body,
    words_of_group,
)
from orchestrator.schedulers.slurm_parse import compress_ranges
from orchestrator.schedulers.slurm_queries import (
    IDS_AT_ONCE,
    Accounts,
    Heard,
    NoAnswer,
    read_accounts,
)
from orchestrator.schedulers.slurm_replay import recorded
from orchestrator.schedulers.slurm_submit import (
    SBATCH_SECONDS,
    check_options,
    submit_script,
    write_script,
)
from orchestrator.site_schema import Site

SCANCEL_AT_ONCE = 200  # ids in one call
REVOKED_FOR = timedelta(seconds=3)


class SlurmScheduler:
    """The cluster that SLURM_CONF (or the machine) names; `site` says how to ask it."""

    name = "slurm"
    # A killed sbatch's request may still lie in a busy controller's queue.
    patience = Patience(quiet_seconds=SBATCH_SECONDS + 60.0)

    def __init__(
        self,
        home: Path,
        *,
        site: Site | None = None,
        clock: Clock | None = None,
        query_seconds: float | None = None,
    ) -> None:
        """`query_seconds`: how long to wait for squeue or sacct; default `QUERY_SECONDS`."""
        self.home = home
        self.site = site or Site()
        self._query_seconds = query_seconds
        self._looks = Looks(clock or SystemClock(), seconds=query_seconds)
        self._nodes = SlurmNodes(self.site, clock or SystemClock())
        # What squeue and sacct said to the last observation, for the recordings.
        self.heard: list[Heard] = []
        self._limits = LimitReader(self.site, clock or SystemClock())

    @property
    def chunk_limit(self) -> int:
        """Tasks that one submission may have: below the cluster's MaxArraySize."""
        return self._limits.cluster().chunk

    @property
    def submit_limit(self) -> int | None:
        """Tasks that this user may have at once, where accounting says so and it is enforced."""
        return self._limits.submit_limit()

    def check_key(self, request: SubmitRequest) -> str:
        """Return a digest of the options without what names a submission."""
        try:
            plain = replace(request, exclude_nodes=())  # of the moment; never a refusal's cause
            words = sorted(words_of_group(sbatch_options(plain, self.site)))
        except Unfit as error:
            words = [str(error)]
        return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]

    def check(self, request: SubmitRequest) -> CheckOutcome:
        """Ask `sbatch --test-only`; only a name that Slurm does not take is a refusal."""
        try:
            options = sbatch_options(replace(request, exclude_nodes=()), self.site)
        except Unfit as error:
            return _unfit(error)
        return check_options(words_of_group(options))

    def submit(self, request: SubmitRequest) -> SubmitOutcome:
        """Write batch.sh and hand it to sbatch.

        That nodes are excluded is a wish: where Slurm refuses for good, it is asked without.
        """
        outcome = self._submit(request)
        if request.exclude_nodes and isinstance(outcome, Refused) and outcome.permanent:
            return self._submit(replace(request, exclude_nodes=()))
        return outcome

    def _submit(self, request: SubmitRequest) -> SubmitOutcome:
        try:
            options = sbatch_options(request, self.site)
            body = script_body(request, self.site, python=sys.executable, template=batch_template())
        except Unfit as error:
            return _unfit(error)
        try:
            script = write_script(Path(request.directory), options, body)
        except OSError as error:
            return Refused(reason=f"batch.sh could not be written: {error}", permanent=False)
        hit("slurm.script_written")
        try:
            return submit_script(script, tasks=len(request.tasks.allocations()))
        finally:
            self._looks.drop()

    def find(self, token: str) -> Found | Unreachable:
        """Search queue and accounting; an empty answer needs both (where accounts are kept)."""
        look = self._looks.once(f"find {token}")
        if isinstance(look.queue, str):
            return Unreachable(reason=look.queue)
        try:
            name = job_name(token)
            rows = look.queue.values()
            ids = {r.array_id for r in rows if carries(token, name=r.name, comment=r.comment)}
            if not ids:
                kept = read_accounts(name=name, seconds=self._query_seconds).rows
                ids = {row.array_id for row in kept if carries(token, name=row.name, comment="")}
        except (NoAnswer, Unfit) as error:
            return Unreachable(reason=str(error))
        return Found(scheduler_ids=tuple(sorted(ids, key=int)))

    def observe(self, keys: Sequence[TaskKey]) -> Observation:
        """Ask squeue once, and sacct once for the tasks that are over or not in the queue."""
        if not keys:
            return Observation(taken_at=self._looks.now(), answers={})
        look = self._looks.once("observe")
        self.heard = list(look.heard)
        if isinstance(look.queue, str):
            unknown = dict.fromkeys(keys, Unreachable(reason=look.queue))
            return Observation(taken_at=look.taken_at, answers=unknown, unreachable=look.queue)
        accounts: Accounts | str | None = None
        over = sorted({k.scheduler_id for k in keys if needs_accounts(look.queue, k)}, key=int)
        if over:
            accounts = self._accounts(over[:IDS_AT_ONCE])
        site = self._site_uids(accounts)
        answers = {key: answer(look.queue, key, accounts, site_uids=site) for key in keys}
        if unasked := set(over[IDS_AT_ONCE:]):  # nobody is absent for not having been asked about
            later = Unreachable(reason="too many ended at once: accounting is asked the next time")
            answers.update({k: later for k in keys if k.scheduler_id in unasked})
        return Observation(taken_at=look.taken_at, answers=answers)

    def _accounts(self, array_ids: Sequence[str]) -> Accounts | str:
        try:
            return read_accounts(
                array_ids=array_ids, seconds=self._query_seconds, hear=self.heard.append
            )
        except NoAnswer as error:
            return str(error)

    def _site_uids(self, accounts: Accounts | str | None) -> frozenset[int]:
        """Return whose cancels are no person's; asked for only when something was cancelled."""
        if isinstance(accounts, Accounts) and any(r.by_uid is not None for r in accounts.rows):
            return self._nodes.site_uids()
        return ROOT

    def recorded(self) -> tuple[HeardText, ...]:
        """Return what squeue and sacct said to the last observation, as recordings keep it."""
        return recorded(self.heard)

    def cancel(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """End tasks for good; None also for one that is over already."""
        queue = self._looks.for_acting().queue
        if isinstance(queue, str):
            return dict.fromkeys(keys, queue)
        live = [key for key in keys if (row := ours(queue, key)) and row.state not in OVER]
        # A rank that saves within KillWait leaves with 75: its script must not requeue itself.
        update_tasks(live, "Requeue=0")
        hit("slurm.before_scancel")
        problems: dict[TaskKey, str | None] = dict.fromkeys(keys)
        for start in range(0, len(live), SCANCEL_AT_ONCE):
            some = live[start : start + SCANCEL_AT_ONCE]
            said = control(["scancel", *map(name_of, some)])
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

    def release(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """`scontrol release`, one call an array. An administrator's hold is refused by Slurm."""
        queue = self._looks.for_acting().queue
        if isinstance(queue, str):
            return dict.fromkeys(keys, queue)
        problems: dict[TaskKey, str | None] = dict.fromkeys(keys)
        held = [key for key in keys if (row := ours(queue, key)) and row.state is TaskState.HELD]
        for array_id, group in by_array(held):
            indices = compress_ranges([key.index for key in group])
            said = control(["scontrol", "release", f"{array_id}_[{indices}]"])
            problems.update(dict.fromkeys(group, said))
        return problems

    def undelay(self, keys: Sequence[TaskKey]) -> Mapping[TaskKey, str | None]:
        """Let requeued tasks begin a moment after their requeue instead of two minutes.

        May be repeated: the new begin time does not depend on when it is asked for.
        """
        queue = self._looks.for_acting().queue
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
            problems.update(update_tasks(some, f"StartTime={begin}"))
        return problems

    def nodes(self) -> tuple[str, ...] | None:
        """Return the nodes of the site's partitions."""
        return self._nodes.names()

    def exclude(
        self, keys: Sequence[TaskKey], nodes: Sequence[str]
    ) -> Mapping[TaskKey, str | None]:
        """Set ExcNodeList of waiting tasks; the site's own list stays in it."""
        queue = self._looks.for_acting().queue
        if isinstance(queue, str):
            return dict.fromkeys(keys, queue)
        try:
            words = excluded_nodes(self.site, nodes)
        except Unfit as error:
            return dict.fromkeys(keys, str(error))
        waiting = frozenset({TaskState.PENDING, TaskState.DELAYED, TaskState.HELD})
        ready = [k for k in keys if (row := ours(queue, k)) and row.state in waiting]
        return {**dict.fromkeys(keys), **update_tasks(ready, f"ExcNodeList={words}")}

    def _steps(self, key: TaskKey) -> list[str] | str:
        """Return the steps of a running task of ours, or why there are none."""
        look = self._looks.for_acting()
        if isinstance(look.queue, str):
            return look.queue
        name, row = name_of(key), ours(look.queue, key)
        if row is None:
            return f"{name} is not ours (any more)"
        if row.state is not TaskState.RUNNING:
            return f"{name} is {row.word}"
        listed = self._looks.steps(look)
        if isinstance(listed, str):
            return listed
        pattern = re.compile(rf"{name}\.[0-9]+")  # not .batch, which is the script
        wanted = None if key.cell is None else f"cell-{key.cell}"
        steps = sorted(
            step
            for step, named in listed.items()
            if pattern.fullmatch(step) and wanted in (None, named)
        )
        return steps or f"{name} has not started its ranks yet"


def _unfit(error: Unfit) -> Refused:
    return Refused(reason=str(error), permanent=True, hint="site.yaml, or ORCH_HOME")


def _signal(number: str, steps: Sequence[str]) -> str | None:
    return control(["scancel", f"--signal={number}", *steps])


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
