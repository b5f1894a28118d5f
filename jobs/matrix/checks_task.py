"""Whether a task is there and every row of its files is what it is said to be."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from pathlib import Path

from jobs.catalog import SPLITS
from jobs.examples_file import BadRow, read_examples
from jobs.matrix.findings import Finding
from jobs.names import printable
from jobs.sources import HUB_PREFIX, SourceAbsent, SourceMissing, find_task, split_file
from jobs.spec import TaskSpec

_LONGEST_LINE = 1 << 20
_WHOLE_FILE = 64 << 20


def check_task(task: TaskSpec, *, base_dir: Path, data_root: Path | None) -> Iterator[Finding]:
    """Yield what is wrong with the `task` section and its files."""
    yield from _check_prompt(task.prompt)
    if task.revision is not None and not task.path.startswith(HUB_PREFIX):
        message = "belongs to a hub's data set, and task.path names none"
        yield Finding(
            path=("task", "revision"), message=message, fix="remove it, or write hub:NAME"
        )
    path = ("task", "path")
    try:
        directory = find_task(
            task.path, base_dir=base_dir, data_root=data_root, revision=task.revision
        )
    except SourceMissing as error:
        absent = task.path if isinstance(error, SourceAbsent) else None
        yield Finding(
            path=path,
            message=str(error),
            fix=error.fix,
            fetchable=error.fetchable,
            absent=absent,
        )
        return
    for split in SPLITS:
        try:
            file = split_file(directory, split, task.file_format)
            # With a header, what stands where is said by it: the rows are read by its names.
            first = None if task.header else _first_line_wrong(file, task)
            wrong = first or _row_wrong(file, task)
        except SourceMissing as error:
            name = f"{task.path}/{split}.{task.file_format}"
            absent = name if isinstance(error, SourceAbsent) else None
            yield Finding(path=path, message=str(error), fix=error.fix, absent=absent)
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
    if task.file_format == "tsv":
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


def _row_wrong(file: Path, task: TaskSpec) -> tuple[str, str] | None:
    """Return what is wrong with the first bad row; a very large file is left to the worker."""
    if file.stat().st_size > _WHOLE_FILE:
        return None
    try:
        rows = sum(1 for _ in read_examples(file, file.read_bytes(), task))
    except BadRow as error:
        return str(error), error.fix
    if rows == 0:
        return f"{file}: has no examples", "every split needs at least one"
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
