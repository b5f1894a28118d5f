"""What is wrong with what a user wrote.

ValueError
└── MatrixInvalid      one or more problems, each with file, line, column, key and fix
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A model (or only its tokenizer) that a hub may have. `revision` None: `main`."""

    repo: str
    revision: str | None = None
    weights: bool = True  # False: only a tokenizer is wanted


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """One thing to repair. Lines and columns count from 1; the key is dotted, "" for the file."""

    file: str
    line: int
    column: int
    key: str
    message: str
    fix: str
    fetchable: HubModel | None = field(default=None, compare=False)  # what would mend it

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        fix = f" ({self.fix})" if self.fix else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}{fix}"


class MatrixInvalid(ValueError):
    """A matrix cannot be submitted; nothing was changed. Lists every problem, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
