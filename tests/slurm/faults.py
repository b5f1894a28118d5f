"""What a hostile cluster does, by hand: to the private Slurm, its nodes, ranks and the watcher."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

from durable.processes import ProcessIdentity
from jobs.contract.paths import JobDir
from jobs.contract.records import BadRecord, EpochRecord, read_record
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.devcluster.errors import ClusterError
from tests.slurm.private_cluster import NODES

STAYS_SECONDS = 3.0  # a daemon that is to fail at its start has done so
BACK_SECONDS = 120.0  # accounting, without which slurmctld may not begin, is away for 40 s at most


class Faults:
    """Each method does one thing and returns what it did in words; `heal` undoes what is left."""

    def __init__(self, cluster: PrivateCluster, jobs: list[JobDir], random: Random) -> None:
        self.cluster, self.jobs, self.random = cluster, jobs, random
        self._later: list[threading.Timer] = []
        self._busy: set[str] = set()  # daemons that are down or stopped just now

    def preempt(self, seconds: float = 5.0, nodes: int | None = None) -> str:
        """A job in `high` takes whole nodes for a while."""
        count = nodes or self.random.randint(1, NODES - 1)
        words = ["sbatch", "--partition=high", f"--nodes={count}", "--exclusive"]
        words += ["--output=/dev/null", f"--wrap=sleep {seconds:g}"]
        return f"preempt {count} nodes" if _asked(words) else "nothing"

    def kill_ranks(self) -> str:
        """SIGKILL reaches the ranks of one running task, as an administrator's script does."""
        listed = _output(["squeue", "--noheader", "--steps", "--partition=low", "--format=%i"])
        steps = [word for word in listed.split() if word.endswith(".0")]
        if not steps:
            return "nothing"
        step = self.random.choice(steps)
        return "kill ranks" if _asked(["scancel", "--signal=KILL", step]) else "nothing"

    def stop_rank(self, seconds: float = 20.0) -> str:
        """A rank stands still for a while: a machine that swaps, a frozen filesystem."""
        identity = self._holder()
        if identity is None:
            return "nothing"
        identity.signal(signal.SIGSTOP)
        self._in(seconds, partial(identity.signal, signal.SIGCONT))
        return "stop a rank"

    def lose_node(self, seconds: float | None = None, node: str | None = None) -> str:
        """A node's slurmd is gone, the payload lives on: it only looked dead (V8)."""
        name = f"slurmd.{node or f'n{self.random.randint(1, NODES)}'}"
        return self._kill(name, seconds or self.random.uniform(5, 45))

    def kill_controller(self, seconds: float | None = None) -> str:
        """slurmctld dies and comes back with what it had saved (V1)."""
        return self._kill("slurmctld", seconds or self.random.uniform(1, 8))

    def cut_power(self, node: str, seconds: float) -> str:
        """A node is gone with all that runs on it; its slurmd comes back after `seconds`."""
        name = f"slurmd.{node}"
        payload = _payload(self.cluster.paths.logs / f"{name}.log")
        did = self._kill(name, seconds)
        for pid in payload:  # slurmstepds first: none may report how its ranks ended
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return did

    def kill_accounting(self, seconds: float | None = None) -> str:
        """slurmdbd is down for a while."""
        return self._kill("slurmdbd", seconds or self.random.uniform(10, 40))

    def stop_controller(self, seconds: float | None = None) -> str:
        """slurmctld hangs: what it accepts now it acknowledges to nobody (V2)."""
        if "slurmctld" in self._busy:
            return "nothing"
        pid = self.cluster.daemon_pid("slurmctld")
        self._busy.add("slurmctld")
        os.kill(pid, signal.SIGSTOP)

        def go_on() -> None:
            os.kill(pid, signal.SIGCONT)
            self._busy.discard("slurmctld")

        self._in(seconds or self.random.uniform(3, 15), go_on)
        return "stop slurmctld"

    def heal(self) -> None:
        """Wait until everything that was to come back has come back."""
        for timer in self._later:
            timer.join()
        for daemon in self._daemons():
            if not self._lives(daemon):
                self._start(daemon)
        assert self.cluster.status().answers, (
            f"slurmctld is not back; see {self.cluster.paths.logs}"
        )

    def _kill(self, daemon: str, seconds: float) -> str:
        if daemon in self._busy:
            return "nothing"
        self._busy.add(daemon)
        try:
            os.kill(self.cluster.daemon_pid(daemon), signal.SIGKILL)
        except (ClusterError, ProcessLookupError):
            self._busy.discard(daemon)
            return "nothing"
        self._in(seconds, lambda: self._start(daemon))
        return f"kill {daemon.partition('.')[0]}"

    def _daemons(self) -> list[str]:
        """Return all daemons that faults kill, in the order in which they need each other."""
        return ["slurmdbd", "slurmctld", *(f"slurmd.n{n}" for n in range(1, NODES + 1))]

    def _start(self, daemon: str) -> None:
        """Start a daemon anew until it stays.

        One that begins at once may meet what the killed one left (a bound port, a locked state
        directory) or miss what it needs (slurmctld without accounting), and ends after a second.
        """
        deadline = time.monotonic() + BACK_SECONDS
        while not self._stays(daemon) and time.monotonic() < deadline:
            with suppress(ClusterError), _BOOK:  # daemons.json is rewritten by each start
                if not self._lives(daemon):
                    self.cluster.start_daemon(daemon)
        self._busy.discard(daemon)

    def _lives(self, daemon: str) -> bool:
        try:
            self.cluster.daemon_pid(daemon)
        except ClusterError:
            return False
        return True

    def _stays(self, daemon: str) -> bool:
        """Return whether it lives through its first seconds; of slurmctld: whether it answers."""
        end = time.monotonic() + STAYS_SECONDS
        while time.monotonic() < end:
            if not self._lives(daemon):
                time.sleep(0.5)
                return False
            time.sleep(0.5)
        return daemon != "slurmctld" or self.cluster.status().answers

    def _in(self, seconds: float, do: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, do)
        timer.start()
        self._later.append(timer)

    def _holder(self) -> ProcessIdentity | None:
        """Return a process that holds a job and runs."""
        for job in self.random.sample(self.jobs, len(self.jobs)):
            claims = sorted(job.epochs.glob("*.json")) if job.epochs.is_dir() else []
            if not claims or job.result.exists():
                continue
            with suppress(BadRecord):
                claim = read_record(claims[-1], EpochRecord)
                if claim is not None:
                    me = ProcessIdentity(claim.boot_id, claim.pid, claim.pid_start)
                    if me.alive() and not me.stopped():
                        return me
        return None


_BOOK = threading.Lock()


def _payload(log: Path) -> list[int]:
    """Return the slurmstepds that hold a slurmd's log open, then all that they started."""
    children: dict[int, list[int]] = {}
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid, stat = int(entry.name), (entry / "stat").read_text(errors="replace")
            children.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(pid)
            if (entry / "cmdline").read_bytes().startswith(b"slurmstepd") and any(
                descriptor.readlink() == log for descriptor in (entry / "fd").iterdir()
            ):
                found.append(pid)
    for pid in found:  # grows while it is read
        found += [child for child in children.get(pid, []) if child not in found]
    return found


def _asked(words: list[str]) -> bool:
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(words, capture_output=True, timeout=10, check=False).returncode == 0
    return False


def _output(words: list[str]) -> str:
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=False).stdout
    return ""
