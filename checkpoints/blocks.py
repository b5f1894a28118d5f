"""Where a file is damaged: a checksum of each MiB. Whether it is damaged is the digest's to say."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

BLOCK = 1 << 20  # bytes; the last one is shorter
_DIGITS = 8


def block_sums(*parts: bytes | memoryview) -> str:
    """Return the crc32 of each block of the parts together, eight hex digits each, in one text."""
    sums = BlockSums()
    for part in parts:
        sums.update(part)
    return sums.text()


class BlockSums:
    """The sums of a file whose parts come one by one."""

    def __init__(self) -> None:
        self._sums: list[str] = []
        self._filled = self._crc = 0

    def update(self, part: bytes | memoryview) -> None:
        """Take in the next part."""
        view = memoryview(part).cast("B")
        start = 0
        while start < view.nbytes:
            piece = view[start : start + BLOCK - self._filled]
            self._crc = zlib.crc32(piece, self._crc)
            start, self._filled = start + piece.nbytes, self._filled + piece.nbytes
            if self._filled == BLOCK:
                self._sums.append(f"{self._crc:08x}")
                self._filled = self._crc = 0

    def text(self) -> str:
        """Return the sums of all that came."""
        return "".join([*self._sums, *([f"{self._crc:08x}"] if self._filled else [])])


def first_difference(sums: str | None, blocks: Iterable[bytes | memoryview]) -> int | None:
    """Return the offset of the first block that is not as in `sums`; None if that is not known."""
    if sums is None:
        return None
    for number, block in enumerate(blocks):
        expected = sums[number * _DIGITS : (number + 1) * _DIGITS]
        if f"{zlib.crc32(block):08x}" != expected:
            return number * BLOCK
    return None
