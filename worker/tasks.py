"""Tasks: examples from local files, read strictly, identified by a digest of their bytes.

A task is a directory with one `train`, `dev` and `test` file: `train.tsv`, or `…_train.tsv`
as CrossFit names them. Offline by construction: files are read here and handed to `datasets`
as columns, so no builder script, cache or hub is involved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.examples_file import BadRow, read_examples
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
    digest.update(canonical_json(reading_of(spec)))
    splits = {}
    for split, path in files.items():
        data = path.read_bytes()
        digest.update(f"\n{split} {len(data)}\n".encode() + data)
        try:
            rows = list(read_examples(path, data, spec))
        except BadRow as error:
            raise Misconfigured(f"{error}; {error.fix}") from error
        limit = spec.max_train_examples if split == "train" else spec.max_eval_examples
        rows = rows[:limit]
        if not rows:
            raise Misconfigured(f"{path}: has no examples; every split needs at least one")
        inputs, outputs = zip(*rows, strict=True)
        splits[split] = Dataset.from_dict({"input": list(inputs), "output": list(outputs)})
    return Task(splits=splits, digest="sha256:" + digest.hexdigest())


def reading_of(spec: TaskSpec) -> dict[str, Any]:
    """Return how the files are read. Unset later fields are left out: digests must not change."""
    since = {"header", "labels", "positive_label", "metrics", "max_new_tokens"}
    unset = {name for name in since if getattr(spec, name) is None}
    reading = spec.model_dump(mode="json", exclude={"path", "revision"} | unset)
    texts = spec.label_texts
    return reading if texts is None else reading | {"label_texts": dict(texts)}
