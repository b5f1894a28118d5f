"""Where a file is damaged: a checksum of each MiB. Whether it is damaged is the digest's to say."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

BLOCK = 1 << 20  # bytes; the last one is shorter
_DIGITS = 8


def block_sums(*parts: bytes | memoryview) -> str:
    """Return the crc32 of each block of the parts together, eight hex digits each, in one text."""
    sums: list[str] = []
    filled = crc = 0
    for part in parts:
        view = memoryview(part).cast("B")
        start = 0
        while start < view.nbytes:
            piece = view[start : start + BLOCK - filled]
            crc = zlib.crc32(piece, crc)
            start, filled = start + piece.nbytes, filled + piece.nbytes
            if filled == BLOCK:
                sums.append(f"{crc:08x}")
                filled = crc = 0
    if filled:
        sums.append(f"{crc:08x}")
    return "".join(sums)


def first_difference(sums: str | None, blocks: Iterable[bytes | memoryview]) -> int | None:
    """Return the offset of the first block that is not as in `sums`; None if that is not known."""
    if sums is None:
        return None
    for number, block in enumerate(blocks):
        expected = sums[number * _DIGITS : (number + 1) * _DIGITS]
        if f"{zlib.crc32(block):08x}" != expected:
            return number * BLOCK
    return None
