"""`up`, `down` and `status` of a private Slurm in a directory of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from durable.files import publish_file
from durable.locks import Locked, SingleHolderLock
from orchestrator.devcluster import layout
from orchestrator.devcluster.commands import PATH, ask
from orchestrator.devcluster.config import PARTITIONS, ClusterOptions, ClusterPaths, node_names
from orchestrator.devcluster.daemons import DaemonBook, end, own_processes, wait_until
from orchestrator.devcluster.errors import ClusterError
from orchestrator.devcluster.ports import free_ports

PACKAGES = "slurm-wlm slurmdbd munge mariadb-server"
PROGRAMS = ("munged", "mariadbd", "mysql_install_db", "slurmdbd", "slurmctld", "slurmd", "sbatch")
TRIES = 3  # of starting, when somebody else took a port first
DEFAULT_ROOT = Path("/var/lib/orch-slurm")


def missing() -> str | None:
    """Return why no private cluster can be started here, or None."""
    if os.geteuid() != 0:
        return "a private Slurm needs root (munge and MariaDB run as users of their own)"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if lacking:
        return f"{', '.join(lacking)} not found; on Debian: apt-get install {PACKAGES}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """What is up. `answers`: the controller that answers is this cluster's own."""

    name: str | None
    daemons: tuple[str, ...]
    answers: bool
    nodes: tuple[str, ...]  # "n1 idle", …


