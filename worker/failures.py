"""What can end an attempt, and what each ending means to those who decide about the next one.

Ending(Exception)
├── Misconfigured     no retry can help; exit 78
│   └── ResumeRefused the checkpoint is of other circumstances; a person decides
├── PeerLost          another rank died or hung; exit 75
├── Unreadable        the state exists and cannot be looked at now; exit 75
├── SaveFailed        a save failed twice and `save.on_failure` says stop; exit 1
├── Incomplete        a command left with 0 and its result is not there; exit 0
├── CommandFailed     a command failed by itself; exit 1
├── KilledOutright    a command got SIGKILL and not from us; no record, the scheduler knows why
└── Stopped           asked to stop, everything that can be saved is saved; exit 75
Fenced (checkpoints)  a higher epoch holds the job; exit 1, so that no script starts us again
"""

from __future__ import annotations

import hashlib
import re
import traceback
from pathlib import Path

from checkpoints.errors import Fenced
from jobs.contract.exit_codes import ExitCode
from jobs.contract.records import ErrorRecord, Outcome
from worker.claim import NoClaim

MAX_TRACEBACK = 20_000  # characters kept in an exit record
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(\.\d+)?")
# What torch says when the other end of a collective or of the store is gone or silent.
_PEER_WORDS = re.compile(
    r"connection closed by peer|connection reset|broken pipe|timed? ?out|timeout"
    r"|socket|recv|gloo.*(read|write|pair)|store.*closed|nccl.*(abort|remote)",
    re.IGNORECASE,
)
_TORCH_PEER_ERRORS = frozenset({"DistBackendError", "DistNetworkError", "DistStoreError"})


class Ending(Exception):
    """An ending that is no accident."""


class Misconfigured(Ending):
    """The job cannot run as it is specified; the message names the field and the fix."""


class ResumeRefused(Misconfigured):
    """The newest checkpoint is not what this attempt would go on with; a person must decide.

    The message names every entry with both values, and the command that lets them pass.
    """


class PeerLost(Ending):
    """Another rank did not answer within the bound."""


class Unreadable(Ending):
    """Checkpoints are there but cannot be read now: ignorance, no evidence of damage."""


class SaveFailed(Ending):
    """A checkpoint could not be written, and the job is not to train on without."""


class Incomplete(Ending):
    """A command left with 0, but it owes a result and there is none."""


class CommandFailed(Ending):
    """A command left with a code or by a signal that is neither success nor a wish."""

    def __init__(self, record: ErrorRecord) -> None:
        super().__init__(f"{record.type}: {record.message}")
        self.record = record


class KilledOutright(Ending):
    """A command got SIGKILL, and not from us: out of memory, or a node that ends."""


class Stopped(Ending):
    """Asked to stop. `committed` tells whether this attempt committed a checkpoint."""

    def __init__(self, *, committed: bool) -> None:
        super().__init__("stopped; run me again")
        self.committed = committed


def classify(error: BaseException, *, world_size: int) -> tuple[Outcome, ExitCode]:
    """Return how an attempt that ended with `error` is recorded and left. Pure."""
    for kind, ending in _ENDINGS.items():
        if isinstance(error, kind):
            return ending
    if isinstance(error, Stopped):
        return (Outcome.SAVED if error.committed else Outcome.NO_PROGRESS), ExitCode.AGAIN
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch here
        return Outcome.DEVICE_OOM, ExitCode.EXCEPTION
    if world_size > 1 and _looks_like_a_lost_peer(error):
        return Outcome.PEER_LOST, ExitCode.AGAIN
    return Outcome.EXCEPTION, ExitCode.EXCEPTION


_ENDINGS: dict[type[BaseException], tuple[Outcome, ExitCode]] = {
    Misconfigured: (Outcome.CONFIGURATION, ExitCode.CONFIGURATION),
    Fenced: (Outcome.FENCED, ExitCode.EXCEPTION),
    PeerLost: (Outcome.PEER_LOST, ExitCode.AGAIN),
    NoClaim: (Outcome.PEER_LOST, ExitCode.AGAIN),
    Unreadable: (Outcome.NO_PROGRESS, ExitCode.AGAIN),
    Incomplete: (Outcome.COMPLETED, ExitCode.RESULT),
    SaveFailed: (Outcome.EXCEPTION, ExitCode.EXCEPTION),
    CommandFailed: (Outcome.EXCEPTION, ExitCode.EXCEPTION),
}


def _looks_like_a_lost_peer(error: BaseException) -> bool:
    if type(error).__name__ in _TORCH_PEER_ERRORS:
        return True
    return type(error) is RuntimeError and bool(_PEER_WORDS.search(str(error)))


def error_record(error: BaseException) -> ErrorRecord:
    """Return the record of an exception; its digest is equal for equal tracebacks.

    Normalised: types, file names and functions count; line numbers, addresses, numbers in the
    message and directories do not, so that the same mistake in 100 jobs is one group.
    """
    if isinstance(error, CommandFailed):
        return error.record
    frames = traceback.extract_tb(error.__traceback__)
    parts = [f"{Path(frame.filename).name}:{frame.name}" for frame in frames]
    message = str(error)[:2000]
    parts += [type(error).__name__, _NUMBERS.sub("#", message)]
    text = "".join(traceback.format_exception(error))
    return ErrorRecord(
        type=type(error).__name__,
        message=message,
        digest="sha256:" + hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        traceback=text[-MAX_TRACEBACK:],
    )
