"""Where a file is damaged: a checksum of each MiB. Whether it is damaged is the digest's to say."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

BLOCK = 1 << 20  # bytes; the last one is shorter
_DIGITS = 8


def block_sums(data: bytes | memoryview) -> str:
    """Return the crc32 of each block of `data`, eight hex digits each, in one text."""
    view = memoryview(data).cast("B")
    starts = range(0, view.nbytes, BLOCK)
    return "".join(f"{zlib.crc32(view[start : start + BLOCK]):08x}" for start in starts)


def first_difference(sums: str | None, blocks: Iterable[bytes | memoryview]) -> int | None:
    """Return the offset of the first block that is not as in `sums`; None if that is not known."""
    if sums is None:
        return None
    for number, block in enumerate(blocks):
        expected = sums[number * _DIGITS : (number + 1) * _DIGITS]
        if f"{zlib.crc32(block):08x}" != expected:
            return number * BLOCK
    return None
