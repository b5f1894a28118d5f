"""The task: its data and how examples become text."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveInt, model_validator

from jobs.known_tasks import KNOWN_TASKS, LABEL_METRICS, TEXT_METRICS, Metric
from jobs.specs.base import SpecModel
from jobs.specs.task_parts import ShotsSpec, SuperNiSpec

TaskName = Literal[
    "tsv", "jsonl", "instruct", "superni", "plugin",
    "sst2", "rottentomatoes", "imdb", "mnli", "qnli", "rte", "mrpc", "qqp",
    "nqopen", "samsum", "multi_news",
]  # fmt: skip

DEFAULT_NEW_TOKENS = 32
USUAL_METRICS: Mapping[str, tuple[Metric, ...]] = {"superni": ("rougeL", "superni_em")}
PROMPT = "Input: {input} Output: "


class TaskSpec(SpecModel):
    """A task: a directory with `train`, `dev` and `test` files of one format.

    `tsv` has two columns without a header, input and output (CrossFit layout), or with
    `header: true` columns with names; `jsonl` has one object a line; `instruct` is instruction
    data (`jobs.instructions`), `superni` Super-NaturalInstructions, `plugin` what the Python file
    `code` yields. The other names are tasks of `jobs.known_tasks`, as tsv files. `path` may be
    `package:NAME` (shipped), a name below the site's data_root, an absolute path, one relative to
    the matrix file, or `hub:OWNER/NAME[/DIRECTORY]`.
    """

    name: TaskName
    path: str
    revision: str | None = None  # of a hub's data set; its commit, once it has been found
    header: bool | None = None  # tsv: the first line names the columns
    input_field: str = "input"
    output_field: str = "output"
    prompt: str = PROMPT
    max_length: PositiveInt = 64  # tokens, prompt and answer together
    max_new_tokens: PositiveInt | None = None  # of a generated answer
    too_long: Literal["cut", "refuse"] | None = None  # what exceeds max_length; None: cut
    max_train_examples: PositiveInt | None = None
    max_eval_examples: PositiveInt | None = None
    # What the file says -> the answer; another label is an error. `number`, `original`: the
    # known task's. None: of a known task `original`, otherwise any answer is good.
    labels: Literal["number", "original"] | dict[str, str] | None = None
    positive_label: str | None = None  # as the file says it: what f1 is about
    metrics: tuple[Metric, ...] | None = None  # besides loss and accuracy
    superni: SuperNiSpec | None = None
    shots: ShotsSpec | None = None
    # dev and test are so many examples each, from the end of the training file.
    held_out_examples: PositiveInt | None = None
    code: str | None = None  # of a plug-in: a Python file, snapshotted at submission
    content_digest: str | None = None  # of the files, filled in at submission: new data, new job

    @property
    def file_format(self) -> Literal["tsv", "jsonl"]:
        """Return what the files are."""
        return "jsonl" if self.name in ("jsonl", "instruct") else "tsv"

    @property
    def superni_spec(self) -> SuperNiSpec | None:
        """Return how Super-NaturalInstructions are read, None for another task."""
        return self.superni or SuperNiSpec() if self.name == "superni" else None

    @property
    def prompt_fields(self) -> tuple[str, ...]:
        """Return the names in `prompt`, in their order. Raises ValueError for a broken one."""
        parsed = string.Formatter().parse(self.prompt)
        return tuple(name for _, name, _, _ in parsed if name is not None)

    @property
    def fills_prompt(self) -> bool:
        """Tell whether the reader fills the prompt, since it has other fields than the input."""
        return self.prompt_fields != ("input",)

    @property
    def template(self) -> str:
        """Return the prompt around what was read as the input."""
        whole = self.name in ("instruct", "superni") or self.fills_prompt
        return "{input}" if whole else self.prompt

    @property
    def label_texts(self) -> Mapping[str, str] | None:
        """Return word in the file -> answer, None where any answer is good."""
        if isinstance(self.labels, dict):
            return self.labels
        known = KNOWN_TASKS.get(self.name)
        if known is None or not known.labels:
            return None
        return known.labels if self.labels == "number" else {word: word for word in known.labels}

    @property
    def positive_text(self) -> str | None:
        """Return the answer that f1 is about."""
        known = KNOWN_TASKS.get(self.name)
        word = self.positive_label or (known.positive if known else None)
        return (self.label_texts or {}).get(word) if word is not None else None

    @property
    def measured(self) -> tuple[Metric, ...]:
        """Return the metrics of predictions that are measured besides loss and accuracy."""
        known = KNOWN_TASKS.get(self.name)
        usual = known.metrics if known else USUAL_METRICS.get(self.name, ())
        wanted = self.metrics if self.metrics is not None else usual
        return tuple(metric for metric in wanted if metric != "accuracy")

    @property
    def new_tokens(self) -> int:
        """Return the tokens of a generated answer at most; 0 where nothing is generated."""
        if not TEXT_METRICS.intersection(self.measured):
            return 0
        return self.max_new_tokens or min(DEFAULT_NEW_TOKENS, max(1, self.max_length // 2))

    @model_validator(mode="after")
    def _labels_fit(self) -> TaskSpec:
        texts = self.label_texts
        if isinstance(self.labels, str) and texts is None:
            raise ValueError(f"`labels: {self.labels}` needs a task with known labels; give a map")
        if isinstance(self.labels, dict) and len(self.labels) < 2:
            raise ValueError("`labels` needs two labels at least")
        if texts is not None and (len(set(texts.values())) < len(texts) or "" in texts.values()):
            raise ValueError("`labels` has an answer twice, or an empty one")
        if self.positive_label is not None and self.positive_label not in (texts or {}):
            raise ValueError(f"`positive_label` {self.positive_label!r} is none of `labels`")
        if self.name in ("instruct", "superni") and self.prompt != PROMPT:
            raise ValueError(f"`prompt` is given by task {self.name}: leave it out")
        if (self.superni is not None) != (self.name == "superni") and self.superni is not None:
            raise ValueError("`superni` belongs to the task superni")
        if (self.code is None) != (self.name != "plugin"):
            raise ValueError("the task plugin needs `code`, and no other task has it")
        if self.held_out_examples is not None and self.name in ("superni", "plugin"):
            raise ValueError(f"`held_out_examples` does not belong to the task {self.name}")
        if self.header and self.file_format != "tsv":
            raise ValueError("`header` belongs to tsv files")
        return self

    @model_validator(mode="after")
    def _metrics_fit(self) -> TaskSpec:
        measured = set(self.measured)
        of_labels = measured & LABEL_METRICS
        if of_labels and measured & TEXT_METRICS:
            raise ValueError("`metrics` are of labels or of generated text, not both")
        if of_labels and self.label_texts is None:
            raise ValueError(f"metric {min(of_labels)} needs `labels`")
        if "f1" in measured and self.positive_text is None:
            raise ValueError("metric f1 needs `positive_label`")
        if measured & {"pearson", "spearman"} and not _numbers(self.label_texts or {}):
            raise ValueError("metrics pearson and spearman need labels whose answers are numbers")
        if self.new_tokens >= self.max_length:
            raise ValueError(
                f"`max_new_tokens` {self.new_tokens} leaves no room for the prompt in `max_length`"
                f" {self.max_length}"
            )
        return self


def _numbers(texts: Mapping[str, str]) -> bool:
    try:
        return all(float(text) == float(text) for text in texts.values())
    except ValueError:
        return False
