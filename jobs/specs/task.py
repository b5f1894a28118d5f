"""The task: its data and how examples become text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveInt, model_validator

from jobs.known_tasks import KNOWN_TASKS, LABEL_METRICS, TEXT_METRICS, Metric
from jobs.specs.base import SpecModel

TaskName = Literal[
    "tsv", "jsonl",
    "sst2", "rottentomatoes", "imdb", "mnli", "qnli", "rte", "mrpc", "qqp",
    "nqopen", "samsum", "multi_news",
]  # fmt: skip

DEFAULT_NEW_TOKENS = 32


class TaskSpec(SpecModel):
    """A task: a directory with `train`, `dev` and `test` files of one format.

    `tsv` has two columns without a header, input and output (CrossFit layout), or with
    `header: true` columns with names; `jsonl` has one object a line. The other names are tasks
    of `jobs.known_tasks`, as tsv files. `path` may be `package:NAME` (shipped), a name below the
    site's data_root, an absolute path, one relative to the matrix file, or
    `hub:OWNER/NAME[/DIRECTORY]`.
    """

    name: TaskName
    path: str
    revision: str | None = None  # of a hub's data set; its commit, once it has been found
    header: bool | None = None  # tsv: the first line names the columns
    input_field: str = "input"
    output_field: str = "output"
    prompt: str = "Input: {input} Output: "
    max_length: PositiveInt = 64  # tokens, prompt and answer together
    max_new_tokens: PositiveInt | None = None  # of a generated answer
    max_train_examples: PositiveInt | None = None
    max_eval_examples: PositiveInt | None = None
    # What the file says -> the answer; another label is an error. `number`, `original`: the
    # known task's. None: of a known task `original`, otherwise any answer is good.
    labels: Literal["number", "original"] | dict[str, str] | None = None
    positive_label: str | None = None  # as the file says it: what f1 is about
    metrics: tuple[Metric, ...] | None = None  # besides loss and accuracy
    content_digest: str | None = None  # of the files, filled in at submission: new data, new job

    @property
    def file_format(self) -> Literal["tsv", "jsonl"]:
        """Return what the files are."""
        return "jsonl" if self.name == "jsonl" else "tsv"

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
        wanted = self.metrics if self.metrics is not None else known.metrics if known else ()
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
