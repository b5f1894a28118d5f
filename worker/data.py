"""The data of a job: its task's examples as samples, in an order, with what is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.contract.records import WorkerSite
from jobs.spec import Run, Semantic
from worker.collate import ClassEncoder, Encoder, Sample
from worker.evaluation_set import EvaluationSet, prepare
from worker.failures import Misconfigured
from worker.forms import FORMS, Form
from worker.lengths import Lengths
from worker.order import DataOrder
from worker.prompts import whole_prompt
from worker.sources import tokenizer_source
from worker.tasks import Task, load_task
from worker.token_cache import TokenCache, Tokens, tokenizer_identity, tokens_key
from worker.vocabulary import load_tokenizer, vocabulary_digest
from worker.writer import Writer

Encode = Callable[[str, str], Sample]
NO_CACHE = TokenCache(None)
MAX_CLASSES = 1000  # of an encoder, where the task does not say them


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The task's samples as the loop and the evaluation need them."""

    train: Sequence[Sample]
    order: DataOrder
    evaluations: Mapping[str, EvaluationSet]  # dev, test and what the task has besides
    pad_id: int
    form: Form
    digest: str
    vocabulary_digest: str
    classes: int = 0  # of an encoder


def build_tokenizer(semantic: Semantic, task: Task, run: Run, site: WorkerSite) -> Any:
    """Return the job's tokenizer, trained from the task's training text where none is given."""
    return load_tokenizer(
        semantic.model.tokenizer,
        path=tokenizer_source(semantic.model, base_dir=run.base_dir, models_root=site.models_root),
        texts=(text for row in task.splits["train"] for text in (row["input"], row["output"])),
    )


def build_data(
    semantic: Semantic,
    run: Run,
    site: WorkerSite,
    *,
    code: Path | None = None,
    cache: TokenCache = NO_CACHE,
    keeps: bool = True,
) -> tuple[Any, Data]:
    """Return the tokenizer and the tokenised data. Raises `Misconfigured`.

    `code`: where the snapshot of a plug-in lies; `keeps`: new samples are put into the cache.
    """
    task = load_task(semantic.task, base_dir=run.base_dir, data_root=site.data_root, code=code)
    tokenizer = build_tokenizer(semantic, task, run, site)
    form = FORMS[semantic.model.family]
    classes = class_labels(semantic, task) if form.classes else None
    known = semantic.task.label_texts
    labels = classes or (None if known is None else list(known.values()))
    key = tokens_key(
        data=task.digest,
        tokenizer=tokenizer_identity(tokenizer),
        family=semantic.model.family,
        classes=classes,
    )
    tokens = cache.open(key)
    lengths = Lengths(semantic.task)
    made, writer = _encoders(semantic, tokenizer, form, classes, lengths.note)
    texts = _Texts(semantic, task, tokenizer, tokens, lengths, made)
    samples = list(map(texts.encode, texts.inputs("train"), task.splits["train"]["output"]))
    evaluations = {
        split: _evaluation(texts, split, labels=labels, writer=writer)
        for split in task.splits
        if split != "train"
    }
    lengths.say()
    if keeps:
        cache.keep(key, tokens)
    data = Data(
        train=samples,
        order=DataOrder(
            seed=semantic.seed, samples=len(samples), global_batch=semantic.train.global_batch
        ),
        evaluations=evaluations,
        pad_id=tokenizer.pad_token_id,
        form=form,
        digest=task.digest,
        vocabulary_digest=vocabulary_digest(tokenizer),
        classes=len(classes or ()),
    )
    return tokenizer, data


