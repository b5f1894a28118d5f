"""What the ranks of a command know of each other: files in the api directory, nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durable.files import publish_file
from worker.attempt import Attempt
from worker.command.surroundings import Places
from worker.failures import PeerLost


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What rank 0 found to resume from."""

    resume: Path | None = None
    step: int = 0


class Peers:
    """One rank's view of the others. `pause` sleeps, beats, and raises when asked to stop."""

    def __init__(self, attempt: Attempt, places: Places, pause: Callable[[], None]) -> None:
        self._attempt = attempt
        self._places = places
        self._pause = pause
        self._rank = attempt.layout.rank
        self._others = [r for r in range(attempt.layout.world_size) if r != self._rank]

    def tell_start(self, start: Start) -> None:
        """Let the other ranks begin (rank 0)."""
        value = {"resume": str(start.resume) if start.resume else None, "step": start.step}
        publish_file(self._places.start, json.dumps(value).encode(), durable=False)

    def hear_start(self) -> Start:
        """Wait for rank 0 (the others). Raises `PeerLost` when it has ended instead."""
        while (value := _read(self._places.start)) is None:
            if self._attempt.directory.exit_record(0).exists():
                raise PeerLost("rank 0 ended before the command could start")
            self._pause()
        resume = value.get("resume")
        return Start(resume=Path(resume) if resume else None, step=int(value["step"]))

    def tell_left(self, code: int) -> None:
        """Say how this rank's process ended."""
        publish_file(self._places.left(self._rank), json.dumps({"code": code}).encode())

    def failed(self) -> str | None:
        """Return which other rank's process has failed, None while none has."""
        for rank in self._others:
            value = _read(self._places.left(rank))
            if value is not None and value["code"] != 0:
                return f"rank {rank} left with {value['code']}"
        return None

    def wait_done(self) -> None:
        """Wait until every other rank's process has left with 0 (rank 0). Raises `PeerLost`."""
        for rank in self._others:
            while _read(self._places.left(rank)) is None:
                if self._attempt.directory.exit_record(rank).exists():
                    raise PeerLost(f"rank {rank} ended without its process's exit code")
                self._pause()
        failed = self.failed()
        if failed is not None:
            raise PeerLost(failed)

    def wait_first(self) -> None:
        """Wait until rank 0 has ended or the result is there (the others): it may work longer."""
        record, result = self._attempt.directory.exit_record(0), self._attempt.job.result
        while not record.exists() and not result.exists():
            self._pause()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
