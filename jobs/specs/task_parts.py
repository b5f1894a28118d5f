"""Parts of a task's section that some kinds of tasks have."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from jobs.specs.base import SpecModel


class SuperNiSpec(SpecModel):
    """Super-NaturalInstructions (Wang et al. 2022, arXiv 2204.07705): lists of tasks, a file each.

    Paths start at `task.path`. Training takes `per_task` instances of each training task, the
    traditional test as many others of the same tasks; dev and test the first `eval_per_task` of
    theirs. Without a `dev_file` the dev split is further instances of the training tasks.
    """

    splits: str = "splits/default"  # directory of the lists
    tasks: str = "tasks"  # directory of the task files
    train_file: str = "train_tasks.txt"
    dev_file: str | None = "dev_tasks.txt"
    test_file: str = "test_tasks.txt"
    per_task: PositiveInt = 100
    eval_per_task: PositiveInt = 100
    sample_seed: NonNegativeInt = 42  # of the training and the traditional test instances
    task_name: bool = False  # the prompt begins with it
    definition: bool = True
    positive_examples: NonNegativeInt = 0  # as many as fit
    negative_examples: NonNegativeInt = 0
    traditional_test: bool = False  # memorisation: a test of other instances of training tasks
    absent_tasks: Literal["refuse", "skip"] = "refuse"


class ShotsSpec(SpecModel):
    """In-context examples: so many of the training split stand before every prompt.

    They are the same for all examples, and are not trained on.
    """

    count: PositiveInt
    seed: NonNegativeInt = 0
    separator: str = "\n\n"
    max_characters: PositiveInt = 256  # of each; what is longer is cut
