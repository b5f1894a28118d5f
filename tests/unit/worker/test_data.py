"""Tasks, tokenizer and batches: strict about files, deterministic, loss on the answer only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.sources import content_digest
from jobs.spec import TaskSpec, TokenizerSpec
from jobs.task_files import every_file
from tests.e2e.harness import write_task
from worker.collate import IGNORED, Encoder, Sample, collate, labelled_tokens
from worker.failures import Misconfigured
from worker.sources import files_of_task
from worker.tasks import load_task
from worker.vocabulary import train_tokenizer, vocabulary_digest

TEXTS = ["red item 1 of train", "warm", "a café – ünïcode \U0001f600", "tab\tand\nnewline"]


def spec(path: Path, **fields: object) -> TaskSpec:
    """Return a task spec of this directory."""
    return TaskSpec.model_validate({"name": "tsv", "path": str(path)} | fields)


def load(task: TaskSpec) -> object:
    """Load without roots."""
    return load_task(task, base_dir=None, data_root=None)


def test_a_task_is_read_as_it_stands(tmp_path: Path) -> None:
    """Quotes, CRLF, U+2028 and empty lines do no harm; the digest follows every byte."""
    write_task(tmp_path)
    train = tmp_path / "train.tsv"
    train.write_bytes('say "hi\t1\r\n\nleft\u2028right\t2\n'.encode())
    task = load(spec(tmp_path))

    assert task.splits["train"]["input"][:] == ['say "hi', "left\u2028right"]
    assert task.splits["train"]["output"][:] == ["1", "2"]
    before = task.digest
    train.write_bytes(train.read_bytes() + b"\n")
    assert load(spec(tmp_path)).digest != before
    assert load(spec(tmp_path, prompt="{input}")).digest != before


def test_crossfit_names_and_jsonl(tmp_path: Path) -> None:
    """`…_train.jsonl` is found; fields are chosen by name; limits cut each split."""
    for split in ("train", "dev", "test"):
        rows = "".join(f'{{"question":"q{i}","answer":"a","extra":{i}}}\n' for i in range(5))
        (tmp_path / f"glue_16_{split}.jsonl").write_text(rows)
    fields = {"input_field": "question", "output_field": "answer"}
    limits = {"max_train_examples": 3, "max_eval_examples": 2}
    task = load(spec(tmp_path, name="jsonl", **fields, **limits))

    assert {split: len(data) for split, data in task.splits.items()} == {
        "train": 3,
        "dev": 2,
        "test": 2,
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.tsv", b"one column\n", r"train\.tsv:1: has 1 columns"),
        ("dev.tsv", b"a\tb\na\tb\tc\n", r"dev\.tsv:2: has 3 columns"),
        ("test.tsv", b"\n", r"test\.tsv: has no examples"),
        ("train.tsv", b"\xff\tb\n", r"train\.tsv: not UTF-8 at byte 0"),
        ("dev.tsv", None, r"no dev\.tsv"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """No retry can help, so the message must."""
    write_task(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(Misconfigured, match=message):
        load(spec(tmp_path))


@pytest.mark.parametrize("row", ["[]", "{}", '{"input": 1, "output": "a"}', "{"])
def test_a_wrong_json_line_is_named(tmp_path: Path, row: str) -> None:
    """Numbers are not turned into text behind the user's back."""
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text(row + "\n")

    with pytest.raises(Misconfigured, match=r"train\.jsonl:1"):
        load(spec(tmp_path, name="jsonl"))


def test_where_a_task_is_looked_for(tmp_path: Path) -> None:
    """The site's mirror first, then beside the matrix; the message says where it looked."""
    for root in ("site", "matrix"):
        write_task(tmp_path / root / "task")
    roots = {"base_dir": str(tmp_path / "matrix"), "data_root": str(tmp_path / "site")}

    def found(path: str, **changed: str | None) -> Path:
        task = spec(tmp_path).model_copy(update={"path": path})
        return files_of_task(task, **roots | changed)[0]

    assert found("task") == tmp_path / "site" / "task"
    assert found("task", data_root=None) == tmp_path / "matrix" / "task"
    with pytest.raises(Misconfigured, match="site/other"):
        found("other")
    for path in ("package:nowhere", "package:../quickstart"):
        with pytest.raises(Misconfigured, match="is shipped"):
            found(path)


