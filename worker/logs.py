"""Where a rank's words go: its own log file, and rank 0 also to stdout, masked.

The process's own stdout and stderr are turned to the log file, so that what libraries print
(also from C++) is kept there and never reaches a platform that kills jobs for certain words.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
NOISY = ("DeepSpeed", "deepspeed", "transformers", "datasets", "filelock", "urllib3", "fsspec")


class MaskedWords(logging.Formatter):
    """A formatter whose lines never contain the site's words, in any case."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__("%(message)s")
        alternatives = "|".join(re.escape(word) for word in words if word)
        self._words = re.compile(alternatives, re.IGNORECASE) if alternatives else None

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, each masked word replaced by its first letter and stars."""
        line = super().format(record)
        if self._words is None:
            return line
        return self._words.sub(lambda m: m[0][0] + "*" * (len(m[0]) - 1), line)


def start_logging(path: Path, *, rank: int, masked_words: Sequence[str]) -> None:
    """Send this process's words to `path`, and rank 0's log lines to the present stdout too."""
    stdout = os.dup(1)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(logging.Formatter(LOG_FORMAT))
    if rank == 0:
        spoken = logging.StreamHandler(os.fdopen(stdout, "w", buffering=1, errors="replace"))
        spoken.setFormatter(MaskedWords(masked_words))
        spoken.addFilter(logging.Filter("orch"))  # libraries write to the log file only
        handlers.append(spoken)
    else:
        os.close(stdout)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    logging.captureWarnings(True)
    warnings.filterwarnings("once")
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger() -> logging.Logger:
    """Return the worker's own logger."""
    return logging.getLogger("orch")
