"""Super-NaturalInstructions: disjoint splits, whole prompts, and files that are what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.example import BadRow, Example
from jobs.sources import SourceMissing
from jobs.spec import TaskSpec
from jobs.task_files import every_file, read_split, task_files
from tests.unit.jobs.superni_collection import write_collection, write_task


def task(directory: Path, **superni: Any) -> TaskSpec:
    """Return a task of this collection."""
    return TaskSpec.model_validate({"name": "superni", "path": str(directory), "superni": superni})


def read(directory: Path, split: str, **superni: Any) -> list[Example]:
    """Return the examples of a split."""
    spec = task(directory, **superni)
    paths = task_files(directory, spec)[split]
    return list(read_split(spec, split, [(path, path.read_bytes()) for path in paths]))


def test_training_and_its_tests_are_disjoint(tmp_path: Path) -> None:
    """The memorisation test has other instances of the same tasks; nothing is in two splits."""
    write_collection(tmp_path)
    options = {"per_task": 4, "eval_per_task": 3, "traditional_test": True, "dev_file": None}
    found = {
        split: [example.source for example in read(tmp_path, split, **options)]
        for split in ("train", "traditional", "dev")
    }

    assert [len(sources) for sources in found.values()] == [12, 12, 9]
    every = [source for sources in found.values() for source in sources]
    assert len(set(every)) == len(every)
    again = [example.source for example in read(tmp_path, "train", **options)]
    assert again == found["train"]
    other = [e.source for e in read(tmp_path, "train", **options, sample_seed=1)]
    assert other != again


def test_a_short_task_gives_what_it_has(tmp_path: Path) -> None:
    """Training comes first; the traditional test has the rest."""
    write_collection(tmp_path, count=5)
    options = {"per_task": 4, "traditional_test": True}

    assert len(read(tmp_path, "train", **options)) == 3 * 4
    assert len(read(tmp_path, "traditional", **options)) == 3 * 1
    assert len(read(tmp_path, "test", eval_per_task=2)) == 4


def test_an_example_says_all_that_is_known(tmp_path: Path) -> None:
    """Definition, examples, references, and the groups that metrics are told apart by."""
    write_collection(tmp_path)
    first = read(tmp_path, "test", positive_examples=2, negative_examples=1, task_name=True)[0]

    assert first.head == "task9_test. Definition: Answer as task9_test wants it.\n\n"
    assert first.shown == (
        "Positive Example 1 -\nInput: good 0\nOutput: yes 0\n\n",
        "Positive Example 2 -\nInput: good 1\nOutput: yes 1\n\n",
        "Negative Example 1 -\nInput: bad\nOutput: no\n\n",
    )
    assert first.source == (
        "Now complete the following example -\nInput: task9_test question 0\nOutput: "
    )
    assert first.references == ("a 0", "b 0")
    assert first.answer in first.references
    assert first.groups == ("task.task9_test", "category.textual_entailment")
    assert not read(tmp_path, "test", definition=False)[0].head


def test_a_listed_task_without_a_file_is_named_or_skipped(tmp_path: Path) -> None:
    """Never silently: most files of the official lists may be elsewhere."""
    write_collection(tmp_path)
    lists = tmp_path / "splits" / "default"
    (lists / "test_tasks.txt").write_text("task9_test\ntask77_gone\n")

    with pytest.raises(SourceMissing, match=r"test_tasks\.txt:2: there is no .*task77_gone\.json"):
        task_files(tmp_path, task(tmp_path))
    files = task_files(tmp_path, task(tmp_path, absent_tasks="skip"))
    assert [path.name for path in files["test"]] == ["test_tasks.txt", "task9_test.json"]
    assert len(every_file(files)) == 3 + 5
    (lists / "dev_tasks.txt").unlink()
    with pytest.raises(SourceMissing, match=r"dev_tasks\.txt: no such list"):
        task_files(tmp_path, task(tmp_path, absent_tasks="skip"))
    (lists / "train_tasks.txt").write_text("../../etc/passwd\n")
    with pytest.raises(SourceMissing, match="is no task"):
        task_files(tmp_path, task(tmp_path, dev_file=None))


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ({"output": ["x"]}, "no text `input`"),
        ({"input": "x", "output": []}, "no `output`"),
        ({"input": "x", "output": [3]}, "no text"),
        ("x", "no text `input`"),
    ],
)
def test_a_bad_instance_is_named(tmp_path: Path, instance: object, words: str) -> None:
    """File and number of the instance."""
    write_collection(tmp_path)
    write_task(tmp_path, "task9_test", count=0, category="X", Instances=[instance])
    with pytest.raises(BadRow, match=rf"task9_test\.json: instance 0: .*{words}"):
        read(tmp_path, "test")


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    """What is missing is said."""
    write_collection(tmp_path)
    (tmp_path / "tasks" / "task9_test.json").write_text('{"Instances": []}')
    with pytest.raises(BadRow, match=r"task9_test\.json: is no Super-NaturalInstructions task"):
        read(tmp_path, "test")
