"""Tasks: examples from local files, read strictly, identified by a digest of their bytes.

Offline by construction: files are read here and handed to `datasets` as columns, so no builder
script, cache or hub is involved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.example import BadRow, Example
from jobs.spec import TaskSpec, canonical_json
from jobs.task_files import read_split
from worker.failures import Misconfigured
from worker.plugins import plugin_examples
from worker.shots import with_shots
from worker.sources import files_of_task

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The examples of a job: columns `input` and `output`, both str, and those of `Example`."""

    splits: Mapping[str, Dataset]
    digest: str  # of the files' bytes and of how they are read


def load_task(
    spec: TaskSpec, *, base_dir: str | None, data_root: str | None, code: Path | None = None
) -> Task:
    """Return the task's examples. Raises `Misconfigured` naming file and line.

    `code`: where the snapshot of a plug-in lies.
    """
    directory, files = files_of_task(spec, base_dir=base_dir, data_root=data_root)
    digest = hashlib.sha256()
    # What decides how bytes become examples is part of the data's identity.
    digest.update(canonical_json(reading_of(spec)))
    found: dict[str, list[Example]] = {}
    for split, paths in files.items():
        data = [(path, path.read_bytes()) for path in paths]
        for _, content in data:
            digest.update(f"\n{split} {len(content)}\n".encode() + content)
        try:
            if spec.name == "plugin":
                examples: Iterable[Example] = plugin_examples(spec, code, directory, split)
            else:
                examples = read_split(spec, split, data)
            limit = spec.max_train_examples if split == "train" else spec.max_eval_examples
            found[split] = list(examples)[:limit]
        except BadRow as error:
            raise Misconfigured(f"{error}; {error.fix}") from error
        if not found[split]:
            where = paths[0] if paths else directory
            raise Misconfigured(
                f"{where}: has no examples of split {split}; every split needs at least one"
            )
        if spec.name == "plugin":
            digest.update(repr(found[split]).encode())
    if spec.shots is not None:
        found = with_shots(found, spec, spec.shots)
    splits = {split: _columns(examples) for split, examples in found.items()}
    return Task(splits=splits, digest="sha256:" + digest.hexdigest())


def _columns(examples: list[Example]) -> Dataset:
    from datasets import Dataset

    columns: dict[str, list[Any]] = {
        "input": [example.source for example in examples],
        "output": [example.answer for example in examples],
    }
    for name in ("head", "shown", "references", "groups"):
        values = [getattr(example, name) for example in examples]
        if any(values):
            columns[name] = values
    return Dataset.from_dict(columns)


def reading_of(spec: TaskSpec) -> dict[str, Any]:
    """Return how the files are read. Unset later fields are left out: digests must not change."""
    since = {
        "header", "labels", "positive_label", "metrics", "max_new_tokens",
        "superni", "shots", "held_out_examples", "code", "too_long",
    }  # fmt: skip
    unset = {name for name in since if getattr(spec, name) is None}
    reading = spec.model_dump(mode="json", exclude={"path", "revision"} | unset)
    texts = spec.label_texts
    return reading if texts is None else reading | {"label_texts": dict(texts)}
