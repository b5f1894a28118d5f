"""Super-NaturalInstructions: which files a task needs, and their instances.

The layout is that of the published collection: a list of task names a split, and a JSON file a
task with `Definition`, `Categories`, `Positive Examples`, `Negative Examples` and `Instances`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.example import BadRow, Example
from jobs.names import UNSAFE_IN_NAME, printable
from jobs.sources import SourceAbsent, SourceMissing
from jobs.specs.task_parts import SuperNiSpec

TRADITIONAL = "traditional"
INPUT = "Now complete the following example -\nInput: "


def superni_files(directory: Path, spec: SuperNiSpec) -> dict[str, tuple[Path, ...]]:
    """Return the files of each split: the list, then a file a task. Raises `SourceMissing`."""
    lists = {"train": spec.train_file, "dev": spec.dev_file, "test": spec.test_file}
    files = {
        split: _files_of(directory, spec, name) for split, name in lists.items() if name is not None
    }
    files.setdefault("dev", files["train"])
    if spec.traditional_test:
        files[TRADITIONAL] = files["train"]
    order = ("train", "dev", "test", TRADITIONAL)
    return {split: files[split] for split in order if split in files}


def _files_of(directory: Path, spec: SuperNiSpec, name: str) -> tuple[Path, ...]:
    path = directory / spec.splits / name
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise SourceAbsent(
            f"{path}: no such list of tasks",
            "see task.superni.splits and its *_file keys",
            name=f"{spec.splits}/{name}",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SourceMissing(f"{path}: cannot be read: {error}", "one task a line") from error
    found = [path]
    for number, line in enumerate(lines, 1):
        task = line.strip()
        if not task:
            continue
        if UNSAFE_IN_NAME.search(task) or "/" in task:
            raise SourceMissing(f"{path}:{number}: {printable(task)} is no task", "write its name")
        file = directory / spec.tasks / f"{task}.json"
        if file.is_file():
            found.append(file)
        elif spec.absent_tasks == "refuse":
            raise SourceMissing(
                f"{path}:{number}: there is no {file}",
                "put the file there, take the line out, or set task.superni.absent_tasks: skip",
            )
    if len(found) == 1:
        raise SourceMissing(f"{path}: names no task that is there", "one task a line")
    return tuple(found)


def read_superni(
    split: str, files: Sequence[tuple[Path, bytes]], spec: SuperNiSpec
) -> Iterator[Example]:
    """Yield a split's examples, task by task. Raises `BadRow`."""
    for path, data in files[1:]:
        yield from _task_examples(split, path, data, spec)


def _task_examples(split: str, path: Path, data: bytes, spec: SuperNiSpec) -> Iterator[Example]:
    try:
        task = json.loads(data)
        instances, categories = task["Instances"], task["Categories"]
        head = _head(path.stem, task, spec)
        shown = tuple(_shown(task, spec))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadRow(
            f"{path}: is no Super-NaturalInstructions task ({type(error).__name__}: {error})",
            "it needs Definition, Categories, Positive Examples and Instances",
        ) from error
    groups = (f"task.{path.stem}", *(f"category.{_named(c)}" for c in categories))
    for index in _chosen(split, path.stem, len(instances), spec):
        source, references = _instance(path, index, instances[index])
        # Any of the references is right; one is trained on, the same in every job.
        answer = random.Random(f"{spec.sample_seed}/{path.stem}/{index}").choice(references)  # noqa: S311
        yield Example(
            source=f"{INPUT}{source}\nOutput: ",
            answer=answer,
            references=tuple(references),
            groups=groups,
            head=head,
            shown=shown,
        )


def _instance(path: Path, index: int, instance: Any) -> tuple[str, list[str]]:
    fix = "an instance has `input` and `output`, the latter a list of texts"
    if not isinstance(instance, dict) or not isinstance(instance.get("input"), str):
        raise BadRow(f"{path}: instance {index}: has no text `input`", fix)
    output = instance.get("output")
    references = [output] if isinstance(output, str) else output
    if not isinstance(references, list) or not references:
        raise BadRow(f"{path}: instance {index}: has no `output`", fix)
    if not all(isinstance(reference, str) for reference in references):
        raise BadRow(f"{path}: instance {index}: an `output` is no text", fix)
    return instance["input"], references


def _chosen(split: str, task: str, count: int, spec: SuperNiSpec) -> Sequence[int]:
    """Return which instances a split has: those of training and its tests are disjoint."""
    twice = min(count, 2 * spec.per_task)
    if split == "test" or (split == "dev" and spec.dev_file is not None):
        return range(min(count, spec.eval_per_task))
    if split == "dev":
        return range(twice, min(count, twice + spec.eval_per_task))
    order = random.Random(f"{spec.sample_seed}/{task}").sample(range(twice), twice)  # noqa: S311
    return order[: spec.per_task] if split == "train" else order[spec.per_task :]


def _head(name: str, task: Mapping[str, Any], spec: SuperNiSpec) -> str:
    head = f"{name}. " if spec.task_name else ""
    if spec.definition:
        said = task["Definition"]
        text = (said[0] if isinstance(said, list) else said).strip()
        head += f"Definition: {text}" + ("" if text.endswith(tuple(".!?")) else ".")
    return f"{head}\n\n" if head else ""


def _shown(task: Mapping[str, Any], spec: SuperNiSpec) -> Iterator[str]:
    for kind, wanted in (
        ("Positive", spec.positive_examples),
        ("Negative", spec.negative_examples),
    ):
        for number, example in enumerate(task[f"{kind} Examples"][:wanted], 1):
            source, output = example["input"].strip(), example["output"].strip()
            yield f"{kind} Example {number} -\nInput: {source}\nOutput: {output}\n\n"


def _named(category: str) -> str:
    return "_".join(category.lower().split()).rstrip(".")
