"""What is wrong with what a user wrote.

ValueError
└── MatrixInvalid      one or more problems, each with file, line, column, key and fix
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRepo:
    """A model (or only its tokenizer) or a data set of a hub. `revision` None: `main`."""

    repo: str
    revision: str | None = None
    kind: Literal["model", "dataset"] = "model"
    weights: bool = True  # False: of a model only the tokenizer is wanted


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """One thing to repair. Lines and columns count from 1; the key is dotted, "" for the file."""

    file: str
    line: int
    column: int
    key: str
    message: str
    fix: str
    fetchable: HubRepo | None = field(default=None, compare=False)  # what would mend it
    absent: str | None = field(default=None, compare=False)  # model, task or input: not here

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        fix = f" ({self.fix})" if self.fix else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}{fix}"


class MatrixInvalid(ValueError):
    """A matrix cannot be submitted; nothing was changed. Lists every problem, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
