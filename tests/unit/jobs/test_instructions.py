"""Instruction data, prompts of many fields, and splits that are held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.example import BadRow
from jobs.spec import TaskSpec
from jobs.task_files import read_split, task_files


def read(directory: Path, split: str = "train", **task: Any) -> list[tuple[str, str]]:
    """Return the pairs of a split."""
    spec = TaskSpec.model_validate({"path": str(directory), **task})
    paths = task_files(directory, spec)[split]
    examples = read_split(spec, split, [(path, path.read_bytes()) for path in paths])
    return [(example.source, example.answer) for example in examples]


def write(directory: Path, *rows: Any) -> None:
    """Write rows to train.jsonl."""
    (directory / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_each_answer_of_an_assistant_is_an_example(tmp_path: Path) -> None:
    """Its prompt is all that was said before, so the loss is on answers only."""
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "See you"},
    ]
    alpaca = {"instruction": "Add", "input": "1 2", "output": "3"}
    write(
        tmp_path, {"messages": chat}, alpaca, {"instruction": "Go", "output": "Gone"}, *[alpaca] * 3
    )

    found = read(tmp_path, name="instruct", held_out_examples=1)
    start = "<|system|>\nBe brief.\n<|user|>\nHello\n<|assistant|>\n"
    assert found[:4] == [
        (start, "Hi"),
        (f"{start}Hi\n<|user|>\nBye\n<|assistant|>\n", "See you"),
        ("<|user|>\nAdd\n\n1 2\n<|assistant|>\n", "3"),
        ("<|user|>\nGo\n<|assistant|>\n", "Gone"),
    ]
    assert len(found) == 5


@pytest.mark.parametrize(
    "row",
    [
        [],
        {"instruction": "x"},
        {"output": "x"},
        {"instruction": "x", "input": 3, "output": "y"},
        {"messages": []},
        {"messages": [{"role": "user", "content": "x"}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user"}]},
    ],
)
def test_what_is_no_instruction_is_named_with_its_line(tmp_path: Path, row: Any) -> None:
    """File, line, and what to write."""
    write(tmp_path, {"instruction": "x", "output": "y"}, row)
    with pytest.raises(BadRow, match=r"train\.jsonl:2: ") as raised:
        read(tmp_path, name="instruct", held_out_examples=1)
    assert "messages" in raised.value.fix


def test_held_out_examples_are_the_end_of_the_training_file(tmp_path: Path) -> None:
    """No example is in two splits; too few are an error."""
    write(tmp_path, *({"input": str(n), "output": "x"} for n in range(7)))
    splits = {
        split: [source for source, _ in read(tmp_path, split, name="jsonl", held_out_examples=2)]
        for split in ("train", "dev", "test")
    }
    assert splits == {"train": ["0", "1", "2"], "dev": ["3", "4"], "test": ["5", "6"]}
    with pytest.raises(BadRow, match="7 examples cannot have 2 x 4 held out"):
        read(tmp_path, name="jsonl", held_out_examples=4)


def test_a_prompt_has_any_named_field(tmp_path: Path) -> None:
    """Braces in the data stay text; a field that a row lacks is named."""
    write(tmp_path, {"a": "{b}", "b": "two", "output": "x"}, {"a": "1", "output": "x"})
    task = {"name": "jsonl", "prompt": "{a} and {b}: {{}} ", "held_out_examples": 1}
    with pytest.raises(BadRow, match=r"train\.jsonl:2: 'b' is not a string"):
        read(tmp_path, **task)
    write(tmp_path, *[{"a": "{b}", "b": "two", "output": "x"}] * 3)
    assert read(tmp_path, **task) == [("{b} and two: {} ", "x")]
    assert TaskSpec.model_validate({"path": "x", **task}).template == "{input}"


def test_a_header_names_the_fields_of_a_prompt(tmp_path: Path) -> None:
    """A column that is not there is named with those that are."""
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("p\th\toutput\none\ttwo\tyes\n")
    task = {"name": "tsv", "header": True, "prompt": "{h} of {p} "}
    assert read(tmp_path, **task) == [("two of one ", "yes")]
    with pytest.raises(BadRow, match="has no column `x`"):
        read(tmp_path, **task | {"prompt": "{x} of {p} "})


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"name": "superni", "prompt": "{input}"}, "`prompt` is given by task superni"),
        ({"name": "tsv", "superni": {}}, "belongs to the task superni"),
        ({"name": "plugin"}, "needs `code`"),
        ({"name": "tsv", "code": "x.py"}, "needs `code`"),
        ({"name": "superni", "held_out_examples": 3}, "does not belong"),
    ],
)
def test_what_does_not_belong_to_a_task_is_refused(task: dict[str, Any], words: str) -> None:
    """Before it is silently ignored."""
    with pytest.raises(ValidationError, match=words):
        TaskSpec.model_validate({"path": "x", **task})
