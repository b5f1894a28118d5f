"""Evaluation counts every example once and gives one value, whatever the number of ranks."""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract.paths import JobDir
from worker.channel import Channel
from worker.collate import Sample
from worker.evaluation import evaluate, own_randomness, summarise
from worker.evaluation_set import EvaluationSet, plan_batches, prepare
from worker.kept_scores import KeptScores
from worker.scoring import Scored, score
from worker.store_client import BoundedStore

VOCABULARY = 12


class Module(torch.nn.Module):
    """A stand-in that scores the next token by a fixed table."""

    def __init__(self) -> None:
        super().__init__()
        table = torch.arange(VOCABULARY * VOCABULARY, dtype=torch.float32)
        self.table = (table * 7919 % 31 / 7).reshape(VOCABULARY, VOCABULARY)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


class Engine:
    """What evaluation needs of an engine."""

    device = torch.device("cpu")

    def __init__(self, stage: int) -> None:
        self.zero_stage = stage
        self.calls = 0

    @contextmanager
    def evaluating(self) -> Any:
        module = Module()
        module.register_forward_pre_hook(self._count)
        yield module

    def _count(self, *_: Any) -> None:
        self.calls += 1


def encode(source: str, output: str) -> Sample:
    """Return digits as tokens."""
    return Sample(tuple(int(c) for c in source), (*(int(c) for c in output), 11))


def examples(count: int = 7, *, labels: bool = True) -> EvaluationSet:
    """Return a small set; without labels every training output differs."""
    inputs = [str(i * 37 % 89) for i in range(count)]
    outputs = [str(i % 3) for i in range(count)]
    train = ["0", "1", "2"] if labels else [str(i) for i in range(20)]
    return prepare(encode, inputs, outputs, train_outputs=train)


def evaluate_on(
    world: int,
    data: EvaluationSet,
    *,
    stage: int = 2,
    job: JobDir | None = None,
    epoch: int = 1,
    notice_after: Callable[[int], bool] = lambda _calls: False,
) -> tuple[list[Any], list[int]]:
    """Evaluate with `world` ranks as threads; return their outcomes and numbers of calls.

    Scores are kept in `job` as the attempt of `epoch`; rank 0 gets a notice after so many calls.
    """
    store = dist.HashStore()
    place = job or JobDir(Path(tempfile.mkdtemp()))
    place.epochs.mkdir(parents=True, exist_ok=True)
    place.epoch(epoch).write_text("{}")
    outcomes: list[Any] = [None] * world
    engines = [Engine(stage) for _ in range(world)]

    def rank(number: int) -> None:
        channel = Channel(
            BoundedStore(store, timeout_seconds=10),
            rank=number,
            world_size=world,
            timeout_seconds=10,
        )
        outcomes[number] = evaluate(
            engines[number],  # type: ignore[arg-type]
            data,
            name="dev",
            channel=channel,
            kept=KeptScores(place, epoch=epoch, rank=number, name="dev", key="k"),
            batch_sequences=4,
            pad_id=0,
            noticed=lambda: number == 0 and notice_after(engines[0].calls),
        )

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return outcomes, [engine.calls for engine in engines]


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_any_number_of_ranks_gives_the_same_bits(world: int, labels: bool) -> None:
    """Metrics and scores equal those of one rank, exactly; every rank knows the metrics."""
    data = examples(labels=labels)
    (alone,), _ = evaluate_on(1, data)
    together, _ = evaluate_on(world, data)

    assert all(outcome.metrics == alone.metrics for outcome in together)
    assert together[0].scored == alone.scored
    assert [s.index for s in alone.scored] == list(range(len(data)))


