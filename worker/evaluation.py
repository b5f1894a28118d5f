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
from worker.engine import Engine
from worker.evaluation_set import EvaluationSet, plan_batches
from worker.kept_scores import KeptScores, Row, whole_batches
from worker.scores import measure
from worker.scoring import Scored, score
from worker.snapshot.rng import capture_rng, restore_rng

EVALUATION_SEED = 20_261_122
log = logging.getLogger("orch")


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
            elif name == "test":
                hit("evaluate.before_test_round")
            else:
                hit("evaluate.before_further_round")
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
    """Return the task's own metrics of the predictions, of the whole and of each group. Pure.

    A group's metric is called `GROUP.METRIC`.
    """
    found = _measured_of(scored, examples)
    members: dict[str, list[Scored]] = {}
    for one, groups in zip(scored, examples.groups, strict=False):
        for group in groups:
            members.setdefault(group, []).append(one)
    for group, some in sorted(members.items()):
        for metric, value in _measured_of(some, examples).items():
            found[f"{group}.{metric}"] = value
    return found


def _measured_of(scored: Sequence[Scored], examples: EvaluationSet) -> dict[str, float]:
    predictions = [s.prediction or "" for s in scored]
    right = [examples.right_answers(s.index) for s in scored]
    return {
        metric: measure(metric, predictions, right, positive=examples.positive)
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
    right = [[text.strip() for text in examples.right_answers(s.index)] for s in found]
    return [
        replace(s, prediction=text, correct=text in answers)
        for s, text, answers in zip(found, texts, right, strict=True)
    ]


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Give the block generators of its own; training's are as before afterwards."""
    tensors, plain = capture_rng(device)
    torch.manual_seed(EVALUATION_SEED)
    try:
        yield
    finally:
        restore_rng(tensors, plain, device)
