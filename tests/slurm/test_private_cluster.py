"""`scripts/slurm-cluster`: up, status, env, down, beside other clusters."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.devcluster.daemons import own_processes
from tests.slurm.private_cluster import until

pytestmark = pytest.mark.slurm
SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm-cluster"


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run([str(SCRIPT), *words], capture_output=True, text=True, timeout=120)


@pytest.fixture
def directory(slurm_cluster: PrivateCluster) -> Iterator[Path]:
    """A directory for a second cluster."""
    root = Path(tempfile.mkdtemp(prefix="orch-slurm-second-", dir="/var/tmp"))
    root.chmod(0o755)
    yield root
    PrivateCluster(root).down() if (root / "cluster.json").exists() else None
    shutil.rmtree(root, ignore_errors=True)


def test_a_second_cluster_stands_beside_the_first(
    slurm_cluster: PrivateCluster, directory: Path
) -> None:
    """Up twice, a job, env, down twice; the first cluster does not notice; nothing is left."""
    where = ["--dir", str(directory), "--nodes", "2"]
    started = time.monotonic()
    up = command("up", *where)
    print(f"\nup in {time.monotonic() - started:.1f} s")
    assert up.returncode == 0, up.stderr
    assert "already up" in command("up", *where).stderr
    assert command("status", *where[:2]).returncode == 0

    lines = command("env", *where[:2]).stdout
    assert lines == f"export SLURM_CONF={directory}/etc/slurm.conf\n"
    run = f'eval "$({SCRIPT} env --dir {directory})"; srun -N2 -n2 hostname; sinfo -h -o "%P %F"'
    environment = {key: value for key, value in os.environ.items() if key != "SLURM_CONF"}
    ran = subprocess.run(["bash", "-c", run], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 2 + 4

    first = slurm_cluster.status()
    assert first.name != PrivateCluster(directory).status().name

    assert command("down", *where[:2]).returncode == 0
    assert command("down", *where[:2]).returncode == 0
    assert own_processes(directory) == []
    assert (directory / "cluster.json").exists()  # `down` removes nothing
    assert slurm_cluster.status() == first


def test_down_ends_running_jobs_and_up_finds_the_old_state(directory: Path) -> None:
    """Steps do not outlive their cluster; accounting does."""
    cluster = PrivateCluster(directory)
    assert command("up", "--dir", str(directory)).returncode == 0
    environment = {**os.environ, **cluster.environment}
    batch = ["sbatch", "-n2", "--output=/dev/null", "--wrap=srun sleep 1234"]
    subprocess.run(batch, env=environment, check=True, capture_output=True)
    deadline = time.monotonic() + 30
    while not any(b"1234" in _cmdline(p.pid) for p in own_processes(directory)):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert command("down", "--dir", str(directory)).returncode == 0
    assert own_processes(directory) == []

    assert command("up", "--dir", str(directory)).returncode == 0
    asked = ["sacct", "-X", "-n", "-S", "now-1hours", "-o", "JobName"]
    until(
        lambda: b"wrap" in subprocess.run(asked, env=environment, capture_output=True).stdout,
        "accounting to tell of the job before",
        seconds=20,
    )


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_up_fails_when_a_daemon_cannot_start(directory: Path) -> None:
    """The message names the logs, and nothing is left running."""
    up = command("up", "--dir", str(directory), "--set", "SlurmctldPort=1-x")

    assert up.returncode == 1
    assert str(directory) in up.stderr
    assert own_processes(directory) == []