def test_ranks_of_zero_3_call_the_module_equally_often() -> None:
    """Forward passes contain collectives there: a rank without a batch must take part."""
    _, calls = evaluate_on(3, examples(), stage=3)
    _, shared = evaluate_on(3, examples(), stage=2)

    assert len(set(calls)) == 1
    assert sum(shared) == len(list(plan_batches(examples(), 4)))


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("worlds", [(1, 1, 1), (2, 2, 2), (3, 1, 2)])
def test_what_was_scored_before_a_notice_is_not_scored_again(
    tmp_path: Path, worlds: tuple[int, int, int], stage: int
) -> None:
    """Two notices, three attempts: the outcome is the same, and no batch is scored twice."""
    data = examples(30)
    (alone,), (calls,) = evaluate_on(1, data)
    job, scored = JobDir(tmp_path), 0
    for epoch, world in enumerate(worlds, 1):
        last = epoch == len(worlds)
        outcomes, made = evaluate_on(
            world,
            data,
            stage=stage,
            job=job,
            epoch=epoch,
            notice_after=lambda done, last=last: not last and done >= 2,  # type: ignore[misc]
        )
        scored += sum(made)
        assert all((outcome is not None) == last for outcome in outcomes)

    assert outcomes[0].metrics == alone.metrics
    assert outcomes[0].scored == alone.scored
    if stage < 3 or max(worlds) == 1:  # else ranks without a batch score one for company
        assert scored == calls


def test_an_evaluation_that_is_kept_whole_scores_nothing(tmp_path: Path) -> None:
    """Killed between the last score and the result: the next attempt only counts."""
    data, job = examples(), JobDir(tmp_path)
    (first,), _ = evaluate_on(1, data, job=job)
    again, calls = evaluate_on(2, data, job=job, epoch=2)

    assert calls == [0, 0]
    assert again[0].scored == first.scored
    assert all(outcome.metrics == first.metrics for outcome in again)


def test_labels_are_chosen_by_likelihood() -> None:
    """The prediction is the label with the smallest negative log-likelihood."""
    data = examples(1)
    module, (sample,) = Module(), score(Module(), data, range(1), pad_id=0, device=Engine.device)
    expected = {}
    for label, candidate in zip(data.texts[0], data.candidates[0], strict=True):
        tokens = [*candidate.prompt, *candidate.answer]
        logs = torch.log_softmax(module.table, -1)
        start = len(candidate.prompt)
        expected[label] = -sum(
            logs[tokens[i - 1], tokens[i]].item() for i in range(start, len(tokens))
        )

    assert sample.prediction == min(expected, key=expected.__getitem__)
    assert sample.nll == pytest.approx(expected["0"], rel=1e-5)
    assert sample.tokens == 2


def test_an_answer_that_training_never_saw_is_wrong_but_has_a_loss() -> None:
    """It is no label, so it cannot be predicted."""
    data = prepare(encode, ["1"], ["9"], train_outputs=["0", "1"])
    (sample,) = score(Module(), data, range(1), pad_id=0, device=Engine.device)

    assert data.num_labels == 2
    assert not sample.correct
    assert sample.prediction in {"0", "1"}
    assert sample.nll > 0


@given(counts=st.lists(st.integers(1, 9), max_size=30), sequences=st.integers(1, 12))
def test_batches_cover_all_examples_in_order(counts: list[int], sequences: int) -> None:
    """None twice, none left out, no batch larger than asked unless one example is."""
    one = Sample((1,), (2,))
    data = EvaluationSet(
        candidates=[[one] * count for count in counts],
        gold=[0] * len(counts),
        texts=[["a"] * count for count in counts],
        num_labels=0,
    )
    batches = list(plan_batches(data, sequences))

    assert [index for batch in batches for index in batch] == list(range(len(counts)))
    for batch in batches:
        assert len(batch) == 1 or sum(counts[i] for i in batch) <= sequences


def test_a_missing_or_doubled_example_is_refused() -> None:
    """A silent mean over fewer examples would be a wrong result."""
    scored = [Scored(index=i, nll=1.0, tokens=2, correct=True, prediction="a") for i in (0, 1, 1)]

    assert summarise(scored[:2], expected=2) == {"loss": 0.5, "accuracy": 1.0}
    for wrong in (scored, scored[:1]):
        with pytest.raises(ValueError, match="twice or missing"):
            summarise(wrong, expected=2)


def test_training_does_not_notice_an_evaluation() -> None:
    """All global generators are as before."""

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), torch.rand(1).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with own_randomness(torch.device("cpu")):
        draw()

    assert draw() == expected
