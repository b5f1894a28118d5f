"""How much slurmctld is asked while nothing changes, counted by slurmctld itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.devcluster.cluster import PrivateCluster
from orchestrator.facts import Limits
from orchestrator.interval import CLUSTER
from orchestrator.reconcile import Moment, reconcile
from orchestrator.recordings import Recordings
from orchestrator.schedulers.slurm_replay import answers_of
from orchestrator.service import Service
from orchestrator.tick_recorder import words_of
from tests.contract.stub import make_matrix
from tests.slurm.private_cluster import StubJobs, slurm, until

pytestmark = pytest.mark.slurm
SECONDS, TERMINALS = 60.0, 3
ASKING = (
    "JOB_INFO",
    "JOB_USER_INFO",
    "PARTITION_INFO",
    "JOB_STEP_INFO",
    "FED_INFO",
    "PING",
    "BUILD_INFO",
)


@contextmanager
def watching(jobs: StubJobs) -> Iterator[None]:
    """A watcher at its real pace."""
    stop = threading.Event()

    def run() -> None:
        service = Service.open(jobs.home, scheduler=jobs.scheduler)
        try:
            service.watch(until_idle=False, on_tick=lambda report: None, stop=stop)
        finally:
            service.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def asked() -> dict[str, int]:
    """Return how often each question was put to slurmctld since its counters were reset."""
    found = re.findall(r"REQUEST_(\w+)\s+\(\s*\d+\)\s+count:(\d+)", slurm("sdiag"))
    return {name: int(count) for name, count in found if name in ASKING}


def test_a_steady_watcher_and_many_terminals_ask_at_most_four_times_a_minute(
    slurm_cluster: PrivateCluster, stub_jobs: StubJobs
) -> None:
    """`watch -n1 orch status` in several terminals adds nothing; and the recording replays."""
    specs = stub_jobs.specs(2, steps=4000)
    service = Service.open(stub_jobs.home, scheduler=stub_jobs.scheduler)
    service.submit([make_matrix(specs)])
    environment = {**os.environ, "ORCH_HOME": str(stub_jobs.home)}
    with watching(stub_jobs):
        until(lambda: {row.state.value for row in service.rows()} == {"RUNNING"}, "both to run")
        time.sleep(CLUSTER.lively + CLUSTER.quick)
        slurm("sdiag", "--reset")
        end = time.monotonic() + SECONDS
        shown = 0
        while time.monotonic() < end:
            children = [
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "orchestrator", "status"],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
                for _ in range(TERMINALS)
            ]
            for child in children:
                text = child.communicate()[0]
                assert "slurm: seen " in text, text
                shown += 1
            time.sleep(1.0)
        counts = asked()
        print(f"\n{shown} x orch status and one watcher in {SECONDS:g} s: {counts}")
        assert 0 < sum(counts.values()) <= 4 * SECONDS / 60

    replayed = 0
    for recording in Recordings(service.state).read():
        keys = [case.job.task.key for case in recording.cases]
        answers = answers_of(recording.heard, keys)
        for case in recording.cases:
            actions = reconcile(
                case.job,
                answers[case.job.task.key],
                case.evidence,
                Moment(now=case.now, resumed=case.resumed),
                patience=stub_jobs.scheduler.patience,
                limits=Limits(),
            )
            assert words_of(actions) == case.decided
            replayed += 1
    assert replayed >= 2
