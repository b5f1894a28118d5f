"""Whether a task is there and looks like what it is said to be; reads a line of each file."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from pathlib import Path

from jobs.catalog import SPLITS
from jobs.matrix.findings import Finding
from jobs.names import printable
from jobs.sources import SourceMissing, find_task, split_file
from jobs.spec import TaskSpec

_LONGEST_LINE = 1 << 20


def check_task(task: TaskSpec, *, base_dir: Path, data_root: Path | None) -> Iterator[Finding]:
    """Yield what is wrong with the `task` section and its files."""
    yield from _check_prompt(task.prompt)
    path = ("task", "path")
    try:
        directory = find_task(task.path, base_dir=base_dir, data_root=data_root)
    except SourceMissing as error:
        yield Finding(path=path, message=str(error), fix=error.fix)
        return
    for split in SPLITS:
        try:
            file = split_file(directory, split, task.name)
            wrong = _first_line_wrong(file, task)
        except SourceMissing as error:
            yield Finding(path=path, message=str(error), fix=error.fix)
            return
        except OSError as error:
            wrong = (f"{error.filename}: {error.strerror}", "make it readable")
        if wrong is not None:
            yield Finding(path=path, message=wrong[0], fix=wrong[1])


def _first_line_wrong(file: Path, task: TaskSpec) -> tuple[str, str] | None:
    with file.open("rb") as stream:
        line = stream.readline(_LONGEST_LINE).strip(b"\r\n")
    if not line.strip():
        return f"{file} begins with an empty line or is empty", "write one example a line"
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return f"{file}:1 is not UTF-8", "save the file as UTF-8"
    if task.name == "tsv":
        columns = len(text.split("\t"))
        fix = "write input, a tab, output; no header"
        return None if columns == 2 else (f"{file}:1 has {columns} columns, not 2", fix)
    try:
        row = json.loads(text)
    except ValueError:
        return f"{file}:1 is not JSON", "write one JSON object a line"
    for name, field in (("input_field", task.input_field), ("output_field", task.output_field)):
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            return f"{file}:1 has no text {printable(field)}", f"set task.{name}"
    return None


def _check_prompt(prompt: str) -> Iterator[Finding]:
    path = ("task", "prompt")
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None]
        plain = all(
            not spec and not conversion
            for _, name, spec, conversion in string.Formatter().parse(prompt)
            if name is not None
        )
    except ValueError as error:
        yield Finding(path=path, message=str(error), fix="write {{ and }} for braces")
        return
    if fields != ["input"] or not plain:
        yield Finding(
            path=path,
            message="must have the field {input} once and no other",
            fix='write e.g. "Input: {input} Output: "',
        )
