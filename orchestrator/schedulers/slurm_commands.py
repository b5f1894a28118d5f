"""Runs Slurm's commands: argv lists, a time-out, an output cap, a fixed language and time format.

What a command says is returned as it is; whether it can be believed is the caller's question.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_OUTPUT_BYTES = 64 << 20  # a listing of 300,000 tasks; more is not an answer
# Variables that change what a command asks for or prints. SLURM_CONF says which cluster.
_STRIPPED = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_", "SRUN_")
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that came to an end. Text is decoded with replacement."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A command that gave no whole answer: missing, timed out, killed, too much output."""

    reason: str
    started: bool  # False: it surely had no effect
    out: str = ""
    err: str = ""


def command_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for Slurm's commands, without what would change their answers."""
    kept = {
        key: value
        for key, value in (os.environ if environment is None else environment).items()
        if key in _KEPT or not key.startswith(_STRIPPED)
    }
    # 0: sacct names all indices of a waiting array; by default it cuts the list at 64 characters
    fixed = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0"}
    return {**kept, **fixed}


def run(argv: Sequence[str], *, seconds: float, cwd: str | None = None) -> Ran | Broken:
    """Run a command to its end, for at most `seconds` and `MAX_OUTPUT_BYTES` of output."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=command_environment(),
            cwd=cwd,
            # Ctrl-C is for us: an interrupted sbatch would leave an uncertain submission
            start_new_session=True,
        )
    except OSError as error:
        return Broken(reason=f"{argv[0]}: {error.strerror or error}", started=False)
    with process:
        out, err, why = _collect(process, seconds)
        if why is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Broken(reason=f"{argv[0]}: {why}", started=True, out=out, err=err)
        code = process.returncode
    if code < 0:
        return Broken(reason=f"{argv[0]}: killed by signal {-code}", started=True, out=out, err=err)
    return Ran(code=code, out=out, err=err)


def _collect(process: subprocess.Popen[bytes], seconds: float) -> tuple[str, str, str | None]:
    """Return stdout, stderr and why the process must be ended (None: it has ended)."""
    assert process.stdout is not None
    assert process.stderr is not None
    texts = {process.stdout: bytearray(), process.stderr: bytearray()}
    deadline = time.monotonic() + seconds
    why: str | None = None
    with selectors.DefaultSelector() as selector:
        for stream in texts:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and why is None:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                why = f"no answer within {seconds:g} s"
            for key, _ in ready:
                stream = process.stdout if key.fileobj is process.stdout else process.stderr
                chunk = os.read(key.fd, 1 << 16)
                texts[stream] += chunk
                if not chunk:
                    selector.unregister(stream)
                if len(texts[stream]) > MAX_OUTPUT_BYTES:
                    why = f"more than {MAX_OUTPUT_BYTES} bytes of output"
    if why is None:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            why = f"no end within {seconds:g} s"
    out, err = (bytes(texts[s]).decode("utf-8", "replace") for s in texts)
    return out, err, why
