"""A private Slurm that enforces submit limits, and what happened under them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.devcluster.config import ClusterOptions
from orchestrator.service import Service
from tests.slurm.private_cluster import slurm, start_cluster
from tests.slurm.stub_matrix import StubMatrix

ACCOUNT, QOS = "lab", "short"
SITE = {"account": ACCOUNT, "qos": QOS}


def start_limited(max_submit: int, *, nodes: int = 4) -> None:
    """Start a cluster on which this user may have `max_submit` jobs at once, by account and QOS.

    Leaves the process where there can be none.
    """
    enforce = {"AccountingStorageEnforce": "associations,limits,qos"}
    cluster = start_cluster(ClusterOptions(nodes=nodes, extra=enforce))
    if isinstance(cluster, str):
        raise SystemExit(cluster)
    os.environ["SLURM_CONF"] = str(cluster.paths.slurm_conf)
    for words in (
        ("add", "account", ACCOUNT),
        ("add", "user", "root", f"account={ACCOUNT}"),
        ("add", "qos", QOS, f"maxsubmitjobsperuser={max_submit}"),
        ("modify", "user", "root", "where", f"account={ACCOUNT}", "set", f"qos={QOS}"),
        ("modify", "user", "root", "where", f"account={ACCOUNT}", "set", f"defaultqos={QOS}"),
    ):
        slurm("sacctmgr", "--immediate", *words)


def sbatch_calls(matrix: StubMatrix) -> Counter[str]:
    """Return how often sbatch accepted and refused, from the journal."""
    service = Service.open(matrix.home)
    try:
        return Counter(e.decision for e in service.events() if e.kind == "submission")
    finally:
        service.close()


class Crowd:
    """The most tasks that Slurm had at once, as a look every two seconds saw it."""

    def __init__(self) -> None:
        self.most = 0
        self._stop = threading.Event()

    def _count(self) -> None:
        while not self._stop.wait(2.0):
            listed = slurm("squeue", "--noheader", "--array", "--format=%i").split()
            self.most = max(self.most, len(listed))

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count meanwhile."""
        thread = threading.Thread(target=self._count)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
