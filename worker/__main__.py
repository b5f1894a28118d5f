"""`python -P -m worker --submission DIR`: one rank (without -P a user's worker.py would run)."""

from __future__ import annotations

from worker import early_signals

early_signals.install()

import logging  # noqa: E402 - nothing may come before the handlers
import os  # noqa: E402
import sys  # noqa: E402

from worker.main import run_rank  # noqa: E402

if __name__ == "__main__":
    code = run_rank(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is on disk. Threads of communication libraries must not delay or change the end.
    os._exit(code)
