"""Metrics of predictions against gold answers: pure functions of two lists of texts.

All are shares of 1 (correlations from -1 to 1) and higher is better. What has no value (a
correlation of constants) is 0.0, so that a mean over seeds stays a number.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

Texts = Sequence[str]


def accuracy(predictions: Texts, gold: Texts) -> float:
    """Return the share of equal texts."""
    return sum(p == g for p, g in zip(predictions, gold, strict=True)) / len(gold)


def f1_of(predictions: Texts, gold: Texts, label: str) -> float:
    """Return F1 of one label against all others; 0 where it is neither predicted nor gold."""
    pairs = list(zip(predictions, gold, strict=True))
    hits = sum(p == g == label for p, g in pairs)
    said = sum((p == label) + (g == label) for p, g in pairs)
    return 2 * hits / said if said else 0.0


def macro_f1(predictions: Texts, gold: Texts) -> float:
    """Return the mean F1 of the labels that are predicted or gold."""
    labels = sorted({*predictions, *gold})
    return math.fsum(f1_of(predictions, gold, label) for label in labels) / len(labels)


def matthews(predictions: Texts, gold: Texts) -> float:
    """Return Matthews' correlation coefficient, of any number of labels."""
    count = len(gold)
    hits = sum(p == g for p, g in zip(predictions, gold, strict=True))
    said, true = Counter(predictions), Counter(gold)
    covariance = hits * count - sum(said[label] * true[label] for label in true)
    spread = (count**2 - sum(n * n for n in said.values())) * (
        count**2 - sum(n * n for n in true.values())
    )
    return covariance / math.sqrt(spread) if spread else 0.0


def pearson(predictions: Sequence[float], gold: Sequence[float]) -> float:
    """Return Pearson's correlation; 0 for a constant side."""
    # Means of equal numbers may differ from them by a rounding, and give a spread out of noise.
    if len(set(predictions)) < 2 or len(set(gold)) < 2:
        return 0.0
    mean_p, mean_g = math.fsum(predictions) / len(gold), math.fsum(gold) / len(gold)
    left, right = [p - mean_p for p in predictions], [g - mean_g for g in gold]
    product = math.fsum(a * b for a, b in zip(left, right, strict=True))
    return product / (math.hypot(*left) * math.hypot(*right))


def spearman(predictions: Sequence[float], gold: Sequence[float]) -> float:
    """Return Spearman's correlation: Pearson's of the ranks, ties at their mean rank."""
    return pearson(_ranks(predictions), _ranks(gold))


def _ranks(values: Sequence[float]) -> list[float]:
    counts = Counter(values)
    rank_of, below = {}, 0
    for value in sorted(counts):
        rank_of[value] = below + (counts[value] + 1) / 2
        below += counts[value]
    return [rank_of[value] for value in values]


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal_answer(text: str) -> str:
    """Return an answer as SQuAD compares it: lower case, no punctuation, no articles."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def squad_em(prediction: str, gold: str) -> float:
    """Return whether the normalised answers are equal."""
    return float(normal_answer(prediction) == normal_answer(gold))


def squad_f1(prediction: str, gold: str) -> float:
    """Return F1 over the words of the normalised answers; two empty ones are equal."""
    said, true = normal_answer(prediction).split(), normal_answer(gold).split()
    if not said or not true:
        return float(said == true)
    common = (Counter(said) & Counter(true)).total()
    return 2 * common / (len(said) + len(true))


def rouge(kind: str, prediction: str, gold: str, *, of_bytes: bool = False) -> float:
    """Return the F-measure of `rouge1` or `rougeL` of the rouge-score package.

    Of stemmed English words, or `of_bytes`, for any script.
    """
    score: float = _scorer(kind, of_bytes=of_bytes).score(gold, prediction)[kind].fmeasure
    return score


@cache
def _scorer(kind: str, *, of_bytes: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    if of_bytes:
        return RougeScorer([kind], tokenizer=_Bytes())
    return RougeScorer([kind], use_stemmer=True)


class _Bytes:
    """A tokenizer for rouge in any script: each byte of UTF-8 is a token."""

    @staticmethod
    def tokenize(text: str) -> list[str]:
        """Return the bytes of the text in lower case, white space trimmed and joined."""
        return [f"{byte:02x}" for byte in " ".join(text.lower().split()).encode()]


def superni_em(prediction: str, gold: str) -> float:
    """Return whether two answers are equal but for case, punctuation and white space."""

    def normal(text: str) -> str:
        return " ".join(text.lower().translate(_PUNCTUATION).split())

    return float(normal(prediction) == normal(gold))


def best_of(
    score: Callable[[str, str], float], predictions: Texts, right: Sequence[Texts]
) -> float:
    """Return the mean over the predictions of the score against the best right answer."""
    best = (max(score(p, g) for g in texts) for p, texts in zip(predictions, right, strict=True))
    return math.fsum(best) / len(predictions)


def measure(
    metric: str, predictions: Texts, right: Sequence[Texts], *, positive: str | None = None
) -> float:
    """Return a metric by its name in `jobs.known_tasks`. Raises KeyError for another name.

    `right`: the right answers of each; metrics of labels take the first.
    """
    if metric in _OF_PAIRS:
        return best_of(_OF_PAIRS[metric], predictions, right)
    gold = [texts[0] for texts in right]
    if metric == "f1":
        if positive is None:
            raise ValueError("f1 needs the label that it is about")
        return f1_of(predictions, gold, positive)
    if metric in ("pearson", "spearman"):
        numbers = [float(p) for p in predictions], [float(g) for g in gold]
        return pearson(*numbers) if metric == "pearson" else spearman(*numbers)
    return _OF_LABELS[metric](predictions, gold)


_OF_LABELS: dict[str, Callable[[Texts, Texts], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "matthews": matthews,
}
_OF_PAIRS: dict[str, Callable[[str, str], float]] = {
    "exact_match": lambda p, g: float(p == g),
    "superni_em": superni_em,
    "squad_em": squad_em,
    "squad_f1": squad_f1,
    "rouge1": lambda p, g: rouge("rouge1", p, g),
    "rougeL": lambda p, g: rouge("rougeL", p, g),
    "rouge1_bytes": lambda p, g: rouge("rouge1", p, g, of_bytes=True),
    "rougeL_bytes": lambda p, g: rouge("rougeL", p, g, of_bytes=True),
}
