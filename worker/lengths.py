"""Texts that are longer than the task allows."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from jobs.names import printable
from jobs.spec import TaskSpec
from worker.failures import Misconfigured

log = logging.getLogger("orch")


@dataclass(slots=True)
class Lengths:
    """Hears of texts that are longer than the task allows: counts or refuses them."""

    task: TaskSpec
    split: str = ""
    source: str = ""
    cut: int = 0
    longest: int = 0

    def note(self, length: int) -> None:
        """Note a text of so many tokens. Raises `Misconfigured` where the task refuses it."""
        if self.task.too_long == "refuse":
            raise Misconfigured(
                f"{self.task.path}: {self.split} example {printable(self.source)} has {length}"
                f" tokens with its prompt and answer, task.max_length is {self.task.max_length}:"
                " raise it, or set task.too_long: cut"
            )
        self.cut, self.longest = self.cut + 1, max(self.longest, length)

    def say(self) -> None:
        """Log how many were cut."""
        if self.cut:
            log.warning(
                "%d texts are longer than task.max_length %d and were cut (the longest has %d"
                " tokens)",
                self.cut,
                self.task.max_length,
                self.longest,
            )
