"""Tasks that are known by name, as data: their labels, metrics and the kind of their answers.

The eleven tasks of the APET study, in the CrossFit layout: two columns, the label as a word.
`number` labels are what the answer becomes with `task.labels: number`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Metric = Literal[
    "accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman",
    "exact_match", "squad_em", "squad_f1", "rouge1", "rougeL",
    "superni_em", "rouge1_bytes", "rougeL_bytes",
]  # fmt: skip

LABEL_METRICS = frozenset({"accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman"})
TEXT_METRICS = frozenset(
    {
        "exact_match", "squad_em", "squad_f1", "rouge1", "rougeL",
        "superni_em", "rouge1_bytes", "rougeL_bytes",
    }
)  # fmt: skip
ALWAYS = frozenset({"loss", "accuracy"})  # measured of every task


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTask:
    """A task by name. Without labels its answers are free text, which is generated."""

    labels: Mapping[str, str] = field(default_factory=dict)  # word in the file -> number
    positive: str | None = None  # the word that f1 is about
    metrics: tuple[Metric, ...] = ("accuracy",)


_SENTIMENT = KnownTask(labels={"negative": "0", "positive": "1"}, positive="positive")
_ENTAILMENT = KnownTask(labels={"not_entailment": "0", "entailment": "1"}, positive="entailment")
_SUMMARY = KnownTask(metrics=("rouge1", "rougeL"))

KNOWN_TASKS: Mapping[str, KnownTask] = {
    "sst2": _SENTIMENT,
    "rottentomatoes": _SENTIMENT,
    "imdb": _SENTIMENT,
    "mnli": KnownTask(labels={"contradiction": "0", "entailment": "1", "neutral": "2"}),
    "qnli": _ENTAILMENT,
    "rte": _ENTAILMENT,
    "mrpc": KnownTask(
        labels={"not_equivalent": "0", "equivalent": "1"},
        positive="equivalent",
        metrics=("accuracy", "f1"),
    ),
    "qqp": KnownTask(
        labels={"not_duplicate": "0", "duplicate": "1"},
        positive="duplicate",
        metrics=("accuracy", "f1"),
    ),
    "nqopen": KnownTask(metrics=("squad_em", "squad_f1")),
    "samsum": _SUMMARY,
    "multi_news": _SUMMARY,
}