def test_data_edited_after_the_submission_are_refused(tmp_path: Path) -> None:
    """A result must not stand under the id of other data."""
    write_task(tmp_path)
    task = spec(tmp_path)
    directory, files = files_of_task(task, base_dir=None, data_root=None)
    submitted = task.model_copy(update={"content_digest": content_digest(every_file(files))})
    assert files_of_task(submitted, base_dir=None, data_root=None) == (directory, files)
    (dev,) = files["dev"]
    dev.write_text(dev.read_text() + "one more\tgood\n")

    with pytest.raises(Misconfigured, match="changed since the job was submitted"):
        files_of_task(submitted, base_dir=None, data_root=None)


def test_training_a_tokenizer_is_deterministic_across_processes() -> None:
    """It is trained anew at every start: hash seeds and thread counts must not matter."""
    texts = [f"{word} item {i} of train" for i in range(200) for word in ("red", "green")]
    program = (
        "from jobs.spec import TokenizerSpec; from worker.vocabulary import *;"
        f"print(vocabulary_digest(train_tokenizer(TokenizerSpec(vocab_size=400), {texts!r})))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-P", "-c", program],
            env={"PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": parallel},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, parallel in (("1", "false"), ("2", "true"))
    }

    assert len(digests) == 1
    here = vocabulary_digest(train_tokenizer(TokenizerSpec(vocab_size=400), texts))
    assert digests == {here + "\n"}


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    """Byte-level: no unknown token, whatever the training text was."""
    tokenizer = train_tokenizer(TokenizerSpec(vocab_size=300), ["abc"])

    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


TOKENIZER = train_tokenizer(TokenizerSpec(vocab_size=300), TEXTS)


@settings(max_examples=50, deadline=None)
@given(source=st.text(max_size=40), output=st.text(max_size=40), limit=st.integers(1, 30))
def test_a_sample_fits_and_keeps_its_answer(source: str, output: str, limit: int) -> None:
    """A long prompt loses its beginning; an answer token and a prompt token always remain."""
    encoder = Encoder(tokenizer=TOKENIZER, prompt="Q: {input} A:", max_length=limit)
    sample = encoder.encode(source, output)
    whole = Encoder(tokenizer=TOKENIZER, prompt="Q: {input} A:", max_length=10_000)
    full = whole.encode(source, output)

    assert 2 <= sample.length <= max(2, limit)
    assert sample.answer == full.answer[: len(sample.answer)]
    if limit > len(full.answer):
        assert sample.answer == full.answer
        assert full.prompt[-len(sample.prompt) :] == sample.prompt


def test_a_prompt_is_text_not_a_format() -> None:
    """Braces in data and in the template stay what they are."""
    encoder = Encoder(tokenizer=TOKENIZER, prompt="{input.__class__} {input}", max_length=99)
    ids = encoder.encode("{output}", "x").prompt

    assert TOKENIZER.decode(list(ids)) == "{input.__class__} {output}"


@pytest.mark.parametrize("side", ["left", "right"])
def test_only_answer_tokens_carry_loss(side: str) -> None:
    """Padding and prompt are ignored on both sides."""
    samples = [Sample((5, 6, 7), (8, 9)), Sample((5,), (9,))]
    batch = collate(samples, pad_id=0, side=side)

    for row, sample in enumerate(samples):
        real = batch["attention_mask"][row].bool()
        assert batch["input_ids"][row][real].tolist() == [*sample.prompt, *sample.answer]
        labels = batch["labels"][row]
        assert labels[labels != IGNORED].tolist() == list(sample.answer)
        assert (labels[~real] == IGNORED).all()
    assert int((batch["labels"] != IGNORED).sum()) == labelled_tokens(samples) == 3


def test_the_side_of_the_padding_does_not_change_a_score() -> None:
    """Positions start at 0 for every sample, so a model sees the same."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=20, n_positions=16)
    ).eval()
    samples = [Sample((5, 6, 7), (8, 9)), Sample((5,), (9,))]
    with torch.no_grad():
        losses = [
            model(**collate(samples, pad_id=0, side=side)).loss.item() for side in ("left", "right")
        ]

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
