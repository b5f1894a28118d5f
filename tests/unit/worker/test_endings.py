"""What ended an attempt, and what the next one may go on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints.errors import Fenced
from jobs.contract.exit_codes import ExitCode
from jobs.contract.records import Outcome
from worker.failures import (
    Misconfigured,
    PeerLost,
    ResumeRefused,
    Stopped,
    Unreadable,
    classify,
    error_record,
)
from worker.logs import MaskedWords
from worker.standing import BestSoFar


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (Stopped(committed=True), Outcome.SAVED, ExitCode.AGAIN),
        (Stopped(committed=False), Outcome.NO_PROGRESS, ExitCode.AGAIN),
        (Misconfigured("x"), Outcome.CONFIGURATION, ExitCode.CONFIGURATION),
        (ResumeRefused("x"), Outcome.CONFIGURATION, ExitCode.CONFIGURATION),
        (Fenced("x"), Outcome.FENCED, ExitCode.EXCEPTION),
        (PeerLost("x"), Outcome.PEER_LOST, ExitCode.AGAIN),
        (Unreadable("x"), Outcome.NO_PROGRESS, ExitCode.AGAIN),
        (OutOfMemoryError("CUDA"), Outcome.DEVICE_OOM, ExitCode.EXCEPTION),
        (MemoryError(), Outcome.EXCEPTION, ExitCode.EXCEPTION),
        (OSError(28, "No space left"), Outcome.EXCEPTION, ExitCode.EXCEPTION),
        (RuntimeError("Connection closed by peer [127.0.0.1]"), Outcome.PEER_LOST, ExitCode.AGAIN),
        (RuntimeError("Timed out waiting 3000ms for recv"), Outcome.PEER_LOST, ExitCode.AGAIN),
        (RuntimeError("shape mismatch"), Outcome.EXCEPTION, ExitCode.EXCEPTION),
        (ValueError("timeout of 3 is not allowed"), Outcome.EXCEPTION, ExitCode.EXCEPTION),
        (KeyboardInterrupt(), Outcome.EXCEPTION, ExitCode.EXCEPTION),
    ],
)
def test_endings(error: BaseException, outcome: Outcome, code: ExitCode) -> None:
    """Every ending has its word and its exit code."""
    assert classify(error, world_size=2) == (outcome, code)


def test_alone_there_is_no_peer_to_lose() -> None:
    """A time-out of user code in a single rank is the user's exception."""
    error = RuntimeError("Timed out")

    assert classify(error, world_size=1) == (Outcome.EXCEPTION, ExitCode.EXCEPTION)


def raised(message: str, *, deep: bool = False) -> BaseException:
    """Return an exception with a traceback."""

    def inner() -> None:
        raise ValueError(message)

    try:
        if deep:
            inner()
        else:
            raise ValueError(message)
    except ValueError as error:
        return error


def test_equal_tracebacks_have_equal_digests() -> None:
    """Numbers and addresses differ between jobs of one matrix; the mistake is the same."""
    one, other = raised("at 0x7f12 row 3 of 10.5"), raised("at 0x8a99 row 4 of 99.5")

    assert error_record(one).digest == error_record(other).digest
    assert error_record(one).digest != error_record(raised("else")).digest
    assert error_record(one).digest != error_record(raised("at 0x1 row 1 of 1", deep=True)).digest
    assert "raised" in error_record(one).traceback


def test_masked_words_never_reach_the_output() -> None:
    """In any case and inside of words; the rest of the line stays."""
    import logging

    masked = MaskedWords(["error", "fail"])
    record = logging.LogRecord("orch", 20, "", 0, "an ERROR: %s", ("failed, Errors",), None)

    assert masked.format(record) == "an E****: f***ed, E****s"
    assert MaskedWords([]).format(record) == "an ERROR: failed, Errors"


def test_of_equal_evaluations_the_earlier_is_the_best() -> None:
    """Otherwise a resumed run, which sees them in another order, might choose another."""
    best = BestSoFar(step=4, metrics={"loss": 1.0, "accuracy": 0.5})

    assert not best.beaten_by({"loss": 1.0, "accuracy": 0.5}, metric="loss")
    assert not best.beaten_by({"loss": 1.0, "accuracy": 0.5}, metric="accuracy")
    assert best.beaten_by({"loss": 0.9, "accuracy": 0.4}, metric="loss")
    assert best.beaten_by({"loss": 1.1, "accuracy": 0.6}, metric="accuracy")


def test_the_light_phase_imports_no_torch(tmp_path: Path) -> None:
    """A finished job must cost its array task a second, not an import of torch."""
    import subprocess
    import sys

    program = "import sys, worker.main; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["False", "False"]
