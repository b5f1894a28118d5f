"""Evaluation: every example once, whatever the number of ranks, and the same value for all.

Batches are composed without regard to the ranks and dealt out round by round; per-example
values come together by index and are summed in that order in float64. Training's random state
is put aside meanwhile. Between batches a notice is heard, and all ranks give up together. Scores
are durable as they come (`worker.kept_scores`): only batches that are missing are scored.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from durable.faults import hit
from worker.agreement import EvaluationAgreement
from worker.channel import Channel
from worker.collate import IGNORED, Sample
from worker.engine import Engine
from worker.forms import DECODER, Form
from worker.kept_scores import KeptScores, Row, whole_batches
from worker.scores import measure
from worker.snapshot.rng import capture_rng, restore_rng
from worker.writer import Writer

MAX_LABELS = 16  # up to this many different outputs a task counts as classification
EVALUATION_SEED = 20_261_122
log = logging.getLogger("orch")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """A split, ready to be scored. `candidates[i]` are the answers tried for example i.

    The gold answer is `gold[i]`, an index into them. Without labels it is the only one, and
    accuracy counts the examples whose every answer token is the most likely one.
    """

    candidates: Sequence[Sequence[Sample]]
    gold: Sequence[int]
    texts: Sequence[Sequence[str]]
    num_labels: int  # 0: no classification; gold may lie behind them
    metrics: tuple[str, ...] = ()  # besides loss and accuracy
    positive: str | None = None  # the answer that f1 is about
    form: Form = DECODER
    writer: Writer | None = None  # answers are generated
    prompts: Sequence[Sequence[int]] = ()  # what they are generated after

    def __len__(self) -> int:
        return len(self.gold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One example's values."""

    index: int
    nll: float  # of the gold answer, summed over its tokens
    tokens: int
    correct: bool
    prediction: str | None  # None: a wrong free-form answer is not generated


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The outcome. `scored` is complete on rank 0 and empty elsewhere."""

    metrics: Mapping[str, float]
    scored: Sequence[Scored]


def evaluate(
    engine: Engine,
    examples: EvaluationSet,
    *,
    name: str,
    channel: Channel,
    kept: KeptScores,
    batch_sequences: int,
    pad_id: int,
    noticed: Callable[[], bool],
    beat: Callable[[], None] = lambda: None,
    came_to: Callable[[int, int], None] = lambda _count, _of: None,
) -> Evaluation | None:
    """Score all examples; None when the ranks agreed to give up. All ranks call it together.

    Batches that are `kept` are not scored again; `came_to` hears how many examples are safe there.
    """
    batches = list(plan_batches(examples, batch_sequences))
    ticket = channel.ticket(f"evaluate-{name}")
    earlier, places = _remaining(batches, kept, channel, ticket, expected=len(examples))
    rounds = math.ceil(len(places) / channel.world_size)
    agreement = EvaluationAgreement(
        channel, ticket=ticket, rounds=rounds, coupled=engine.zero_stage == 3
    )
    done = len(examples) - sum(len(batches[place]) for place in places)
    came_to(done, len(examples))
    mine: list[Row] = []
    lockstep = max(map(len, batches)) if engine.zero_stage == 3 else 0
    with own_randomness(engine.device), engine.evaluating() as module:
        for current in range(rounds):
            if name == "dev":
                hit("evaluate.before_dev_round")
            else:
                hit("evaluate.before_test_round")
            if agreement.gives_up(current, noticed=noticed()):
                if kept.flush():
                    came_to(done, len(examples))
                return None
            dealt = places[current * channel.world_size :][: channel.world_size]
            has_one = channel.rank < len(dealt)
            if has_one or lockstep:  # forward passes contain collectives there
                batch = batches[dealt[channel.rank] if has_one else 0]
                found = score(module, examples, batch, pad_id=pad_id, device=engine.device)
                found = written(
                    module, examples, found, device=engine.device, lockstep=lockstep, beat=beat
                )
                rows = [as_row(scored) for scored in found] if has_one else []
                mine += rows
                done += sum(len(batches[place]) for place in dealt)
                if kept.add(rows):
                    came_to(done, len(examples))
            beat()
    kept.flush()
    return _together(
        examples, earlier, mine, channel=channel, ticket=ticket, interrupted=agreement.given_up
    )


def _together(
    examples: EvaluationSet,
    earlier: Sequence[Row],
    mine: Sequence[Row],
    *,
    channel: Channel,
    ticket: str,
    interrupted: Callable[[], bool],
) -> Evaluation | None:
    """Return the outcome of all ranks' rows; None where some rank gave up."""
    gathered = channel.collect(ticket, mine, interrupted=interrupted)
    if channel.rank == 0 and gathered is None:
        return None
    scored = sorted(
        (from_row(row) for rows in (earlier, *(gathered or ())) for row in rows),
        key=lambda s: s.index,
    )
    metrics = channel.tell(
        ticket,
        summarise(scored, expected=len(examples)) | measured(scored, examples)
        if channel.rank == 0
        else None,
        interrupted=interrupted,
    )
    return None if metrics is None else Evaluation(metrics=metrics, scored=scored)


