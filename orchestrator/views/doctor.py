"""`orch doctor` for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.doctor.check import Check, Level
from orchestrator.views import text
from orchestrator.views.documents import SCHEMA_VERSION
from orchestrator.views.table import Cell, Column, Table

_MARKS = {
    Level.OK: Cell("ok", "green"),
    Level.WARNING: Cell("warning", "yellow"),
    Level.FAILED: Cell("FAILED", "bold red"),
}


def doctor_document(checks: Sequence[Check]) -> dict[str, Any]:
    """Return `orch doctor --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "checks": [
            {
                "name": check.name,
                "ok": check.ok,
                "level": check.level.value,
                "detail": check.detail,
                "fix": check.fix,
            }
            for check in checks
        ],
    }


def doctor_table(checks: Sequence[Check]) -> Table:
    """Return one row a check; a fix stands below the finding."""
    columns = [
        Column(title="CHECK", keep=True),
        Column(title="", keep=True),
        Column(title="FINDING", fold=True),
    ]
    rows: list[list[Cell | str]] = []
    for check in checks:
        rows.append([check.name, _MARKS[check.level], text.clean(check.detail)])
        if check.fix:
            rows.append(["", "", Cell(f"fix: {text.clean(check.fix)}", "green")])
    return Table(columns=columns, rows=rows)


def verdict_line(checks: Sequence[Check]) -> str:
    """Return e.g. `14 checks: all well`, or how many failed and warned."""
    failed = sum(check.level is Level.FAILED for check in checks)
    warned = sum(check.level is Level.WARNING for check in checks)
    parts = [f"{failed} failed"] if failed else []
    parts += [text.count(warned, "warning")] if warned else []
    return f"{text.count(len(checks), 'check')}: {', '.join(parts) or 'all well'}"
