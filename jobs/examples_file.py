"""Rows of a task's files: one reader for the check at submission and for the worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from jobs.names import printable
from jobs.specs.task import TaskSpec


class BadRow(ValueError):
    """A file cannot be read as the task says; the message names file and row, `fix` what helps."""

    def __init__(self, message: str, fix: str) -> None:
        self.fix = fix
        super().__init__(message)


def read_examples(path: Path, data: bytes, task: TaskSpec) -> Iterator[tuple[str, str]]:
    """Yield `(input, answer)`, the answer being the label's text. Raises `BadRow`."""
    texts = task.label_texts
    reader = _read_jsonl if task.file_format == "jsonl" else _read_tsv
    for number, source, output in reader(path, data, task):
        if texts is None:
            yield source, output
        elif output in texts:
            yield source, texts[output]
        else:
            raise BadRow(
                f"{path}:{number}: label {printable(output)} is none of the task's",
                f"its labels are {', '.join(map(printable, texts))}; see task.labels",
            )


def _lines(path: Path, data: bytes) -> Iterator[tuple[int, str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    # Not splitlines(): it also breaks at U+2028 and form feeds, which are text here.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r")


def _read_tsv(path: Path, data: bytes, task: TaskSpec) -> Iterator[tuple[int, str, str]]:
    """Yield rows of a TSV; quotes are plain text."""
    lines = _lines(path, data)
    names = ["input", "output"]
    first, second = 0, 1
    if task.header:
        number, line = next(lines, (1, ""))
        names = line.split("\t")
        for field in (task.input_field, task.output_field):
            if names.count(field) != 1:
                raise BadRow(
                    f"{path}:{number}: has no column {printable(field)} (or has it twice)",
                    f"columns: {', '.join(map(printable, names))}; set task.input_field and"
                    " task.output_field",
                )
        first, second = names.index(task.input_field), names.index(task.output_field)
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) != len(names):
            raise BadRow(
                f"{path}:{number}: has {len(columns)} columns, needs {len(names)}"
                f" ({', '.join(names)})",
                "write input, a tab, output; no header" if not task.header else "as the header",
            )
        yield number, columns[first], columns[second]


def _read_jsonl(path: Path, data: bytes, task: TaskSpec) -> Iterator[tuple[int, str, str]]:
    """Yield rows of a file with one JSON object a line."""
    for number, line in _lines(path, data):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadRow(f"{path}:{number}: not JSON: {error}", "one object a line") from error
        values = []
        for field in (task.input_field, task.output_field):
            value = row.get(field) if isinstance(row, dict) else None
            if not isinstance(value, str):
                raise BadRow(
                    f"{path}:{number}: {field!r} is not a string; see task.input_field",
                    "set task.input_field and task.output_field",
                )
            values.append(value)
        yield number, values[0], values[1]