def _remaining(
    batches: Sequence[range], kept: KeptScores, channel: Channel, ticket: str, *, expected: int
) -> tuple[list[Row], list[int]]:
    """Return the rows that are kept (rank 0 only) and which batches are still to be scored.

    Rank 0 looks for all: what others see of a shared disk may be older.
    """
    rows = kept.earlier(expected=expected) if channel.rank == 0 else {}
    whole = whole_batches(batches, rows)
    places: list[int] = channel.tell(
        f"{ticket}/remaining", [place for place in range(len(batches)) if place not in whole]
    )
    if whole:
        log.info("%d of %d batches were scored by earlier attempts", len(whole), len(batches))
    return [rows[index] for place in sorted(whole) for index in batches[place]], places


def as_row(scored: Scored) -> Row:
    """Return a score as it travels and is kept."""
    return (scored.index, scored.nll, scored.tokens, scored.correct, scored.prediction)


def from_row(row: Sequence[Any]) -> Scored:
    """Return the score that a row says."""
    index, nll, tokens, correct, prediction = row
    return Scored(index=index, nll=nll, tokens=tokens, correct=correct, prediction=prediction)


def summarise(scored: Sequence[Scored], *, expected: int) -> dict[str, float]:
    """Return the metrics; sums run in the order of the examples. Pure.

    Raises ValueError unless every example is there once.
    """
    if [s.index for s in scored] != list(range(expected)):
        raise ValueError(f"{len(scored)} scores for {expected} examples: some twice or missing")
    nll, tokens = 0.0, 0
    for example in scored:
        nll += example.nll
        tokens += example.tokens
    correct = sum(example.correct for example in scored)
    if not math.isfinite(nll):
        raise ArithmeticError(f"the evaluation loss is {nll}: the weights are no numbers any more")
    return {"loss": nll / tokens, "accuracy": correct / expected}


def measured(scored: Sequence[Scored], examples: EvaluationSet) -> dict[str, float]:
    """Return the task's own metrics of the predictions. Pure."""
    predictions = [s.prediction or "" for s in scored]
    gold = [texts[place] for texts, place in zip(examples.texts, examples.gold, strict=True)]
    return {
        metric: measure(metric, predictions, gold, positive=examples.positive)
        for metric in examples.metrics
    }


def written(
    module: Any,
    examples: EvaluationSet,
    found: list[Scored],
    *,
    device: torch.device,
    lockstep: int,
    beat: Callable[[], None],
) -> list[Scored]:
    """Return the values with generated answers, where the task wants them."""
    if examples.writer is None:
        return found
    texts = examples.writer.write(
        module,
        [examples.prompts[s.index] for s in found],
        device=device,
        lockstep=lockstep,
        beat=beat,
    )
    gold = [examples.texts[s.index][examples.gold[s.index]].strip() for s in found]
    return [
        replace(s, prediction=text, correct=text == answer)
        for s, text, answer in zip(found, texts, gold, strict=True)
    ]


