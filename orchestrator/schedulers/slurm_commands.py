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

from orchestrator.schedulers.slurm_programs import find_program

MAX_OUTPUT_BYTES = 64 << 20  # a listing of 300,000 tasks; more is not an answer
LOOK_SECONDS = 0.2  # how old news on stderr may be, where it matters
# sbatch sleeps a second or two before it repeats a refused request (measured: 2 s).
SLEEPS_AT_LEAST = 1.0
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
    asleep: bool = False  # ended while it slept after a refusal: it surely had no effect
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


def run(
    argv: Sequence[str], *, seconds: float, cwd: str | None = None, sleeps: str | None = None
) -> Ran | Broken:
    """Run a command to its end, for at most `seconds` and `MAX_OUTPUT_BYTES` of output.

    `sleeps`: words on stderr by which the command says that it was refused and will sleep and ask
    again. It is ended at once then; `asleep` says that it surely had not asked again.
    """
    program = find_program(argv[0])
    if program is None:
        return Broken(reason=f"{argv[0]}: not on PATH", started=False)
    try:
        process = subprocess.Popen(
            list(argv),
            executable=program,
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
        talk = _Talk(process, seconds, sleeps)
        why = talk.listen()
        out, err = talk.texts()
        if why is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            reason = f"{argv[0]}: {why}"
            return Broken(reason=reason, started=True, asleep=talk.still_asleep(), out=out, err=err)
        code = process.returncode
    if code < 0:
        return Broken(reason=f"{argv[0]}: killed by signal {-code}", started=True, out=out, err=err)
    return Ran(code=code, out=out, err=err)


class _Talk:
    """What a process says, until it ends or must be ended."""

    def __init__(
        self, process: subprocess.Popen[bytes], seconds: float, sleeps: str | None
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._seconds = seconds
        self._sleeps = sleeps.encode() if sleeps else None
        self._out, self._err = process.stdout, process.stderr
        self._texts = {process.stdout: bytearray(), process.stderr: bytearray()}
        self._awake_at: float | None = None  # it had not said yet that it sleeps

    def texts(self) -> tuple[str, str]:
        """Return stdout and stderr."""
        out, err = (bytes(self._texts[s]).decode("utf-8", "replace") for s in self._texts)
        return out, err

    def still_asleep(self) -> bool:
        """Return whether the process, which has ended by now, cannot have woken up before."""
        return self._awake_at is not None and (time.monotonic() - self._awake_at < SLEEPS_AT_LEAST)

    def listen(self) -> str | None:
        """Return why the process must be ended (None: it has ended)."""
        deadline = time.monotonic() + self._seconds
        why: str | None = None
        with selectors.DefaultSelector() as selector:
            for stream in self._texts:
                selector.register(stream, selectors.EVENT_READ)
            looked = time.monotonic()
            while selector.get_map() and why is None:
                before, looked = looked, time.monotonic()
                patience = max(0.0, deadline - looked)
                if self._sleeps is not None:
                    patience = min(patience, LOOK_SECONDS)
                ready = selector.select(patience)
                if not ready and time.monotonic() >= deadline:
                    why = f"no answer within {self._seconds:g} s"
                for key, _ in ready:
                    why = self._read(key.fd, selector) or why
                if self._sleeps is not None and self._sleeps in self._texts[self._err]:
                    self._awake_at = before
                    why = "refused for now; it would sleep and ask again"
        if why is None:
            try:
                self._process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                why = f"no end within {self._seconds:g} s"
        return why

    def _read(self, descriptor: int, selector: selectors.BaseSelector) -> str | None:
        stream = self._out if self._out.fileno() == descriptor else self._err
        chunk = os.read(descriptor, 1 << 16)
        self._texts[stream] += chunk
        if not chunk:
            selector.unregister(stream)
        if len(self._texts[stream]) > MAX_OUTPUT_BYTES:
            return f"more than {MAX_OUTPUT_BYTES} bytes of output"
        return None
