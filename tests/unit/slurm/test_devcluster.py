"""The private cluster's configuration and its refusals; the real one is in tests/slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from durable.processes import ProcessIdentity
from orchestrator.devcluster import layout
from orchestrator.devcluster.__main__ import main, options, parser
from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.devcluster.config import (
    ClusterOptions,
    ClusterPaths,
    Ports,
    slurm_conf,
    slurmdbd_conf,
)
from orchestrator.devcluster.daemons import MARK, DaemonBook, end, own_processes
from orchestrator.devcluster.errors import ClusterError
from orchestrator.devcluster.layout import make_database, make_root
from orchestrator.devcluster.ports import free_ports

PORTS = Ports(controller=1, accounting=2, database=3, nodes=(4, 5))


def conf(**changes: object) -> str:
    """Return slurm.conf of a cluster of two nodes."""
    wanted = ClusterOptions(**{"nodes": 2, **changes})  # type: ignore[arg-type]
    paths = ClusterPaths(Path("/c"))
    return slurm_conf(name="x", host="h", ports=PORTS, paths=paths, options=wanted)


def test_the_partitions_cover_what_sites_do() -> None:
    """REQUEUE with grace, CANCEL with grace, REQUEUE without grace, and one that preempts."""
    lines = [line for line in conf(grace=7).splitlines() if line.startswith("PartitionName=")]

    assert [line.split()[0] for line in lines] == [
        "PartitionName=low",
        "PartitionName=lowcancel",
        "PartitionName=lownograce",
        "PartitionName=high",
    ]
    assert "PreemptMode=REQUEUE GraceTime=7" in lines[0]
    assert "PreemptMode=CANCEL GraceTime=7" in lines[1]
    assert "GraceTime=0" in lines[2]
    assert "PriorityTier=10 PreemptMode=OFF" in lines[3]


def test_further_settings_replace_ours() -> None:
    """`--set MaxJobCount=2` does not leave two lines."""
    text = conf(extra={"MaxJobCount": "2", "Epilog": "/bin/true"})

    assert [line for line in text.splitlines() if line.startswith("MaxJobCount")] == [
        "MaxJobCount=2"
    ]
    assert "Epilog=/bin/true" in text


def test_slurmdbd_is_named_by_host_and_bound_to_loopback() -> None:
    """DbdHost=127.0.0.1 is refused by slurmdbd."""
    text = slurmdbd_conf(host="h", ports=PORTS, paths=ClusterPaths(Path("/c")), password="p")

    assert "DbdHost=h\nDbdAddr=127.0.0.1\n" in text


def test_ports_are_free_and_distinct() -> None:
    """Several clusters may stand side by side."""
    ports = free_ports(4)
    numbers = {ports.controller, ports.accounting, ports.database, *ports.nodes}

    assert len(numbers) == 7
    assert all(10_000 <= number < 32_000 for number in numbers)


@pytest.mark.parametrize("name", ["x" * 80, "a b"])
def test_a_directory_that_will_not_do_says_why(tmp_path: Path, name: str) -> None:
    """Too long for a socket, or not writable in slurm.conf."""
    with pytest.raises(ClusterError, match="--dir"):
        make_root(tmp_path / name)


def test_a_directory_with_other_things_is_left_alone(tmp_path: Path) -> None:
    """`up` and `down` work in a directory of their own."""
    (tmp_path / "thesis.tex").write_text("x")

    with pytest.raises(ClusterError):
        make_root(tmp_path)
    with pytest.raises(ClusterError, match="not a private cluster"):
        PrivateCluster(tmp_path).down(purge=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_cluster_that_never_was_is_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`down` may be repeated; `status` and `env` say so by exit code."""
    where = ["--dir", str(tmp_path / "none")]

    assert main(["down", *where]) == 0
    assert main(["status", *where]) == 1
    assert main(["env", *where]) == 1
    assert "not up" in capsys.readouterr().err


@pytest.mark.parametrize("extra", ["x", "A=", "A\nB=1", "A=\x1b"])
def test_settings_of_the_command_line_are_checked(extra: str) -> None:
    """They become lines of slurm.conf."""
    with pytest.raises(ClusterError):
        options(parser().parse_args(["up", "--set", extra]))


def test_only_ones_own_processes_are_ended(tmp_path: Path) -> None:
    """A daemon is known by its mark, its children by their parent, a stranger not at all."""
    sleep = [sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"]
    with (tmp_path / "log").open("wb") as log:
        log.close()
        book = DaemonBook(tmp_path / "daemons.json", root=tmp_path)
        ours = book.start("slurmd.n1", sleep, env={}, log=tmp_path / "log", user=None)
    stranger = subprocess.Popen(["sleep", "60"], env={MARK: f"{tmp_path}x"})
    try:
        found = own_processes(tmp_path)
        assert ours.identity in found
        assert stranger.pid not in {process.pid for process in found}
        assert book.alive() == [ours]

        assert end(own_processes(tmp_path), patience=2) == []

        assert book.alive() == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        ours.identity.signal(signal.SIGKILL)


def test_a_reused_pid_is_not_ours(tmp_path: Path) -> None:
    """An old book names a number that is somebody else's now."""
    me = ProcessIdentity.current()
    book = DaemonBook(tmp_path / "daemons.json", root=tmp_path)
    book.path.write_text(
        '[{"name": "slurmctld", "identity":'
        f' {{"boot_id": "{me.boot_id}", "pid": {os.getpid()}, "start": {me.start - 1}}}}}]'
    )

    assert book.alive() == []


def test_a_database_that_was_not_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A throw-away cluster's logs go with it, so their end is in the message."""
    maker = tmp_path / "mysql_install_db"
    maker.write_text("#!/bin/sh\necho first\nfor n in 1 2 3 4; do echo no space; done\nexit 1\n")
    maker.chmod(0o755)
    monkeypatch.setattr(
        layout, "clean_environment", lambda _: {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    paths = ClusterPaths(tmp_path)
    paths.logs.mkdir()
    paths.database.mkdir()

    with pytest.raises(ClusterError, match=r"mysql_install_db\.log\nfirst\nno space"):
        make_database(paths)
