"""The API of command jobs, for programs that orch runs. Standard library only, any Python >= 3.8.

    from orch_job import orch_attempt

    attempt = orch_attempt()
    state = load(attempt.resume_dir) if attempt.resume_dir else fresh()
    for step in range(attempt.resume_step, 1000):
        loss = train_one_step(state)
        attempt.progress(step + 1, 1000, loss=loss)
        if attempt.should_stop():
            save(state, attempt.save_path())
            attempt.commit(step + 1)
            attempt.leave()
    attempt.result({"loss": loss})

orch puts this module on PYTHONPATH. Run by hand, without orch, everything works too: nothing asks
to stop, saves go to ./orch-checkpoint and the result is printed. From a shell script:

    python -m orch_job progress STEP [TOTAL] | commit STEP | result '{"loss": 0.1}' | should-stop
"""

from __future__ import annotations

import json
import math
import os
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

AGAIN, CONFIGURATION = 75, 78  # exit codes: saved, run me again; no retry can help
POLL_SECONDS = 0.02


class Refused(RuntimeError):
    """orch did not do what it was asked; the message says why."""


class Fenced(Refused):
    """A newer attempt holds the job: this one can save and publish nothing more."""


class Attempt:
    """What this process is told, and what it can say. Create it with `orch_attempt()`."""

    def __init__(self, env: Any = os.environ) -> None:
        """Read the environment; outside orch everything has a harmless default."""
        api = env.get("ORCH_API_DIR")
        self._api = Path(api) if api else None
        self._runner = int(env.get("ORCH_RUNNER_PID") or 0)
        self._sequence = 0
        self._rows: int | None = None  # descriptor
        self._signalled = False
        self.job_id = env.get("ORCH_JOB_ID", "")
        self.job_name = env.get("ORCH_JOB_NAME", "")
        self.epoch = int(env.get("ORCH_EPOCH") or 0)
        self.seed = int(env.get("ORCH_SEED") or 0)
        self.rank = int(env.get("ORCH_RANK") or 0)
        self.world_size = int(env.get("ORCH_WORLD_SIZE") or 1)
        self.grace_seconds = float(env.get("ORCH_GRACE") or 30)
        given = {}
        if env.get("ORCH_PARAMS"):
            given = json.loads(Path(env["ORCH_PARAMS"]).read_text(encoding="utf-8"))
        self.params = given.get("params", {})
        self.inputs = {name: Path(path) for name, path in given.get("inputs", {}).items()}
        resume = env.get("ORCH_RESUME_DIR")
        self.resume_dir = Path(resume) if resume else None
        self.resume_step = int(env.get("ORCH_RESUME_STEP") or 0)
        self.directory = Path(env.get("ORCH_ATTEMPT_DIR") or ".")
        self._saves = Path(env.get("ORCH_CHECKPOINT_DIR") or "orch-checkpoint")
        if self._api is not None and self.rank == 0:
            (self._api / "opened").touch()  # from now on a result is owed
        if (
            self._api is not None
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, None)
        ):
            signal.signal(signal.SIGTERM, self._on_term)  # a flag, so that a step can end

    def progress(self, step: int, total: int | None = None, **metrics: Any) -> None:
        """Say which step is done (of how many), with numbers of the curve such as `loss`.

        Cheap; call it at every step. Other ranks than 0 say nothing.
        """
        if self._api is None or self.rank:
            return
        self._sequence += 1
        numbers = {name: _number(value) for name, value in metrics.items()}
        said = {"step": int(step), "total": total, "metrics": numbers, "pid": os.getpid()}
        if numbers:
            self._add_row({**numbers, "step": int(step)})
        _publish(self._api / "said.json", {**said, "sequence": self._sequence})

    def should_stop(self) -> bool:
        """Return whether the machine will be taken away: save now, then `leave()`."""
        if self._api is None:
            return False
        return self._signalled or (self._api / "notice.json").exists()

    def save_path(self) -> Path:
        """Return the empty directory to save in; `commit` makes what lies there count."""
        self._saves.mkdir(parents=True, exist_ok=True)
        return self._saves

    def commit(self, step: int) -> None:
        """Keep what lies in `save_path()` as the state after `step`, safe against a power cut.

        The next attempt finds it in `resume_dir`. Raises `Fenced`, `Refused`; then it is not kept.
        """
        if self._api is not None:
            self._ask({"ask": "commit", "step": int(step)})

    def result(
        self, metrics: dict[str, Any], *, steps: int | None = None, exact: bool | None = None
    ) -> None:
        """Publish the result: the job is done, whatever happens afterwards.

        `metrics`: {name: number}, or {split: {name: number}}. `exact`: whether a run that was
        resumed gave the same as an uninterrupted one would have; only the program can know.
        Raises `Fenced`, `Refused`.
        """
        if self._api is None:
            print(json.dumps(metrics))  # noqa: T201 - outside orch
            return
        self._ask({"ask": "result", "metrics": _plain(metrics), "steps": steps, "exact": exact})

    def leave(self) -> None:
        """End this process with 75: saved, run me again."""
        sys.stdout.flush()
        sys.exit(AGAIN)

    def _add_row(self, row: dict[str, Any]) -> None:
        """Append a row of the curve, in one write: a torn last line is nobody's row."""
        if self._rows is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._rows = os.open(self.directory / "metrics.jsonl", flags, 0o600)
        os.write(self._rows, json.dumps(row, sort_keys=True).encode() + b"\n")

    def _on_term(self, number: int, frame: Any) -> None:
        self._signalled = True

    def _ask(self, question: dict[str, Any]) -> None:
        """Ask the runner and wait for its answer; ends when the runner is gone."""
        assert self._api is not None
        if self.rank:
            raise Refused(f"only rank 0 saves and publishes, this is rank {self.rank}")
        name = secrets.token_hex(8)
        answer = self._api / f"answer-{name}.json"
        _publish(self._api / f"ask-{name}.json", question)
        while not answer.exists():
            if self._runner and not _alive(self._runner):
                raise Refused("orch's runner of this attempt is gone")
            time.sleep(POLL_SECONDS)
        said = json.loads(answer.read_text(encoding="utf-8"))
        answer.unlink()
        if said.get("problem"):
            raise (Fenced if said.get("fenced") else Refused)(said["problem"])


