"""A file that one process appends whole pieces to, and that a failed append leaves usable."""

from __future__ import annotations

import os
from pathlib import Path

from durable.files import append_durable


class GrowingFile:
    """A file of an attempt's own. What lay there before, or was left of a failure, is cut off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0  # of what is known to be whole

    @property
    def empty(self) -> bool:
        """Whether nothing has been appended yet."""
        return self._size == 0

    def append(self, data: bytes) -> None:
        """Append durably, all or nothing for those who ask here. Raises OSError."""
        if self._path.exists() and self._path.stat().st_size > self._size:
            os.truncate(self._path, self._size)  # a failed append left a part of its data
        append_durable(self._path, data)
        self._size += len(data)
