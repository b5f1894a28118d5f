"""Stand-ins for Slurm's commands on PATH: each is a shell script of a test's making."""

from __future__ import annotations

from pathlib import Path

import pytest


class CommandStubs:
    """A directory at the front of PATH."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        directory.mkdir()
        monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")

    def write(self, name: str, script: str) -> None:
        """Make `name` run `script`; its arguments are appended to NAME.log."""
        path = self.directory / name
        path.write_text(f'#!/bin/sh\necho "$@" >> {self.directory}/{name}.log\n{script}\n')
        path.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        """Return the argument lines of each call."""
        log = self.directory / f"{name}.log"
        return log.read_text().splitlines() if log.exists() else []