_attempt: Attempt | None = None


def orch_attempt() -> Attempt:
    """Return this process's attempt; call it early: it also turns SIGTERM into `should_stop`."""
    global _attempt  # noqa: PLW0603 - one process, one attempt
    if _attempt is None:
        _attempt = Attempt()
    return _attempt


def _publish(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    os.replace(temporary, path)  # noqa: PTH105 - whole or not at all


def _number(value: Any) -> float | None:
    number = float(value)  # also of a tensor or a numpy scalar
    return number if math.isfinite(number) else None


def _plain(metrics: dict[str, Any]) -> dict[str, Any]:
    plain = {}
    for name, value in metrics.items():
        plain[str(name)] = _plain(value) if isinstance(value, dict) else float(value)
    return plain


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def main(words: list[str]) -> int:
    """Be `python -m orch_job`; 0: done or yes, 1: refused or no, 2: usage."""
    attempt = Attempt()
    try:
        if words[:1] == ["progress"] and len(words) in (2, 3):
            attempt.progress(int(words[1]), int(words[2]) if len(words) == 3 else None)
        elif words[:1] == ["commit"] and len(words) == 2:
            attempt.commit(int(words[1]))
        elif words[:1] == ["result"] and len(words) == 2:
            attempt.result(json.loads(words[1]))
        elif words == ["should-stop"]:
            return 0 if attempt.should_stop() else 1
        else:
            print(__doc__.strip().splitlines()[-1].strip(), file=sys.stderr)  # noqa: T201
            return 2
    except (Refused, ValueError) as error:
        print(f"orch_job: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
