"""Rows of learning curves: metrics.jsonl of an attempt, and the one curve merged from many.

Train rows `{step, loss, lr, samples}`, evaluation rows `{step, dev: {…}}`; programs have their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an attempt; a line that is torn or no row is not one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    yield from decode_rows(data)


def decode_rows(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file's content."""
    for line in data.split(b"\n")[:-1]:  # without its newline the last one is torn
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row


def merge(attempts: Iterable[Iterable[Row]], *, steps: int) -> list[dict[str, Any]]:
    """Return one row per step, ascending; each part of it from the highest epoch that has it.

    `attempts` in ascending epoch order. Training and evaluation of a step may lie in different
    attempts: a run that is preempted while evaluating evaluates again after it resumed.
    """
    merged: dict[int, dict[str, Any]] = {}
    for rows in attempts:
        for row in rows:
            if 1 <= row["step"] <= steps:
                merged.setdefault(row["step"], {}).update(row)
    return [merged[step] for step in sorted(merged)]
