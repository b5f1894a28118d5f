"""The corpus: recorded words of Slurm, through the parser, `answer` and `reconcile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.recordings import HeardText
from orchestrator.schedulers.base import TaskState
from orchestrator.schedulers.slurm_parse import ACCOUNT_FIELDS, QUEUE_FIELDS
from orchestrator.schedulers.slurm_replay import RECORDED, answers_of
from orchestrator.tick_recorder import words_of
from tests.unit.orchestrator.cases import KEY, decide, evidence, job

CORPUS = Path(__file__).parents[2] / "corpus"
CASES = sorted(CORPUS.glob("*.json"))


def heard(command: str, said: dict[str, Any]) -> HeardText:
    """Return a command's words; its rows as squeue and sacct print them."""
    ends = {"squeue": f"{RECORDED.end}\n", "sacct": "\n"}
    fields = {"squeue": QUEUE_FIELDS, "sacct": ACCOUNT_FIELDS}[command]
    rows = [
        RECORDED.separator.join(row.get(field, "") for field in fields) + ends[command]
        for row in said.get("rows", ())
    ]
    out = said.get("text", "".join(rows))
    return HeardText(argv=(command,), code=said["code"], out=out, err=said["err"])


def test_there_is_a_corpus() -> None:
    """An empty directory would prove nothing."""
    assert len(CASES) >= 16


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_decision_is_the_expected_one(path: Path) -> None:
    """What must follow is written in the file, beside what was said."""
    case = json.loads(path.read_text())
    said = [heard(name, case[name]) for name in ("squeue", "sacct") if case[name] is not None]

    answers = answers_of(said, [KEY])
    actions = decide(job(task_seen=TaskState.RUNNING), answers[KEY], evidence())

    assert list(words_of(actions)) == case["expected"], (case["about"], answers[KEY])
