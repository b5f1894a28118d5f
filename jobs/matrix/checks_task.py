"""Whether a task is there and every row of its files is what it is said to be."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.example import BadRow
from jobs.matrix.findings import Finding
from jobs.names import printable
from jobs.sources import HUB_PREFIX, SourceAbsent, SourceMissing, find_task
from jobs.spec import TaskSpec
from jobs.task_files import read_split, task_files

_LONGEST_LINE = 1 << 20
_WHOLE_FILES = 256 << 20  # of a split


def check_task(task: TaskSpec, *, base_dir: Path, data_root: Path | None) -> Iterator[Finding]:
    """Yield what is wrong with the `task` section and its files."""
    wrong_prompt = list(_check_prompt(task))
    yield from wrong_prompt
    if task.revision is not None and not task.path.startswith(HUB_PREFIX):
        message = "belongs to a hub's data set, and task.path names none"
        yield Finding(
            path=("task", "revision"), message=message, fix="remove it, or write hub:NAME"
        )
    path = ("task", "path")
    if wrong_prompt:
        return
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
    try:
        files = task_files(directory, task)
    except SourceMissing as error:
        absent = f"{task.path}/{error.name}" if isinstance(error, SourceAbsent) else None
        yield Finding(path=path, message=str(error), fix=error.fix, absent=absent)
        return
    for split, paths in files.items():
        try:
            wrong = _split_wrong(task, split, paths)
        except OSError as error:
            wrong = (f"{error.filename}: {error.strerror}", "make it readable")
        if wrong is not None:
            yield Finding(path=path, message=wrong[0], fix=wrong[1])


def _split_wrong(task: TaskSpec, split: str, paths: Sequence[Path]) -> tuple[str, str] | None:
    """Return what is wrong with the first bad row; very large files are left to the worker."""
    if task.name == "plugin":
        return None  # its code runs in the worker alone
    # With a header or a prompt of many fields, what stands where is said by it.
    simple = task.name != "instruct" and not (task.header or task.fills_prompt)
    if simple and task.superni_spec is None:
        first = _first_line_wrong(paths[0], task)
        if first is not None:
            return first
    if sum(path.stat().st_size for path in paths) > _WHOLE_FILES:
        return None
    try:
        examples = read_split(task, split, [(path, path.read_bytes()) for path in paths])
        rows = sum(1 for _ in examples)
    except BadRow as error:
        return str(error), error.fix
    if rows == 0:
        return f"{paths[0]}: has no examples", "every split needs at least one"
    return None


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


def _check_prompt(task: TaskSpec) -> Iterator[Finding]:
    path = ("task", "prompt")
    try:
        parsed = list(string.Formatter().parse(task.prompt))
    except ValueError as error:
        yield Finding(path=path, message=str(error), fix="write {{ and }} for braces")
        return
    plain = all(not spec and not conversion for _, _, spec, conversion in parsed)
    fields = [name for _, name, _, _ in parsed if name is not None]
    named = bool(task.header) or task.name == "jsonl"
    if not fields or not plain or not all(fields) or (fields != ["input"] and not named):
        others = "one field at least" if named else "the field {input} once and no other"
        yield Finding(
            path=path,
            message=f"must have {others}",
            fix='write e.g. "Input: {input} Output: "'
            + ("" if named else ", or have named columns: task.header, or jsonl"),
        )
