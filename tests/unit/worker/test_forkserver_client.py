"""The fork-server's client is part of the launcher, which must start at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from worker.forkserver import ForkServer, ForkServerDied


def test_the_client_imports_nothing_heavy() -> None:
    """The launcher starts a rank; it never waits for torch itself."""
    code = "import sys, worker.forkserver; sys.exit('torch' in sys.modules)"

    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_a_missing_server_is_said_to_be_gone(tmp_path: Path) -> None:
    """The message names the socket."""
    with pytest.raises(ForkServerDied, match=r"fork\.sock"):
        ForkServer.attach(tmp_path / "fork.sock").run({}, [], tmp_path / "output")
