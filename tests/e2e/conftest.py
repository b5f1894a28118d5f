"""Fixtures of the end-to-end tests: one warm fork-server for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exactness.generation import RUN
from worker.forkserver import ForkServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """A process that has imported torch and friends once; ranks are forked from it."""
    env = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    with ForkServer.start(env=env, also=(RUN,)) as server:
        yield server
