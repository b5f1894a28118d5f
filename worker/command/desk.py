"""Where a command's words arrive: progress, commits and results, one question at a time.

`worker/integrations/alone/orch_job.py` writes `said.json` and `ask-*.json` into the attempt's api
directory; the runner, which alone touches the store and the result, answers with `answer-*.json`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from checkpoints.errors import BrokenCheckpoint, Fenced
from durable.files import publish_file
from jobs.contract.records import Notice
from worker.command.results import BadMetrics
from worker.command.saves import NotKept
from worker.progress import Progress

MAX_BYTES = 1 << 20
log = logging.getLogger("orch")


class Desk:
    """Rank 0's side of the API directory."""

    def __init__(
        self,
        api: Path,
        *,
        progress: Progress,
        rows: Path,
        commit: Callable[[int], None],
        result: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._api = api
        self._progress = progress
        self._rows = rows
        self._answers = {"commit": self._commit, "result": self._result}
        self._do_commit, self._do_result = commit, result
        self._heard = b""
        self.step: int | None = None  # as the command last said
        self.fenced: Fenced | None = None

    @property
    def opened(self) -> bool:
        """Whether the command uses the API; then its result comes through it."""
        return (self._api / "opened").exists()

    def notice(self, notice: Notice) -> None:
        """Tell the command that it is asked to stop."""
        publish_file(self._api / "notice.json", notice.model_dump_json().encode(), durable=False)

    def serve(self) -> None:
        """Hear what was said and answer what was asked."""
        self._hear()
        for path in sorted(self._api.glob("ask-*.json")):
            answer = self._answer(path)
            name = path.name.removeprefix("ask-")
            publish_file(self._api / f"answer-{name}", json.dumps(answer).encode(), durable=False)
            path.unlink(missing_ok=True)

    def flush(self) -> None:
        """Make the rows that orch_job wrote durable; a disk that refuses them ends nothing."""
        try:
            descriptor = os.open(self._rows, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return
        except OSError as error:
            self._progress.report(f"rows of the curve are not written: {error}")

    def _hear(self) -> None:
        path = self._api / "said.json"
        try:
            data = path.read_bytes()
            if data == self._heard:
                return
            self._heard = data
            said = json.loads(data[:MAX_BYTES])
            step, total = int(said["step"]), said.get("total")
            numbers = {
                str(name): float(value)
                for name, value in dict(said.get("metrics") or {}).items()
                if value is not None
            }
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError):
            return  # what cannot be read was not said
        self.step = step
        fields: dict[str, Any] = {"loss": numbers.get("loss", self._progress.record.loss)}
        if isinstance(total, int) and total > 0:
            fields["total_steps"] = total
        self._progress.update(**fields)
        self._progress.at(step)

    def _answer(self, path: Path) -> dict[str, Any]:
        try:
            question = json.loads(path.read_bytes()[:MAX_BYTES])
            self._answers[question["ask"]](question)
        except Fenced as error:
            self.fenced = error
            return {"problem": str(error), "fenced": True}
        except (NotKept, BadMetrics, BrokenCheckpoint, OSError) as error:
            log.warning("refused: %s", error)
            return {"problem": str(error)}
        except (ValueError, TypeError, KeyError) as error:
            return {"problem": f"the question is not understood: {type(error).__name__} {error}"}
        return {}

    def _commit(self, question: Mapping[str, Any]) -> None:
        step = int(question["step"])
        if step < 0:
            raise NotKept(f"step {step} is negative")
        self._hear()
        self.flush()
        self._do_commit(step)

    def _result(self, question: Mapping[str, Any]) -> None:
        self._hear()
        self.flush()
        self._do_result(question)
