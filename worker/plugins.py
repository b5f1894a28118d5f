"""Tasks of the user's own: a Python file that yields examples.

    def examples(directory, split):        # pathlib.Path; "train", "dev" or "test"
        for line in (directory / f"{split}.txt").read_text().splitlines():
            question, _, answer = line.partition(" = ")
            yield {"input": question, "output": answer}

The file is snapshotted at submission and runs in the worker only, in every rank alike: what it
yields must depend on nothing but its arguments. `references` (right answers besides) and `groups`
(what metrics are told apart by) are optional.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.example import Example
from jobs.spec import TaskSpec
from worker.failures import Misconfigured

FUNCTION = "examples"
_KEYS = frozenset({"input", "output", "references", "groups"})


def plugin_examples(
    task: TaskSpec, code: Path | None, directory: Path, split: str
) -> Iterator[Example]:
    """Yield what the plug-in yields. Raises `Misconfigured` naming the file."""
    if code is None or task.code is None:
        raise Misconfigured("task.code: there is no snapshot of the plug-in; submit again")
    path = code / task.code
    function = getattr(_loaded(path), FUNCTION, None)
    if not callable(function):
        raise Misconfigured(f"{task.code}: has no function {FUNCTION}(directory, split)")
    try:
        for number, row in enumerate(function(directory, split)):
            yield _example(f"{task.code}: {split} example {number}", row)
    except Misconfigured:
        raise
    except Exception as error:
        raise Misconfigured(f"{task.code}: {FUNCTION}({split!r}) failed: {error!r}") from error


def _loaded(path: Path) -> Any:
    found = importlib.util.spec_from_file_location(f"orch_task_{path.stem}", path)
    if found is None or found.loader is None:
        raise Misconfigured(f"{path.name}: is no Python file")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise Misconfigured(f"{path.name}: cannot be imported: {error!r}") from error
    return module


def _example(where: str, row: Any) -> Example:
    if not isinstance(row, Mapping) or not set(row) <= _KEYS:
        raise Misconfigured(f"{where}: is no mapping of {', '.join(sorted(_KEYS))}")
    for key in ("input", "output"):
        if not isinstance(row.get(key), str):
            raise Misconfigured(f"{where}: `{key}` is no text")
    lists = {key: tuple(row.get(key, ())) for key in ("references", "groups")}
    if not all(isinstance(text, str) for texts in lists.values() for text in texts):
        raise Misconfigured(f"{where}: `references` and `groups` are lists of texts")
    return Example(
        source=row["input"],
        answer=row["output"],
        references=lists["references"],
        groups=lists["groups"],
    )
