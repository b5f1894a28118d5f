"""In-context examples: some of the training split stand before every prompt."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from jobs.example import Example
from jobs.spec import TaskSpec
from jobs.specs.task_parts import ShotsSpec
from worker.failures import Misconfigured


def with_shots(
    found: Mapping[str, list[Example]], task: TaskSpec, shots: ShotsSpec
) -> dict[str, list[Example]]:
    """Return the splits with the drawn examples before each source, and without them in train.

    Raises `Misconfigured` where nothing would be left to train on.
    """
    train = found["train"]
    if len(train) <= shots.count:
        raise Misconfigured(
            f"task.shots.count {shots.count}: the training split has {len(train)} examples, and at"
            " least one must be left to train on"
        )
    drawn = random.Random(shots.seed).sample(range(len(train)), shots.count)  # noqa: S311
    before = tuple(_shown(train[index], task, shots) for index in drawn)
    chosen = set(drawn)
    rest = [example for index, example in enumerate(train) if index not in chosen]
    return {
        split: [
            replace(example, shown=(*before, *example.shown))
            for example in (rest if split == "train" else examples)
        ]
        for split, examples in found.items()
    }


def _shown(example: Example, task: TaskSpec, shots: ShotsSpec) -> str:
    text = task.template.replace("{input}", example.source) + example.answer
    return text[: shots.max_characters] + shots.separator
