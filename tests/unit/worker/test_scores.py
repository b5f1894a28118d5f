"""Metrics equal their reference libraries on random cases, and the definitions by hand."""

from __future__ import annotations

import math
import random
import warnings
from typing import get_args

import pytest

from jobs.known_tasks import Metric
from worker.scores import measure, normal_answer, squad_f1

CASES = 1000
WORDS = ["run", "running", "the", "a", "Cats", "cat", "1.5", "über", "x-ray", "end."]


def cases(labels: list[str]) -> list[tuple[list[str], list[str]]]:
    """Return random predictions and gold answers; short ones meet every degenerate case."""
    draw = random.Random(len(labels))
    found = []
    for _ in range(CASES // 2):
        count = draw.randint(2, 12)
        found.append((draw.choices(labels, k=count), draw.choices(labels, k=count)))
    return found


def test_label_metrics_equal_scikit_learn() -> None:
    """Accuracy, F1, macro F1 and Matthews equal scikit-learn's."""
    sklearn = pytest.importorskip("sklearn.metrics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for predictions, gold in cases(["0", "1"]) + cases(["a", "b", "c"]):
            labels = sorted({*gold, *predictions})
            f1 = sklearn.f1_score(gold, predictions, labels=labels, average=None, zero_division=0)
            expected = {
                "accuracy": sklearn.accuracy_score(gold, predictions),
                "macro_f1": f1.mean(),
                "matthews": sklearn.matthews_corrcoef(gold, predictions),
            }
            for metric, value in expected.items():
                assert measure(metric, predictions, [[g] for g in gold]) == pytest.approx(
                    value, abs=1e-12
                )
            for label, value in zip(labels, f1, strict=True):
                assert measure(
                    "f1", predictions, [[g] for g in gold], positive=label
                ) == pytest.approx(value)


def test_correlations_equal_scipy() -> None:
    """Pearson and Spearman equal scipy's, ties included; a constant side gives 0."""
    stats = pytest.importorskip("scipy.stats")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for predictions, gold in cases(["0", "1", "2.5", "-3", "0.1"]) + cases(["0", "1"]):
            left, right = [float(x) for x in predictions], [float(x) for x in gold]
            for metric, peer in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
                value = float(peer(left, right)[0])
                expected = 0.0 if math.isnan(value) else value
                assert measure(metric, predictions, [[g] for g in gold]) == pytest.approx(
                    expected, abs=1e-9
                )


def test_rouge_equals_its_package() -> None:
    """Rouge is the mean F-measure of the reference package, gold answers as targets."""
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(
        ["rouge1", "rougeL"], use_stemmer=True
    )
    draw = random.Random(1)
    for _ in range(CASES):
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 6))) for _ in range(4)]
        predictions, gold = texts[:2], texts[2:]
        scores = [scorer.score(g, p) for p, g in zip(predictions, gold, strict=True)]
        for kind in ("rouge1", "rougeL"):
            mean = sum(s[kind].fmeasure for s in scores) / 2
            assert measure(kind, predictions, [[g] for g in gold]) == pytest.approx(mean, abs=1e-12)


def test_squad_by_hand() -> None:
    """Articles, case and punctuation do not count; words count as often as they stand."""
    assert normal_answer("The  Cat's, an A-team!") == "cats ateam"
    assert squad_f1("the red red cat", "a red cat") == pytest.approx(2 * 2 / 5)
    assert (squad_f1("the", ""), squad_f1("", "cat"), squad_f1("dog", "cat")) == (1.0, 0.0, 0.0)
    assert measure("squad_em", ["The cat.", "dog"], [["cat"], ["cat"]]) == 0.5
    assert measure("exact_match", ["The cat.", "dog"], [["cat"], ["cat", "dog"]]) == 0.5


def test_every_named_metric_is_measured() -> None:
    """What a matrix may name, the worker can measure."""
    for metric in get_args(Metric):
        assert measure(metric, ["1", "0"], [["1"], ["0"]], positive="1") == pytest.approx(1.0)
