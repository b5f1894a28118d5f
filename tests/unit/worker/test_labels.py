"""Labels and known tasks: nothing is skipped silently, and every error names file and row."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from jobs.examples_file import BadRow, read_examples
from jobs.spec import TaskSpec
from tests.unit.jobs.matrices import BASE, load
from worker.collate import Encoder, Sample
from worker.evaluation import measured, written
from worker.evaluation_set import prepare
from worker.scoring import Scored
from worker.writer import Writer

END = 9


class Digits:
    """A tokenizer whose tokens are digits."""

    eos_token_id = END

    def encode(self, text: str, **_: Any) -> list[int]:
        return [int(c) for c in text if c.isdigit()]

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(str, ids))


class Counting(torch.nn.Module):
    """Says the digit after the last one, and so the end token after 8."""

    calls = 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        self.calls += 1
        return SimpleNamespace(logits=torch.nn.functional.one_hot((input_ids + 1) % 10, 10))


def task(**fields: Any) -> TaskSpec:
    """Return a task spec with these fields."""
    return TaskSpec.model_validate({"name": "tsv", "path": "t"} | fields)


def rows(text: str, **fields: Any) -> list[tuple[str, str]]:
    """Read a text as a task's file."""
    return list(read_examples(Path("f"), text.encode(), task(**fields)))


def test_labels_are_written_as_the_task_says() -> None:
    """Words, numbers or a map of one's own; columns by name."""
    text = "good film\tpositive\nbad film\tnegative\n"
    assert [out for _, out in rows(text, name="sst2")] == ["positive", "negative"]
    assert [out for _, out in rows(text, name="sst2", labels="number")] == ["1", "0"]
    named = {"header": True, "input_field": "s", "output_field": "y"}
    labels = {"0": "no", "1": "yes"}
    assert rows("y\ts\n1\tabc\n", labels=labels, **named) == [("abc", "yes")]


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        ("a\tpositive\nb\tgreat\n", {"name": "sst2"}, "f:2: label"),
        ("a\tpositive\nb\n", {"name": "sst2"}, "f:2: has 1 columns"),
        ("s\tx\n1\t2\n", {"header": True, "input_field": "s", "output_field": "y"}, "f:1: has no"),
    ],
)
def test_a_bad_row_is_named(text: str, fields: dict[str, Any], said: str) -> None:
    """A wrong label, a missing value and a missing column are errors, not skipped rows."""
    with pytest.raises(BadRow, match=said):
        rows(text, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": "number"},
        {"labels": {"a": "x", "b": "x"}},
        {"metrics": ["macro_f1"]},
        {"labels": {"a": "x", "b": "y"}, "metrics": ["f1"]},
        {"labels": {"a": "x", "b": "y"}, "metrics": ["pearson"]},
        {"labels": {"a": "x", "b": "y"}, "metrics": ["macro_f1", "rougeL"]},
        {"metrics": ["rougeL"], "max_new_tokens": 64},
        {"name": "jsonl", "header": True},
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any]) -> None:
    """Metrics that the task cannot have, and labels that cannot be told apart."""
    with pytest.raises(ValidationError):
        task(**fields)


def test_submission_names_row_and_metric(tmp_path: Path) -> None:
    """A wrong label in the last row, and a metric to select by that nothing measures."""
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("a\tpositive\n" * 3)
    (tmp_path / "dev.tsv").write_text("a\tpositive\nb\tgreat\n")
    base = BASE.replace("name: tsv", "name: sst2").replace("package:quickstart", str(tmp_path))
    base = base.replace("lr: 1e-3", "lr: 1e-3, best_metric: rougeL")
    with pytest.raises(Exception) as caught:
        load(tmp_path, base=base)
    text = str(caught.value) + repr(getattr(caught.value, "findings", ""))
    assert "dev.tsv:2" in text
    assert "rougeL" in text


def test_labels_are_candidates_whatever_training_holds() -> None:
    """A label that the training split lacks can be predicted, and the metrics are the task's."""

    def encode(source: str, output: str) -> Sample:
        return Sample((1,), (int(output), END))

    data = prepare(
        encode, ["x", "x"], ["2", "0"],
        train_outputs=["0"], known_labels=["0", "1", "2"], metrics=("f1",), positive="2",
    )  # fmt: skip
    assert data.num_labels == 3
    scored = [
        Scored(index=i, nll=1.0, tokens=1, correct=True, prediction=said)
        for i, said in enumerate(["2", "2"])
    ]
    assert measured(scored, data) == {"f1": pytest.approx(2 / 3)}


@pytest.mark.parametrize("lockstep", [0, 3])
def test_generation_stops_at_the_end_token(lockstep: int) -> None:
    """Texts do not depend on lockstep, which makes the same passes on every rank."""
    encoder = Encoder(tokenizer=Digits(), prompt="{input}", max_length=8)
    writer = Writer(encoder=encoder, limit=4)
    data = prepare(
        encoder.encode, ["5", "1"], ["678", "99"],
        train_outputs=["678", "99"], metrics=("exact_match",), writer=writer,
    )  # fmt: skip
    module = Counting()
    found = [Scored(index=i, nll=1.0, tokens=1, correct=False, prediction=None) for i in range(2)]
    done = written(
        module, data, found, device=torch.device("cpu"), lockstep=lockstep, beat=lambda: None
    )
    assert [(s.prediction, s.correct) for s in done] == [("678", True), ("2345", False)]
    assert measured(done, data) == {"exact_match": 0.5}
    assert module.calls == (12 if lockstep else 8)


def test_a_prompt_leaves_room_and_does_not_know_the_answer() -> None:
    """A long prompt loses its beginning, so that prompt and answer fit in max_length."""
    encoder = Encoder(tokenizer=Digits(), prompt="{input}", max_length=6)
    assert Writer(encoder=encoder, limit=2).prompt("12345678") == [5, 6, 7, 8]
