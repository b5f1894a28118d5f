"""The command line: parse, call the service, print, leave with an exit code.

Nothing here decides anything about jobs. Imports stay light: no torch, no submitit, and what
only one verb needs is imported inside it.
"""

from __future__ import annotations

from orchestrator.cli.run import main

__all__ = ["main"]
