"""One example of a task, as text."""

from __future__ import annotations

from dataclasses import dataclass


class BadRow(ValueError):
    """A file cannot be read as the task says; the message names file and row, `fix` what helps."""

    def __init__(self, message: str, fix: str) -> None:
        self.fix = fix
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What is read, and what is answered. `references`: all right answers, where there are more.

    `groups` are what metrics are told apart by besides the whole. A prompt is `head`, as many of
    `shown` as fit, and `source`.
    """

    source: str
    answer: str
    references: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    head: str = ""
    shown: tuple[str, ...] = ()
