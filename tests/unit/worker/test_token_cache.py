"""Tokenised data are kept whole, shared, and never trusted blindly."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from jobs.contract.records import WorkerSite
from jobs.matrix import load_matrix
from jobs.spec import Run, Semantic
from tests.e2e.harness import semantic, write_task
from worker import data as data_module
from worker.collate import Sample
from worker.data import build_data
from worker.failures import Misconfigured
from worker.token_cache import TokenCache, decode, encode
from worker.warm import warm

SAMPLES = [Sample((1, 2, 3), (4,)), Sample((), (5, 6)), Sample((7,), ())]


def facts(semantic: Semantic, cache: TokenCache) -> list[Any]:
    """Return all that tokenising gives."""
    _, data = build_data(semantic, Run(), WorkerSite(), cache=cache)
    evaluations = [
        (e.candidates, e.gold, e.texts, [tuple(prompt) for prompt in e.prompts])
        for e in data.evaluations.values()
    ]
    return [list(data.train), evaluations]


@pytest.mark.parametrize("family", ["decoder", "seq2seq", "encoder"])
def test_found_samples_are_those_that_were_made(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With generated answers, in-context examples and all; nothing is tokenised the second time."""
    changes: dict[str, Any] = {"model__family": family, "task__max_length": 48}
    changes["model__config"] = {}
    if family != "encoder":
        changes |= {"task__metrics": ["rougeL"], "task__shots": {"count": 2}}
    job = semantic(write_task(tmp_path / "task"), **changes)
    first = TokenCache(tmp_path / "tokens", least=1)
    made = facts(job, first)
    assert first.outcome == "made"

    def never(*arguments: Any) -> Any:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(data_module, "_inputs", never)
    second = TokenCache(tmp_path / "tokens", least=1)
    assert facts(job, second) == made
    assert second.outcome == "found"
    assert len(list((tmp_path / "tokens").iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"task__max_length": 31},
        {"task__prompt": "{input} is "},
        {"task__max_train_examples": 9},
        {"model__tokenizer": {"vocab_size": 290}},
        {"model__family": "seq2seq", "model__config": {}},
    ],
)
def test_what_decides_the_samples_is_in_the_name(tmp_path: Path, change: dict[str, Any]) -> None:
    """Another prompt, length, tokenizer or family is another file."""
    task = write_task(tmp_path / "task")
    build_data(semantic(task), Run(), WorkerSite(), cache=TokenCache(tmp_path / "t", least=1))
    other = TokenCache(tmp_path / "t", least=1)
    build_data(semantic(task, **change), Run(), WorkerSite(), cache=other)
    assert other.outcome == "made"
    assert len(list((tmp_path / "t").iterdir())) == 2


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    """Whichever byte it is; the next one finds it whole."""
    job = semantic(write_task(tmp_path / "task"))
    made = facts(job, TokenCache(tmp_path / "t", least=1))
    (path,) = (tmp_path / "t").iterdir()
    whole = path.read_bytes()
    for place in (3, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        again = TokenCache(tmp_path / "t", least=1)
        assert facts(job, again) == made
        assert again.outcome == "made"
        assert path.read_bytes() == whole
    path.write_bytes(whole[:-5])
    assert facts(job, TokenCache(tmp_path / "t", least=1)) == made


def test_samples_come_back_as_they_were() -> None:
    """Empty prompts and answers, too."""
    assert decode(encode(SAMPLES)) == SAMPLES
    for broken in (b"", b"{}", encode(SAMPLES)[:40]):
        with pytest.raises(ValueError, match=r".+"):
            decode(broken)


def test_many_writers_leave_one_whole_file(tmp_path: Path) -> None:
    """Jobs of a matrix begin at the same time."""
    job = semantic(write_task(tmp_path / "task"))
    threads = [
        threading.Thread(target=facts, args=(job, TokenCache(tmp_path / "t", least=1)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = (tmp_path / "t").iterdir()
    assert decode(path.read_bytes())


def test_few_samples_are_not_kept(tmp_path: Path) -> None:
    """They are made sooner than they are found; nor is anything without a directory."""
    job = semantic(write_task(tmp_path / "task"))
    facts(job, TokenCache(tmp_path / "t"))
    facts(job, TokenCache(None, least=1))
    assert not (tmp_path / "t").exists()


def test_warming_reads_each_data_set_once(tmp_path: Path) -> None:
    """Jobs that differ in anything else share it; a second warming finds it."""
    task = write_task(tmp_path / "task", train=700, held_out=400)
    path = tmp_path / "m.yaml"
    path.write_text(f"""\
version: 1
name: m
defaults:
  model: {{family: decoder, config: {{n_layer: 1}}}}
  method: {{name: lora}}
  task: {{name: tsv, path: {task}}}
  train: {{steps: 10}}
matrix: {{train.lr: [1e-3, 1e-2], task.max_length: [32, 48]}}
""")
    lines = [
        json.dumps({"spec": job.model_dump(mode="json"), "site": {}})
        for job in load_matrix(path).jobs
    ]
    assert len(lines) == 4
    assert dict(warm(io.StringIO("\n".join(lines)), tmp_path)) == {"made": 2}
    assert dict(warm(io.StringIO("\n".join(lines)), tmp_path)) == {"found": 2}


@pytest.mark.parametrize("family", ["decoder", "seq2seq", "encoder"])
def test_what_is_too_long_is_refused_where_that_is_asked_for(tmp_path: Path, family: str) -> None:
    """The example is named; otherwise it is cut and counted."""
    task = write_task(tmp_path / "task")
    (task / "dev.tsv").write_text(f"{'blue ' * 60}\tcold\n")
    changes: dict[str, Any] = {"model__family": family, "model__config": {}}
    job = semantic(task, **changes, task__too_long="refuse", task__max_length=40)
    with pytest.raises(Misconfigured, match=r"dev example `blue blue .* tokens .*max_length is 40"):
        build_data(job, Run(), WorkerSite())
    _, data = build_data(semantic(task, **changes, task__max_length=40), Run(), WorkerSite())
    (candidates,) = data.evaluations["dev"].candidates
    assert len(candidates[0].prompt) + (family != "encoder") * len(candidates[0].answer) == 40
