"""Log bytes to display lines: bounded, decoded, without anything a terminal would obey."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from orchestrator.views.text import clean_line

_CHUNK_BYTES = 1 << 16
_LINE_BYTES = 1 << 16  # a longer line is shown in pieces
# A progress bar overwrites its line with "\r"; shown one below the other nothing stays hidden.
_BREAKS = re.compile(rb"\r\n|\n|\r")


class LineSplitter:
    """Cuts a stream of bytes into display lines; keeps the unfinished rest."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are complete now."""
        *whole, self._rest = _BREAKS.split(self._rest + data)
        lines = [_display(line) for line in whole]
        while len(self._rest) > _LINE_BYTES:
            lines.append(_display(self._rest[:_LINE_BYTES]))
            self._rest = self._rest[_LINE_BYTES:]
        return lines

    def finish(self) -> list[str]:
        """Return the unfinished last line, if there is one."""
        rest, self._rest = self._rest, b""
        return [_display(rest)] if rest else []


def _display(line: bytes) -> str:
    return clean_line(line.decode("utf-8", errors="replace"))


def new_lines(file: BinaryIO, splitter: LineSplitter) -> Iterator[str]:
    """Yield the lines that were appended since the last call."""
    while data := file.read(_CHUNK_BYTES):
        yield from splitter.feed(data)


def last_lines(file: BinaryIO, splitter: LineSplitter, limit: int | None) -> Iterator[str]:
    """Yield the last `limit` lines (None: all) and leave the file at its end.

    A file whose last line is unfinished keeps that part in `splitter`.
    """
    if limit is None:
        yield from new_lines(file, splitter)
        return
    file.seek(0, io.SEEK_END)
    # Reading 4 KiB a line from the end bounds the work on huge logs.
    file.seek(max(0, file.tell() - 4096 * (limit + 1)))
    if file.tell():
        file.readline()
    yield from deque(new_lines(file, splitter), maxlen=limit)
