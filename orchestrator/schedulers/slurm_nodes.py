"""Slurm's nodes, and whose word a cancel is: asked rarely, remembered for an hour."""

from __future__ import annotations

import os
import pwd
import re

from durable.clock import Clock
from orchestrator.schedulers.slurm_commands import Broken, run
from orchestrator.site_schema import Site

CONTROL_SECONDS = 20.0
BELIEVED_SECONDS = 3600.0
ROOT = frozenset({0})
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_SLURM_USER = re.compile(r"^SlurmUser\s*=\s*(\S+?)(?:\(([0-9]{1,10})\))?$", re.MULTILINE)


class SlurmNodes:
    """What a cluster is made of, for an hour at a time."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock
        self._nodes: tuple[float, tuple[str, ...] | None] | None = None
        self._uids: frozenset[int] | None = None

    def names(self) -> tuple[str, ...] | None:
        """Return the nodes of the site's partitions (or of all); None when Slurm does not say."""
        now = self._clock.monotonic()
        if self._nodes is None or now - self._nodes[0] > BELIEVED_SECONDS:
            self._nodes = (now, self._ask())
        return self._nodes[1]

    def _ask(self) -> tuple[str, ...] | None:
        command = ["sinfo", "--noheader", "--Node", "--format=%N"]
        if self._site.partition:
            command.append(f"--partition={','.join(self._site.partition)}")
        said = run(command, seconds=CONTROL_SECONDS)
        if isinstance(said, Broken) or said.code != 0:
            return None
        words = said.out.split()
        if not words or not all(_NODE.fullmatch(word) for word in words):
            return None
        return tuple(sorted(set(words)))

    def site_uids(self) -> frozenset[int]:
        """Return whose cancels are the site's: root's and SlurmUser's, unless that is ourselves."""
        if self._uids is None:
            said = run(["scontrol", "show", "config"], seconds=CONTROL_SECONDS)
            match = None if isinstance(said, Broken) else _SLURM_USER.search(said.out)
            if match is None:
                return ROOT - {os.getuid()}  # ask again the next time
            self._uids = (ROOT | _uid(match[1], match[2])) - {os.getuid()}
        return self._uids


def _uid(name: str, number: str | None) -> frozenset[int]:
    if number is not None:
        return frozenset({int(number)})
    try:
        return frozenset({pwd.getpwnam(name).pw_uid})
    except KeyError:
        return frozenset()
