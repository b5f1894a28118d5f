"""Tasks: examples from local files, read strictly, identified by a digest of their bytes.

A task is a directory with one `train`, `dev` and `test` file: `train.tsv`, or `…_train.tsv`
as CrossFit names them. Offline by construction: files are read here and handed to `datasets`
as columns, so no builder script, cache or hub is involved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.spec import TaskSpec, canonical_json
from worker.failures import Misconfigured
from worker.sources import task_files

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The examples of a job: columns `input` and `output`, both str."""

    splits: Mapping[str, Dataset]
    digest: str  # of the files' bytes and of how they are read


def load_task(spec: TaskSpec, *, base_dir: str | None, data_root: str | None) -> Task:
    """Return the task's examples. Raises `Misconfigured` naming file and line."""
    from datasets import Dataset

    files = task_files(spec, base_dir=base_dir, data_root=data_root)
    digest = hashlib.sha256()
    # What decides how bytes become examples is part of the data's identity.
    reading = spec.model_dump(mode="json", exclude={"path"})
    digest.update(canonical_json(reading))
    splits = {}
    for split, path in files.items():
        data = path.read_bytes()
        digest.update(f"\n{split} {len(data)}\n".encode() + data)
        rows = list(READERS[spec.name](path, data, spec))
        limit = spec.max_train_examples if split == "train" else spec.max_eval_examples
        rows = rows[:limit]
        if not rows:
            raise Misconfigured(f"{path}: has no examples; every split needs at least one")
        inputs, outputs = zip(*rows, strict=True)
        splits[split] = Dataset.from_dict({"input": list(inputs), "output": list(outputs)})
    return Task(splits=splits, digest="sha256:" + digest.hexdigest())


def _lines(path: Path, data: bytes) -> Iterator[tuple[int, str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path}: not UTF-8 at byte {error.start}") from error
    # Not splitlines(): it also breaks at U+2028 and form feeds, which are text here.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r")


def read_tsv(path: Path, data: bytes, spec: TaskSpec) -> Iterator[tuple[str, str]]:
    """Yield `(input, output)` of a two-column TSV without header; quotes are plain text."""
    for number, line in _lines(path, data):
        columns = line.split("\t")
        if len(columns) != 2:
            raise Misconfigured(
                f"{path}:{number}: has {len(columns)} columns, needs 2 (input, output)"
            )
        yield columns[0], columns[1]


def read_jsonl(path: Path, data: bytes, spec: TaskSpec) -> Iterator[tuple[str, str]]:
    """Yield `(input, output)` of a file with one JSON object a line."""
    for number, line in _lines(path, data):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise Misconfigured(f"{path}:{number}: not JSON: {error}") from error
        values = []
        for field in (spec.input_field, spec.output_field):
            value = row.get(field) if isinstance(row, dict) else None
            if not isinstance(value, str):
                raise Misconfigured(
                    f"{path}:{number}: {field!r} is not a string; see task.input_field"
                )
            values.append(value)
        yield values[0], values[1]


Reader = Callable[[Path, bytes, TaskSpec], Iterator[tuple[str, str]]]
READERS: dict[str, Reader] = {"tsv": read_tsv, "jsonl": read_jsonl}
