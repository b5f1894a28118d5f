"""How much this cluster takes: in one array, and from one user at once.

Read from the cluster; every answer is optional. What is not known, or is wrong, is learned from
refusals (`orchestrator.pacing`), so silence here never stops a submission.
"""

from __future__ import annotations

import math
import os
import pwd
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from durable.clock import Clock
from orchestrator.schedulers.slurm_commands import Broken, run
from orchestrator.site_schema import Site

ASK_SECONDS = 20.0
LIMITS_SECONDS = 3600.0  # how long an answer is believed
NO_LIMITS_SECONDS = 300.0  # how long it is believed that there is none
DEFAULT_MAX_ARRAY = 1001  # Slurm's own
LARGEST_CHUNK = 10_000  # what one uncertain outcome may delay, and one tasks.json holds
_SETTING = re.compile(r"^(\w+)\s*=[ \t]*(.*)$", re.MULTILINE)
_ARRAY_TASKS = re.compile(r"\bmax_array_tasks=([0-9]{1,9})\b")
_USUAL_QOS = "normal"  # where neither the site nor the association names one


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLimits:
    """What `scontrol show config` says."""

    max_array: int = DEFAULT_MAX_ARRAY  # one more than the highest index
    max_array_tasks: int | None = None  # SchedulerParameters
    max_jobs: int | None = None  # MaxJobCount, of all users
    enforced: bool = False  # submit limits of associations and QOS count

    @property
    def chunk(self) -> int:
        """Tasks that one array may have."""
        bounds = [LARGEST_CHUNK, self.max_array - 1, self.max_array_tasks]
        # an array that fills the controller's table would wait for every other job to be gone
        bounds.append(self.max_jobs // 2 if self.max_jobs else None)
        return max(1, min(bound for bound in bounds if bound is not None))


def parse_config(text: str) -> ClusterLimits | None:
    """Return the limits that a `scontrol show config` states; None if it is no such text."""
    said = dict(_SETTING.findall(text))
    if not said.get("MaxArraySize", "").isdecimal():
        return None
    tasks = _ARRAY_TASKS.search(said.get("SchedulerParameters", ""))
    jobs = said.get("MaxJobCount", "")
    enforced = said.get("AccountingStorageEnforce", "").lower().split(",")
    return ClusterLimits(
        max_array=int(said["MaxArraySize"]),
        max_array_tasks=int(tasks[1]) if tasks else None,
        max_jobs=int(jobs) if jobs.isdecimal() else None,
        enforced=bool({"limits", "safe", "all"} & {word.strip() for word in enforced}),
    )


def read_cluster_limits() -> ClusterLimits | None:
    """Ask the controller; None when it does not answer."""
    said = run(["scontrol", "show", "config"], seconds=ASK_SECONDS)
    return None if isinstance(said, Broken) or said.code != 0 else parse_config(said.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """One row of the user's associations."""

    account: str
    partition: str
    default_qos: str
    max_submit: int | None


def read_submit_limit(site: Site) -> int | None:
    """Return how many tasks this user may have at once as `site` submits; None: nobody says.

    Two questions to accounting, none to the controller.
    """
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None
    associations = list(_associations(_sacctmgr("assoc", _ASSOC_FIELDS, f"user={user}")))
    by_qos = {row[0]: _smallest(row[1:]) for row in _sacctmgr("qos", _QOS_FIELDS)}
    return submit_limit(site, associations, by_qos)


_ASSOC_FIELDS = ("account", "partition", "defaultqos", "maxsubmit", "grpsubmit")
_QOS_FIELDS = ("name", "maxsubmitpu", "maxsubmitpa", "grpsubmit")


def submit_limit(
    site: Site, associations: Iterable[Association], by_qos: dict[str, int | None]
) -> int | None:
    """Return the limit that holds for the site's account, partitions and QOS. Pure.

    Where several associations may be meant (no `account` in site.yaml), the most generous one
    counts: a limit that is too high is corrected by a refusal, one too low would never be noticed.
    """
    limits = [
        _smallest_of(a.max_submit, by_qos.get(site.qos or a.default_qos or _USUAL_QOS))
        for a in associations
        if (site.account is None or a.account.lower() == site.account.lower())
        and (not a.partition or a.partition in site.partition)
    ]
    known = [limit for limit in limits if limit is not None]
    return max(known) if known and len(known) == len(limits) else None


def _associations(rows: Iterable[list[str]]) -> Iterator[Association]:
    for account, partition, default_qos, max_submit, grp_submit in rows:
        yield Association(
            account=account,
            partition=partition,
            default_qos=default_qos,
            max_submit=_smallest((max_submit, grp_submit)),
        )


def _sacctmgr(what: str, fields: tuple[str, ...], *where: str) -> list[list[str]]:
    """Return the rows of a listing; none when it fails or is garbled."""
    command = ["sacctmgr", "--noheader", "--parsable2", "--readonly", "show", what]
    command += [f"format={','.join(fields)}", *(["where", *where] if where else [])]
    said = run(command, seconds=ASK_SECONDS)
    if isinstance(said, Broken) or said.code != 0:
        return []
    rows = [line.split("|") for line in said.out.splitlines() if line]
    return rows if all(len(row) == len(fields) for row in rows) else []


def _smallest(cells: Iterable[str]) -> int | None:
    """Return the smallest number among cells; empty ones are no limit."""
    return _smallest_of(*(int(cell) if cell.isdecimal() else None for cell in cells))


def _smallest_of(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


class LimitReader:
    """The limits of one site, asked for rarely."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock
        self._cluster: ClusterLimits | None = None
        self._cluster_until = -math.inf  # monotonic
        self._submit: int | None = None
        self._submit_until = -math.inf

    def cluster(self) -> ClusterLimits:
        """Return what the controller said last, or Slurm's defaults."""
        now = self._clock.monotonic()
        if now >= self._cluster_until:
            said = read_cluster_limits()
            self._cluster = said or self._cluster
            self._cluster_until = now + (LIMITS_SECONDS if said else NO_LIMITS_SECONDS)
        return self._cluster or ClusterLimits()

    def submit_limit(self) -> int | None:
        """Return how many tasks the user may have at once; None where nobody says or enforces."""
        if not self.cluster().enforced:
            return None
        now = self._clock.monotonic()
        if now >= self._submit_until:
            self._submit = said = read_submit_limit(self._site)
            self._submit_until = now + (LIMITS_SECONDS if said else NO_LIMITS_SECONDS)
        return self._submit
