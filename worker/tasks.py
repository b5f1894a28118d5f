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
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.spec import TaskSpec, canonical_json
from worker.failures import Misconfigured

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "dev", "test")
PACKAGE_PREFIX = "package:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The examples of a job: columns `input` and `output`, both str."""

    splits: Mapping[str, Dataset]
    digest: str  # of the files' bytes and of how they are read


def load_task(spec: TaskSpec, *, base_dir: str | None, data_root: str | None) -> Task:
    """Return the task's examples. Raises `Misconfigured` naming file and line."""
    from datasets import Dataset

    directory = find_task(spec.path, base_dir=base_dir, data_root=data_root)
    digest = hashlib.sha256()
    # What decides how bytes become examples is part of the data's identity.
    reading = spec.model_dump(mode="json", exclude={"path"})
    digest.update(canonical_json(reading))
    splits = {}
    for split in SPLITS:
        path = split_file(directory, split, spec.name)
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


def find_task(path: str, *, base_dir: str | None, data_root: str | None) -> Path:
    """Return a task's directory: shipped, absolute, below data_root, or beside the matrix."""
    if path.startswith(PACKAGE_PREFIX):
        name = path.removeprefix(PACKAGE_PREFIX)
        candidates = [Path(str(resources.files("jobs"))) / "data" / name]
    elif Path(path).is_absolute():
        candidates = [Path(path)]
    else:
        candidates = [Path(root) / path for root in (data_root, base_dir) if root]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    looked = ", ".join(str(candidate) for candidate in candidates) or "nowhere: no root is set"
    raise Misconfigured(
        f"task.path {path!r}: no such directory (looked at {looked});"
        " give an absolute path, or set data_root in site.yaml"
    )


def split_file(directory: Path, split: str, kind: str) -> Path:
    """Return the one file of a split. Raises `Misconfigured` for none or several."""
    exact = directory / f"{split}.{kind}"
    if exact.is_file():
        return exact
    found = sorted(directory.glob(f"*_{split}.{kind}"))
    if len(found) != 1:
        what = f"{len(found)} files named *_{split}.{kind}" if found else "neither"
        raise Misconfigured(
            f"{directory}: needs {split}.{kind} or one *_{split}.{kind}; there is {what}"
        )
    return found[0]


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
