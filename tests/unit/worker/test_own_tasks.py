"""Plug-ins, in-context examples and prompts that fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.example import Example
from jobs.spec import TaskSpec
from worker.failures import Misconfigured
from worker.plugins import plugin_examples
from worker.prompts import whole_prompt
from worker.shots import with_shots

SUMS = """
def examples(directory, split):
    for line in (directory / f"{split}.txt").read_text().splitlines():
        question, _, answer = line.partition(" = ")
        yield {"input": question, "output": answer, "groups": ["task.sums"]}
"""


def plugin(tmp_path: Path, text: str) -> list[Example]:
    """Return what a plug-in of this text yields."""
    (tmp_path / "my_task.py").write_text(text)
    (tmp_path / "train.txt").write_text("1 + 1 = 2\n2 + 2 = 4\n")
    task = TaskSpec.model_validate({"name": "plugin", "path": "x", "code": "my_task.py"})
    return list(plugin_examples(task, tmp_path, tmp_path, "train"))


def test_a_plugin_yields_examples(tmp_path: Path) -> None:
    """The example of the documentation, and groups besides."""
    assert plugin(tmp_path, SUMS) == [
        Example(source="1 + 1", answer="2", groups=("task.sums",)),
        Example(source="2 + 2", answer="4", groups=("task.sums",)),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", r"has no function examples\(directory, split\)"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("def examples(d, s):\n    yield 3", "train example 0: is no mapping"),
        ("def examples(d, s):\n    yield {'input': 'x'}", "train example 0: `output` is no text"),
        ("def examples(d, s):\n    raise KeyError('k')", r"examples\('train'\) failed: KeyError"),
        (
            "def examples(d, s):\n    yield {'input': '', 'output': '', 'a': 1}",
            "train example 0: is no mapping of",
        ),
    ],
)
def test_a_broken_plugin_is_named(tmp_path: Path, text: str, words: str) -> None:
    """With what went wrong in it."""
    with pytest.raises(Misconfigured, match=rf"my_task\.py: {words}"):
        plugin(tmp_path, text)


def test_shots_are_the_same_everywhere_and_not_trained_on() -> None:
    """Drawn by their own seed, cut to their length, before every prompt."""
    task = TaskSpec.model_validate(
        {"name": "tsv", "path": "x", "shots": {"count": 2, "max_characters": 20}}
    )
    assert task.shots is not None
    examples = [Example(source=f"question {n}", answer=f"answer {n}") for n in range(5)]
    found = with_shots({"train": examples, "test": examples[:1]}, task, task.shots)

    assert len(found["train"]) == 3
    (shown,) = {example.shown for examples in found.values() for example in examples}
    assert len(shown) == 2
    drawn = {example.source for example in examples} - {e.source for e in found["train"]}
    assert shown[0].startswith(tuple(f"Input: {source}"[:20] for source in drawn))
    assert [len(text) for text in shown] == [22, 22]
    with pytest.raises(Misconfigured, match=r"task\.shots\.count 2: the training split has 2"):
        with_shots({"train": examples[:2]}, task, task.shots)


@pytest.mark.parametrize(
    ("room", "expected"), [(1, "hs"), (5, "hs"), (6, "haaaas"), (8, "haaaas"), (9, "haaaabbbs")]
)
def test_a_prompt_takes_as_many_examples_as_fit(room: int, expected: str) -> None:
    """In their order; the first that does not fit ends it."""
    found = whole_prompt("h", ["aaaa", "bbb"], "s", fits=lambda text: len(text) <= room)
    assert found == expected
