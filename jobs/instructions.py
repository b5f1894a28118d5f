"""Instruction data: one JSON object a line, as Alpaca or as a chat has it.

`{"instruction": …, "input": …, "output": …}`, or `{"messages": [{"role": …, "content": …}, …]}`
with the roles system, user and assistant. Each answer of an assistant is an example; what stands
before it is its prompt. So the loss is on answers only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.example import BadRow, Example
from jobs.examples_file import text_lines
from jobs.specs.task import TaskSpec

ROLES = ("system", "user", "assistant")
_FIX = 'write {"instruction": …, "input": …, "output": …} or {"messages": [{"role", "content"}, …]}'


def read_instructions(path: Path, data: bytes, task: TaskSpec) -> Iterator[Example]:
    """Yield an example for each answer. Raises `BadRow`."""
    del task
    for number, line in text_lines(path, data):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadRow(f"{where}: not JSON: {error}", _FIX) from error
        if not isinstance(row, dict):
            raise BadRow(f"{where}: is no object", _FIX)
        before, answers = "", 0
        for role, text in _messages(where, row):
            if role == "assistant":
                answers += 1
                yield Example(source=f"{before}<|assistant|>\n", answer=text)
            before += f"<|{role}|>\n{text}\n"
        if not answers:
            raise BadRow(f"{where}: nobody answers", _FIX)


def _messages(where: str, row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "messages" not in row:
        given = row.get("input") or ""
        for name in ("instruction", "output"):
            if not isinstance(row.get(name), str):
                raise BadRow(f"{where}: has no text `{name}`", _FIX)
        if not isinstance(given, str):
            raise BadRow(f"{where}: `input` is no text", _FIX)
        yield "user", f"{row['instruction']}\n\n{given}" if given else row["instruction"]
        yield "assistant", row["output"]
        return
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise BadRow(f"{where}: `messages` is no list of messages", _FIX)
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        text = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(text, str):
            raise BadRow(
                f"{where}: message {index} has no role of {', '.join(ROLES)} or no text", _FIX
            )
        yield role, text.strip()
