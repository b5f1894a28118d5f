"""`orch checkpoints` in tables, lines and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from checkpoints.comparison import Difference
from checkpoints.listing import Listed, Stage
from orchestrator.views.documents import SCHEMA_VERSION, Document
from orchestrator.views.table import Cell, Column, Table
from orchestrator.views.text import clean

_STYLES = {
    Stage.WRITTEN: "dim",
    Stage.DURABLE: "",
    Stage.VERIFIED: "green",
    Stage.BROKEN: "red",
    Stage.QUARANTINED: "yellow",
}


def listing_table(found: Iterable[Listed]) -> Table:
    """Return one row a checkpoint."""
    columns = (
        Column(title="CHECKPOINT", keep=True),
        Column(title="STATE", keep=True),
        Column(title="KIND"),
        Column(title="RANKS", right=True),
        Column(title="FILES", right=True),
        Column(title="BYTES", right=True),
        Column(title="INFORMATION", fold=True),
    )
    return Table(columns=columns, rows=[_row(one) for one in found])


def _row(one: Listed) -> Sequence[Cell | str]:
    manifest = one.manifest
    numbers = ["", "", "", ""]
    if manifest is not None:
        sizes = (manifest.world_size, len(manifest.files), manifest.total_bytes)
        numbers = [manifest.kind, *(f"{size:,}" for size in sizes)]
    information = clean(one.problem or "") or (one.digest or "")[:19]
    return [clean(one.name), Cell(one.stage.value, _STYLES[one.stage]), *numbers, information]


def listing_document(job: str, found: Iterable[Listed]) -> Document:
    """Return `orch checkpoints ls|verify --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "job": job,
        "checkpoints": [_fields(one) for one in found],
    }


def _fields(one: Listed) -> dict[str, Any]:
    manifest = one.manifest
    return {
        "name": one.name,
        "state": one.stage.value,
        "step": manifest.step if manifest else None,
        "epoch": manifest.epoch if manifest else None,
        "kind": manifest.kind if manifest else None,
        "ranks": manifest.world_size if manifest else None,
        "files": len(manifest.files) if manifest else None,
        "bytes": manifest.total_bytes if manifest else None,
        "digest": one.digest,
        "problem": one.problem,
        "verified_at": one.verified_at,
    }


def difference_table(found: Iterable[Difference], *, one: str, other: str) -> Table:
    """Return one row a difference."""
    columns = (
        Column(title="WHERE", fold=True),
        Column(title=clean(one), fold=True),
        Column(title=clean(other), fold=True),
    )
    return Table(
        columns=columns, rows=[[clean(d.where), clean(d.one), clean(d.other)] for d in found]
    )