@dataclass(slots=True)
class _Texts:
    """A task's texts on their way to samples, from the cache where it has them."""

    semantic: Semantic
    task: Task
    tokenizer: Any
    tokens: Tokens
    lengths: Lengths
    made: Encode

    def encode(self, source: str, output: str) -> Sample:
        """Return the next sample."""
        self.lengths.source = source
        return self.tokens.sample(lambda: self.made(source, output))

    def inputs(self, split: str) -> list[str]:
        """Return what `encode` gets; anything of that number where samples are found."""
        rows = self.task.splits[split]
        self.lengths.split = split
        if self.tokens.found:
            return list(rows["input"])
        return _inputs(self.semantic, rows, self.tokenizer)


def _evaluation(
    texts: _Texts, split: str, *, labels: Sequence[str] | None, writer: Writer | None
) -> EvaluationSet:
    semantic, task = texts.semantic, texts.task
    return prepare(
        texts.encode,
        texts.inputs(split),
        list(task.splits[split]["output"]),
        **_right(task, split),
        train_outputs=list(task.splits["train"]["output"]),
        known_labels=labels,
        metrics=semantic.task.measured,
        positive=semantic.task.positive_text,
        form=FORMS[semantic.model.family],
        writer=writer,
        kept=texts.tokens.sample,
    )


def _right(task: Task, split: str) -> dict[str, Any]:
    """Return what besides the answers is known of a split's examples."""
    rows = task.splits[split]
    return {
        name: list(rows[name]) for name in ("references", "groups") if name in rows.column_names
    }


def _inputs(semantic: Semantic, rows: Any, tokenizer: Any) -> list[str]:
    """Return what the encoder gets: sources, or whole prompts where something stands before."""
    columns = set(rows.column_names)
    if not columns & {"head", "shown"}:
        return list(rows["input"])
    task = semantic.task
    room = task.max_length - max(1, task.new_tokens)

    def fits(text: str) -> bool:
        return len(tokenizer.encode(text, add_special_tokens=False)) <= room

    return [
        whole_prompt(
            row.get("head") or "",
            row.get("shown") or (),
            task.template.replace("{input}", row["input"]),
            fits=fits,
        )
        for row in rows
    ]


def _encoders(
    semantic: Semantic,
    tokenizer: Any,
    form: Form,
    classes: Sequence[str] | None,
    on_cut: Callable[[int], None],
) -> tuple[Encode, Writer | None]:
    task = semantic.task
    # What stands before an example is in its text already, with the prompt.
    prompt = "{input}" if task.shots is not None else task.template
    if classes is not None:
        numbers = {label: number for number, label in enumerate(classes)}
        scorer = ClassEncoder(
            tokenizer=tokenizer,
            prompt=prompt,
            max_length=task.max_length,
            classes=numbers,
            on_cut=on_cut,
        )
        return scorer.encode, None
    encoder = Encoder(
        tokenizer=tokenizer,
        prompt=prompt,
        max_length=task.max_length,
        closes_prompt=form.closes_prompt,
        on_cut=on_cut,
    )
    writes = task.new_tokens > 0
    # Its prompts are cut to leave room for the answer: nothing of the data is lost by that.
    plain = replace(encoder, on_cut=lambda _length: None)
    writer = Writer(encoder=plain, limit=task.new_tokens, form=form) if writes else None
    return encoder.encode, writer


def class_labels(semantic: Semantic, task: Task) -> list[str]:
    """Return the answers that an encoder tells apart, in the order of their numbers.

    Raises `Misconfigured` where there are too many, or a split has another one.
    """
    texts = semantic.task.label_texts
    found = sorted(set(task.splits["train"]["output"])) if texts is None else list(texts.values())
    if not 2 <= len(found) <= MAX_CLASSES:
        raise Misconfigured(
            f"model.family encoder tells 2 to {MAX_CLASSES} answers apart; the training data have"
            f" {len(found)}: set task.labels, or take another family"
        )
    for split, rows in task.splits.items():
        for number, answer in enumerate(rows["output"], 1):
            if answer not in found:
                raise Misconfigured(
                    f"{semantic.task.path}: {split} example {number}: the answer {answer!r} does"
                    " not occur in the training data, and an encoder cannot say it; set task.labels"
                )
    return found
