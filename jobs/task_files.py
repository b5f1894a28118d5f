"""A task's files and their examples, whatever its kind: for the check at submission and the worker.

Only the examples of a plug-in are known to the worker alone, since its code runs nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jobs.catalog import SPLITS
from jobs.example import BadRow, Example
from jobs.examples_file import read_examples
from jobs.instructions import read_instructions
from jobs.sources import SourceAbsent, split_file
from jobs.specs.task import TaskSpec
from jobs.superni import read_superni, superni_files

Files = Sequence[tuple[Path, bytes]]


def task_files(directory: Path, task: TaskSpec) -> dict[str, tuple[Path, ...]]:
    """Return the files of each split, in the order in which they are read.

    Raises `SourceMissing`.
    """
    if task.superni_spec is not None:
        return superni_files(directory, task.superni_spec)
    if task.name == "plugin":
        return dict.fromkeys(SPLITS, ())
    held = task.held_out_examples is not None
    return {split: (_file(directory, "train" if held else split, task),) for split in SPLITS}


def _file(directory: Path, split: str, task: TaskSpec) -> Path:
    try:
        return split_file(directory, split, task.file_format)
    except SourceAbsent as error:
        name = f"{split}.{task.file_format}"
        raise SourceAbsent(str(error), error.fix, name=name) from error


def every_file(files: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Return all files, each once."""
    return list(dict.fromkeys(path for paths in files.values() for path in paths))


def read_split(task: TaskSpec, split: str, files: Files) -> Iterator[Example]:
    """Yield the examples of a split. Raises `BadRow`."""
    if task.superni_spec is not None:
        yield from read_superni(split, files, task.superni_spec)
        return
    ((path, data),) = files
    reader = read_instructions if task.name == "instruct" else _pairs
    if task.held_out_examples is None:
        yield from reader(path, data, task)
        return
    examples = list(reader(path, data, task))
    yield from _part(examples, split, path, task.held_out_examples)


def _part(examples: list[Example], split: str, path: Path, held: int) -> list[Example]:
    """Return the training examples, or those at the end of its file that are held out."""
    if len(examples) <= 2 * held:
        raise BadRow(
            f"{path}: {len(examples)} examples cannot have 2 x {held} held out",
            "lower task.held_out_examples",
        )
    train, dev, test = examples[: -2 * held], examples[-2 * held : -held], examples[-held:]
    return {"train": train, "dev": dev, "test": test}[split]


def _pairs(path: Path, data: bytes, task: TaskSpec) -> Iterator[Example]:
    for source, answer in read_examples(path, data, task):
        yield Example(source=source, answer=answer)
