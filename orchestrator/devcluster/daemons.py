"""The daemons of a private cluster: started, remembered by identity, ended, nobody else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from durable.files import publish_file
from durable.processes import ProcessIdentity
from orchestrator.devcluster.errors import ClusterError

# In the environment of every daemon: `down` knows by it what belongs to this cluster even when
# `up` was killed before it could write the book.
MARK = "ORCH_SLURM_CLUSTER_DAEMON_OF"
BOTTOM_UP = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """One running program of the cluster."""

    name: str
    identity: ProcessIdentity


class DaemonBook:
    """daemons.json: who was started. Written after each start, read by `down` and `status`."""

    def __init__(self, path: Path, *, root: Path) -> None:
        self.path = path
        self.root = root

    def read(self) -> list[Daemon]:
        """Return what was recorded, alive or not."""
        try:
            rows = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return []
        return [
            Daemon(name=row["name"], identity=ProcessIdentity(**row["identity"])) for row in rows
        ]

    def alive(self) -> list[Daemon]:
        """Return the recorded daemons that still run."""
        return [daemon for daemon in self.read() if daemon.identity.alive()]

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, user: str | None
    ) -> Daemon:
        """Start a daemon in a session of its own and record it; raises ClusterError."""
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**env, MARK: str(self.root)},
                    cwd="/",
                    start_new_session=True,
                    user=user,
                    group=user,
                    extra_groups=[] if user else None,
                )
            except OSError as error:
                raise ClusterError(f"{name} could not be started: {error}") from error
        identity = ProcessIdentity.of(process.pid)
        if identity is None or process.poll() is not None:
            raise ClusterError(f"{name} ended at once; see {log}")
        daemon = Daemon(name=name, identity=identity)
        rows = [asdict(entry) for entry in [*self.alive(), daemon]]
        publish_file(self.path, json.dumps(rows, indent=1).encode(), durable=False)
        return daemon

    def forget(self) -> None:
        """Record that nothing runs."""
        publish_file(self.path, b"[]", durable=False)


def own_processes(root: Path) -> list[ProcessIdentity]:
    """Return this cluster's daemons, its job steps and what these started, but not ourselves.

    A daemon carries the mark in its environment. A slurmstepd has overwritten its environment
    with its title, but holds its slurmd's log file below `root` open.
    """
    mark, logs = f"{MARK}={root}".encode(), f"{root}/log/"
    parents: dict[int, int] = {}
    ours: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            stat = (entry / "stat").read_text(errors="replace")
            parents[int(entry.name)] = int(stat[stat.rindex(")") + 2 :].split()[1])
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
            if marked or (
                b"slurmstepd" in (entry / "cmdline").read_bytes()[:12]
                and any(
                    str(descriptor.readlink()).startswith(logs)
                    for descriptor in (entry / "fd").iterdir()
                )
            ):
                ours.add(int(entry.name))
        except OSError:
            continue  # it ended, or is not ours to read
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    found = (ProcessIdentity.of(pid) for pid in ours - {os.getpid()})
    return [identity for identity in found if identity is not None]


def end(processes: Sequence[ProcessIdentity], *, patience: float) -> list[ProcessIdentity]:
    """SIGTERM, wait up to `patience` seconds, SIGKILL; return those that are still there."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        left = [process for process in processes if process.alive()]
        for process in left:
            process.signal(number)
        wait_until(lambda: not any(process.alive() for process in processes), seconds)
    return [process for process in processes if process.alive()]


def wait_until(condition: Callable[[], bool], seconds: float, *, every: float = 0.05) -> bool:
    """Return whether `condition` came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
