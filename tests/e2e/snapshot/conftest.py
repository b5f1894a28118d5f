"""One warm fork-server for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.snapshot.runs import RUN
from worker.forkserver import ForkServer

ROOT = Path(__file__).parent.parent.parent.parent
PROBES = ("report", "leave", "loop", "generators")


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Yield a warm server that may run the tests' trainings and probes."""
    probes = [f"tests.e2e.snapshot.probes:{name}" for name in PROBES]
    with ForkServer.start(env={"PYTHONPATH": str(ROOT)}, also=(RUN, *probes)) as warm:
        yield warm
