"""`main`: the one place where exceptions become exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.quick import quick_status
from orchestrator.cli.streams import tolerant_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code; `arguments` default to the process's own."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    tolerant_streams()
    try:
        if (plain := quick_status(words)) is not None:
            from orchestrator.cli.listing import show_status

            code = show_status(**plain)
        else:
            from orchestrator.cli.app import build_app

            # Without standalone mode typer returns the code of `typer.Exit` and raises the rest.
            code = build_app(words)(args=words, prog_name="orch", standalone_mode=False)
        sys.stdout.flush()
        return int(code or Exit.OK)
    except BrokenPipeError:
        # The reader (head, less) has what it wanted. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):
            return int(Exit.OK)  # rich has met the closed pipe first
        raise
    except KeyboardInterrupt:
        return _fail(Stop(Exit.INTERRUPTED, "interrupted"), words, debug=False)
    except Exception as error:  # noqa: BLE001  # the boundary: a user never meets a traceback
        return _fail(error, words, debug=debug)


def _fail(error: Exception, words: Sequence[str], *, debug: bool) -> int:
    from orchestrator.cli.failures import print_traceback, report, stop_of

    if debug:
        print_traceback(error)
    stop = stop_of(error)
    if not words and stop.code is Exit.USAGE:
        return int(stop.code)  # `orch` alone: typer has printed the help
    report(stop, json_wanted="--json" in words)
    return int(stop.code)
