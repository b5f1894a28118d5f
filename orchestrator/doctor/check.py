"""One thing that was looked at, and what to do if it is not well."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How well it is."""

    OK = "ok"
    WARNING = "warning"  # works, but may hurt; does not fail `orch doctor`
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The outcome of one check; `fix` is empty where there is nothing to do."""

    name: str
    level: Level
    detail: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Whether orch can work with it; true for warnings."""
        return self.level is not Level.FAILED


def passed(name: str, detail: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name=name, level=Level.OK, detail=detail)


def warned(name: str, detail: str, fix: str) -> Check:
    """Return a check that found something that may hurt."""
    return Check(name=name, level=Level.WARNING, detail=detail, fix=fix)


def failed(name: str, detail: str, fix: str) -> Check:
    """Return a check that found something that must be put right."""
    return Check(name=name, level=Level.FAILED, detail=detail, fix=fix)