def prepare(
    encode: Callable[[str, str], Sample],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    train_outputs: Sequence[str],
    known_labels: Sequence[str] | None = None,
    metrics: tuple[str, ...] = (),
    positive: str | None = None,
    form: Form = DECODER,
    writer: Writer | None = None,
) -> EvaluationSet:
    """Return the set to score: with few different training outputs, all of them as labels.

    `known_labels` are the labels whatever stands in the training data; a `writer` means there
    are none.
    """
    labels = sorted(set(train_outputs if known_labels is None else known_labels))
    if writer is not None or (known_labels is None and len(labels) > MAX_LABELS):
        labels = []
    candidates, gold, texts = [], [], []
    for source, output in zip(inputs, outputs, strict=True):
        tried = labels if output in labels else [*labels, output]
        candidates.append([encode(source, answer) for answer in tried])
        gold.append(tried.index(output))
        texts.append(tried)
    return EvaluationSet(
        candidates=candidates,
        gold=gold,
        texts=texts,
        num_labels=len(labels),
        metrics=metrics,
        positive=positive,
        form=form,
        writer=writer,
        prompts=[writer.prompt(source) for source in inputs] if writer else (),
    )


def plan_batches(examples: EvaluationSet, sequences: int) -> Iterator[range]:
    """Yield runs of examples with at most `sequences` candidates each (one example at least)."""
    start = count = 0
    for index, candidates in enumerate(examples.candidates):
        if index > start and count + len(candidates) > sequences:
            yield range(start, index)
            start, count = index, 0
        count += len(candidates)
    if len(examples) > start:
        yield range(start, len(examples))


def score(
    module: Any, examples: EvaluationSet, indices: range, *, pad_id: int, device: torch.device
) -> list[Scored]:
    """Return the values of a batch of examples."""
    flat = [sample for index in indices for sample in examples.candidates[index]]
    batch = {key: value.to(device) for key, value in examples.form.collate(flat, pad_id).items()}
    labels = batch["labels"]
    if examples.form.ahead:  # others need it to see what they have to predict after
        del batch["labels"]
    logits, labels = examples.form.aligned(module(**batch).logits, labels)
    nll, exact = token_scores(logits.float(), labels)
    scores, place = [], 0
    for index in indices:
        count, gold = len(examples.candidates[index]), examples.gold[index]
        tried = nll[place : place + count]
        if examples.num_labels:
            best = min(range(examples.num_labels), key=tried.__getitem__)
            correct = best == gold
            prediction: str | None = examples.texts[index][best]
        else:
            correct = exact[place + gold]
            prediction = examples.texts[index][gold] if correct else None
        scores.append(
            Scored(
                index=index,
                nll=tried[gold],
                tokens=len(examples.candidates[index][gold].answer),
                correct=correct,
                prediction=prediction,
            )
        )
        place += count
    return scores


def token_scores(logits: torch.Tensor, labels: torch.Tensor) -> tuple[list[float], list[bool]]:
    """Return each sequence's summed answer NLL (float64) and whether argmax hits every token.

    logits: (sequences, tokens, vocabulary); labels: (sequences, tokens), -100 where ignored.
    """
    answer = labels != IGNORED
    targets = labels.masked_fill(~answer, 0)
    log_probabilities = torch.log_softmax(logits, dim=-1)
    chosen = log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    nll = -(chosen.double() * answer).sum(-1)
    hits = (logits.argmax(-1) == targets) | ~answer
    return nll.tolist(), hits.all(-1).tolist()


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Give the block generators of its own; training's are as before afterwards."""
    tensors, plain = capture_rng(device)
    torch.manual_seed(EVALUATION_SEED)
    try:
        yield
    finally:
        restore_rng(tensors, plain, device)
