"""Fixtures of the end-to-end tests: one warm fork-server for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.forkserver import ForkServer


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """A process that has imported torch and friends once; ranks are forked from it."""
    with ForkServer.start(env={"HF_HUB_OFFLINE": "1"}) as server:
        yield server
