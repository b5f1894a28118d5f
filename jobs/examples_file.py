"""Rows of a task's files: one reader for the check at submission and for the worker."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

from jobs.example import BadRow
from jobs.names import printable
from jobs.specs.task import TaskSpec


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


def text_lines(path: Path, data: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty, with their numbers. Raises `BadRow`."""
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
    lines = text_lines(path, data)
    names = ["input", "output"]
    fields = _fields(task)
    if task.header:
        number, line = next(lines, (1, ""))
        names = line.split("\t")
        for field in (*fields.values(), task.output_field):
            if names.count(field) != 1:
                raise BadRow(
                    f"{path}:{number}: has no column {printable(field)} (or has it twice)",
                    f"columns: {', '.join(map(printable, names))}; set task.input_field and"
                    " task.output_field, or task.prompt",
                )
    output = task.output_field if task.header else "output"
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) != len(names):
            raise BadRow(
                f"{path}:{number}: has {len(columns)} columns, needs {len(names)}"
                f" ({', '.join(names)})",
                "write input, a tab, output; no header" if not task.header else "as the header",
            )
        row = dict(zip(names, columns, strict=True))
        yield number, _source(task, fields, row), row[output]


def _read_jsonl(path: Path, data: bytes, task: TaskSpec) -> Iterator[tuple[int, str, str]]:
    """Yield rows of a file with one JSON object a line."""
    fields = _fields(task)
    for number, line in text_lines(path, data):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadRow(f"{path}:{number}: not JSON: {error}", "one object a line") from error
        for field in (*fields.values(), task.output_field):
            value = row.get(field) if isinstance(row, dict) else None
            if not isinstance(value, str):
                raise BadRow(
                    f"{path}:{number}: {field!r} is not a string; see task.input_field",
                    "set task.input_field and task.output_field, or task.prompt",
                )
        yield number, _source(task, fields, row), row[task.output_field]


def _fields(task: TaskSpec) -> dict[str, str]:
    """Return the fields of the prompt, and what they are called in the file."""
    if not task.fills_prompt:
        return {
            "input": task.input_field if task.header or task.file_format == "jsonl" else "input"
        }
    return {name: task.input_field if name == "input" else name for name in task.prompt_fields}


def _source(task: TaskSpec, fields: Mapping[str, str], row: Mapping[str, str]) -> str:
    """Return the input, or the whole prompt where it has other fields than that."""
    if not task.fills_prompt:
        return row[fields["input"]]
    return "".join(
        text + (row[fields[name]] if name is not None else "")
        for text, name, _, _ in string.Formatter().parse(task.prompt)
    )
