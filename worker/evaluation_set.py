"""A split ready to be scored: which answers are tried for each example, and in which batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from worker.collate import Sample
from worker.forms import DECODER, Form
from worker.writer import Writer

MAX_LABELS = 16  # up to this many different outputs a task counts as classification


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """A split, ready to be scored. `candidates[i]` are the answers tried for example i.

    The gold answer is `gold[i]`, an index into them. Without labels it is the only one, and
    accuracy counts the examples whose every answer token is the most likely one. Of an encoder
    `candidates[i]` is the gold class alone.
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
    references: Sequence[Sequence[str]] = ()  # right answers, where an example has several
    groups: Sequence[Sequence[str]] = ()  # of each example: what its metrics are told apart by

    def right_answers(self, index: int) -> Sequence[str]:
        """Return the texts that count as right."""
        return self.references[index] if self.references else [self.gold_text(index)]

    def gold_text(self, index: int) -> str:
        """Return the answer that is scored."""
        return self.texts[index][self.gold[index]]

    def __len__(self) -> int:
        return len(self.gold)


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
    references: Sequence[Sequence[str]] = (),
    groups: Sequence[Sequence[str]] = (),
    kept: Callable[[Callable[[], Sample]], Sample] = lambda make: make(),
) -> EvaluationSet:
    """Return the set to score: with few different training outputs, all of them as labels.

    `known_labels` are the labels whatever stands in the training data; a `writer` means there
    are none. `kept`: takes a prompt from where it is kept, or has it made.
    """
    labels = sorted(set(train_outputs if known_labels is None else known_labels))
    if form.classes:
        labels = list(known_labels or labels)
    elif writer is not None or (known_labels is None and len(labels) > MAX_LABELS):
        labels = []
    candidates, gold, texts = [], [], []
    for source, output in zip(inputs, outputs, strict=True):
        tried = labels if output in labels else [*labels, output]
        # An encoder scores all classes of an example at once.
        answers = [output] if form.classes else tried
        candidates.append([encode(source, answer) for answer in answers])
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
        prompts=[_prompt(writer, source, kept) for source in inputs] if writer else (),
        references=references,
        groups=groups,
    )


def _prompt(
    writer: Writer, source: str, kept: Callable[[Callable[[], Sample]], Sample]
) -> tuple[int, ...]:
    return kept(lambda: Sample(tuple(writer.prompt(source)), ())).prompt


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