class PrivateCluster:
    """A private Slurm; `say` hears one line for each thing done."""

    def __init__(self, root: Path, *, say: Callable[[str], None] = lambda _line: None) -> None:
        self.root = root.absolute()
        self.paths = ClusterPaths(self.root)
        self.say = say
        self._book = DaemonBook(self.paths.daemons, root=self.root)

    @property
    def environment(self) -> dict[str, str]:
        """What points Slurm's commands at this cluster."""
        return {"SLURM_CONF": str(self.paths.slurm_conf)}

    def up(self, options: ClusterOptions) -> None:
        """Start the cluster, or do nothing when it is up. Raises ClusterError.

        State of an earlier `down` (jobs, accounting) is still there.
        """
        why_not = missing()
        if why_not:
            raise ClusterError(why_not)
        layout.make_root(self.root)
        with self._locked():
            if self.status().answers:
                self.say(f"already up: {self.root}")
                return
            identity = self._identity()
            for attempt in range(1, TRIES + 1):
                try:
                    self._start(identity, options)
                except ClusterError as error:
                    self._stop(patience=5.0)
                    if attempt == TRIES or not self._port_was_taken():
                        raise
                    self.say(f"{error}; trying other ports")
                except BaseException:
                    self._stop(patience=5.0)
                    raise
                else:
                    return

    def down(self, *, purge: bool = False) -> None:
        """End this cluster's jobs and daemons, nobody else's; `purge` removes its directory."""
        if not self.paths.marker.exists():
            if self.root.exists():
                raise ClusterError(f"{self.root} is not a private cluster's directory")
            return
        with self._locked():
            if self.status().answers:
                self._end_jobs()
            self._stop(patience=15.0)
        if purge:
            # ours alone: the marker was there, and `make_root` refuses a directory of other things
            shutil.rmtree(self.root)

    def status(self) -> ClusterStatus:
        """Return what runs, without changing anything."""
        name = self._identity()["name"] if self.paths.marker.exists() else None
        alive = tuple(daemon.name for daemon in self._book.alive())
        answers = name is not None and bool(alive) and self._controller_name() == name
        nodes: tuple[str, ...] = ()
        if answers:
            listing = ask(["sinfo", "-h", "-N", "-o", "%N %t", "-p", "low"], self.environment)
            nodes = tuple(listing.out.splitlines())
        return ClusterStatus(name=name, daemons=alive, answers=answers, nodes=nodes)

    def start_daemon(self, name: str) -> None:
        """Start a daemon of a running cluster anew (tests kill some). Raises ClusterError."""
        layout.start_one(self._book, self.paths, name)

    def daemon_pid(self, name: str) -> int:
        """Return the pid of a running daemon, e.g. `slurmctld` or `slurmd.n1`."""
        for daemon in self._book.alive():
            if daemon.name == name:
                return daemon.identity.pid
        raise ClusterError(f"{name} does not run in {self.root}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = SingleHolderLock(self.paths.lock, about={"command": "slurm-cluster"})
        try:
            with lock:
                yield
        except Locked as error:
            raise ClusterError(str(error)) from error

    def _identity(self) -> dict[str, str]:
        """Return name and database password, made once for a directory."""
        if not self.paths.marker.exists():
            identity = {"name": f"orch{secrets.token_hex(4)}", "password": secrets.token_hex(16)}
            publish_file(self.paths.marker, json.dumps(identity).encode(), durable=False)
        identity = json.loads(self.paths.marker.read_bytes())
        return {"name": str(identity["name"]), "password": str(identity["password"])}

    def _start(self, identity: dict[str, str], options: ClusterOptions) -> None:
        end(own_processes(self.root), patience=5.0)  # of an `up` that was killed half-way
        ports = free_ports(options.nodes)
        host = socket.gethostname().split(".")[0]
        layout.write(self.paths, identity, ports, options, host=host)
        layout.start_one(self._book, self.paths, "munged")
        layout.make_database(self.paths)
        layout.start_one(self._book, self.paths, "mariadbd")
        self._await("munge", self.paths.munge_socket.is_socket)
        self._await("MariaDB", lambda: listens(ports.database))
        layout.start_one(self._book, self.paths, "slurmdbd")
        self._await("slurmdbd", lambda: listens(ports.accounting))
        self._register(identity["name"])
        layout.start_one(self._book, self.paths, "slurmctld")
        for node in node_names(options):
            layout.start_one(self._book, self.paths, f"slurmd.{node}")
        self._await("slurmctld", lambda: self._controller_name() == identity["name"])
        self._await("the nodes", lambda: self._nodes_are_idle(options), every=0.2)
        self.say(f"up: cluster {identity['name']}, {options.nodes} nodes, {self.root}")

    def _port_was_taken(self) -> bool:
        """Return whether some daemon met a port that somebody took after we had looked."""
        logs = [*self.paths.logs.glob("*"), self.paths.database / "mariadbd.log"]
        return any(b"already in use" in log.read_bytes() for log in logs if log.is_file())

    def _register(self, name: str) -> None:
        """Add the cluster to accounting; slurmdbd listens a little before it answers."""
        environment = self.environment
        add = ["sacctmgr", "-i", "add", "cluster", name]

        def added() -> bool:
            answer = ask(add, environment)
            if "fatal:" in answer.err:  # a setting of `extra` that Slurm does not take
                raise ClusterError(answer.err.strip().splitlines()[-1])
            return answer.ok or "already exists" in answer.out + answer.err

        self._await("slurmdbd", added, every=0.2)

    def _controller_name(self) -> str | None:
        """Return the ClusterName of the controller that answers."""
        answer = ask(["scontrol", "show", "config"], self.environment)
        for line in answer.out.splitlines() if answer.ok else ():
            key, _, value = line.partition("=")
            if key.strip() == "ClusterName":
                return value.strip()
        return None

    def _nodes_are_idle(self, options: ClusterOptions) -> bool:
        answer = ask(["sinfo", "-h", "-N", "-o", "%N %t", "-p", "high"], self.environment)
        states = dict(line.split() for line in answer.out.splitlines()) if answer.ok else {}
        usable = {"idle", "mix", "alloc", "comp"}
        return all(states.get(node) in usable for node in node_names(options))

    def _await(
        self, what: str, condition: Callable[[], bool], *, every: float = 0.05, seconds: float = 60
    ) -> None:
        """Wait for `condition`; raises ClusterError when a daemon ends or it takes too long."""
        started = {daemon.name for daemon in self._book.read()}

        def ready_or_broken() -> bool:
            return condition() or {daemon.name for daemon in self._book.alive()} != started

        wait_until(ready_or_broken, seconds, every=every)
        if not condition():
            gone = sorted(started - {daemon.name for daemon in self._book.alive()})
            ended = f"{', '.join(gone)} ended; " if gone else ""
            raise ClusterError(f"{what} did not come up: {ended}see the logs in {self.paths.logs}")

    def _end_jobs(self) -> None:
        """Cancel every job, so that slurmd ends the steps while it lives; do not wait long."""
        for partition in PARTITIONS:
            for how in (["--state=RUNNING", "--signal=KILL", "--full"], []):
                ask(["scancel", f"--partition={partition}", *how], self.environment)

        def idle() -> bool:
            return not ask(["squeue", "-h", "-o", "%i"], self.environment).out.strip()

        wait_until(idle, 8.0, every=0.2)

    def _stop(self, *, patience: float) -> None:
        """End daemons top down, then whatever else carries the cluster's mark."""
        alive, everything = self._book.alive(), own_processes(self.root)
        for kind in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
            end([d.identity for d in alive if d.name.partition(".")[0] == kind], patience=patience)
        left = end([*everything, *own_processes(self.root)], patience=2.0)
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise ClusterError(f"could not end processes {pids} of {self.root}")
        self._book.forget()
        self.say(f"down: {self.root}")


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
