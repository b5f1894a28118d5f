"""A tiny collection in the layout of Super-NaturalInstructions, of our own making."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_task(directory: Path, name: str, *, count: int, category: str, **changes: Any) -> None:
    """Write one task file."""
    task: dict[str, Any] = {
        "Definition": [f"Answer as {name} wants it"],
        "Categories": [category],
        "Positive Examples": [
            {"input": f"good {n}", "output": f"yes {n}", "explanation": "so"} for n in range(3)
        ],
        "Negative Examples": [{"input": "bad", "output": "no", "explanation": "not so"}],
        "Instances": [
            {"id": f"{name}-{n}", "input": f"{name} question {n}", "output": [f"a {n}", f"b {n}"]}
            for n in range(count)
        ],
    }
    folder = directory / "tasks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(task | changes))


def write_collection(directory: Path, *, count: int = 12) -> Path:
    """Write five tasks and their lists; return the directory."""
    for number in range(1, 4):
        write_task(directory, f"task{number}_x", count=count, category="Question Answering")
    write_task(directory, "task8_dev", count=count, category="Word Analogy")
    write_task(directory, "task9_test", count=count, category="Textual Entailment")
    lists = directory / "splits" / "default"
    lists.mkdir(parents=True)
    (lists / "train_tasks.txt").write_text("task1_x\ntask2_x\n\ntask3_x\n")
    (lists / "dev_tasks.txt").write_text("task8_dev\n")
    (lists / "test_tasks.txt").write_text("task9_test\ntask1_x\n")
    return directory
