"""What can be wrong with a checkpoint, and with the saving of one."""

from __future__ import annotations


class BrokenCheckpoint(Exception):
    """A checkpoint is not, byte for byte, what its manifest says.

    `file` is relative to the checkpoint ("" for the directory itself); `offset` is the first bad
    byte where it is known; `expected` and `found` are what was compared.
    """

    def __init__(
        self,
        reason: str,
        file: str,
        *,
        offset: int | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        self.reason = reason
        self.file = file
        self.offset = offset
        self.expected = expected
        self.found = found
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        if self.expected is None and self.found is None:
            return f"{where}{self.reason}"
        return f"{where}{self.reason} (expected {self.expected}, found {self.found})"


class NewerFormat(BrokenCheckpoint):
    """An intact checkpoint of a newer orch. Not damage: it is refused, never quarantined."""


class StagingFailed(Exception):
    """A write of this shard failed before; the shard is dead and must be staged anew."""


class Fenced(Exception):
    """A higher epoch holds the job: this attempt may commit nothing any more."""
