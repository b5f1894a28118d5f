"""Pickles that run code when loaded, wherever a file may lie: with the real worker, none runs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.contract.records import Outcome
from tests.e2e.comparison import outcome
from tests.e2e.harness import Bench, semantic, write_task
from worker import export
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e
NAMES = (
    "pytorch_model.bin",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state_0.pth",
    "training_args.bin",
    "adapter_model.bin",
    "mp_rank_00_model_states.pt",
    "latest.pkl",
    "best.npy",
    "cache.npz",
)
# Says in a file which globals a process unpickles, and from where.
WATCH = """\
import os, sys
with open(os.environ["UNPICKLED"] + ".watched", "a") as file:
    print(*sys.orig_argv, file=file)
def watch(event, arguments, log=os.environ["UNPICKLED"]):
    if event == "pickle.find_class":
        frame, files = sys._getframe(), []
        while frame is not None and len(files) < 12:
            files.append(os.path.basename(frame.f_code.co_filename))
            frame = frame.f_back
        with open(log, "a") as file:
            print(arguments[0], arguments[1], *files, file=file)
sys.addaudithook(watch)
"""


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._marker,)


def plant(directory: Path, marker: Path) -> None:
    """Write hostile files of all names, in the format that their readers expect."""
    directory.mkdir(parents=True, exist_ok=True)
    hostile = Hostile(marker)
    for name in NAMES:
        path = directory / name
        if path.suffix == ".npy":
            np.save(path, np.array([hostile], dtype=object), allow_pickle=True)
        elif path.suffix == ".npz":
            np.savez(path, a=np.array([hostile], dtype=object))
        elif path.suffix == ".pkl":
            path.write_bytes(pickle.dumps(hostile))
        else:
            torch.save({"state": hostile}, path)


def whole_model(directory: Path) -> Path:
    """Write a tiny model with its tokenizer, as the hub would have it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from jobs.spec import TokenizerSpec
    from worker.vocabulary import train_tokenizer

    tokenizer = train_tokenizer(TokenizerSpec(vocab_size=300), ["red item 1 of train", "warm cold"])
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes))
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer.save_pretrained(directory)
    return directory


def job_with(root: Path, model: Path, server: ForkServer | None) -> Bench:
    """Return a bench for a job on a model directory."""
    changes = {"model__config": None, "model__tokenizer": None, "model__path": str(model)}
    return Bench(root / "job", server, semantic(write_task(root / "task"), **changes))


def test_the_planted_files_do_run_where_somebody_loads_them(tmp_path: Path) -> None:
    """The control: each of them is loaded by its own library, and its code runs."""
    for name in NAMES:
        folder, marker = tmp_path / name, tmp_path / f"{name}.ran"
        plant(folder, marker)
        load = {
            ".npy": lambda path: np.load(path, allow_pickle=True),
            ".npz": lambda path: np.load(path, allow_pickle=True)["a"],
            ".pkl": lambda path: pickle.loads(path.read_bytes()),
        }.get(Path(name).suffix, lambda path: torch.load(path, weights_only=False))
        load(folder / name)
        assert marker.is_dir(), name
    log = tmp_path / "unpickled"
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "UNPICKLED": str(log)}
    program = "import os, pickle; pickle.loads(pickle.dumps(os.mkdir))"
    subprocess.run([sys.executable, "-P", "-c", program], env=environment, check=True)
    assert log.read_text().startswith("posix mkdir")


def test_no_hostile_file_ever_runs(
    tmp_path: Path, fork_server: ForkServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the model, the data, the job, a checkpoint and the export's place: the result is the same.

    The second attempt is a process of its own in which every global that is unpickled is recorded:
    loading a checkpoint, a model and data unpickles none.
    """
    clean = job_with(tmp_path / "clean", whole_model(tmp_path / "model"), fork_server)
    clean.until_done(limit=1)

    marker = tmp_path / "ran"
    plant(tmp_path / "model", marker)
    job = job_with(tmp_path / "planted", tmp_path / "model", fork_server)
    plant(tmp_path / "planted" / "task", marker)
    assert job.attempt(stop_at=5).exit_code == 75
    places = [job.state.path, job.job.path, job.job.checkpoints, job.job.attempts, job.job.epochs]
    newest, *_ = sorted(job.job.checkpoints.glob("step-*"), reverse=True)
    for place in (*places, job.job.checkpoints / "staging", newest / "rank-00000"):
        plant(place, marker)
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "unpickled"
    job.server = None
    ended = job.attempt(env={"PYTHONPATH": str(tmp_path / "watch"), "UNPICKLED": str(log)})

    assert ended.exit_code == 0, ended.log()
    assert any("quarantined" in line for line in ended.progress.reports)
    assert outcome(job) == outcome(clean)
    plant(job.job.path / "export.old", marker)
    words = ["--job", str(job.job.path), "--to", str(tmp_path / "export"), "--merge"]
    assert export.main(words) == 0, capsys.readouterr().err
    assert not [p for p in (tmp_path / "export").rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]
    assert not marker.exists()
    watched = Path(f"{log}.watched").read_text()
    assert "worker.launch" in watched  # and the rank that it starts
    assert len(watched.splitlines()) >= 2
    assert not log.exists(), log.read_text()


def test_pickled_weights_and_adapters_are_refused_with_the_way_out(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """78, no retry: only safetensors are loaded, and transformers follows no adapter's word."""
    marker = tmp_path / "ran"
    for name, change in (("pickled", "pytorch_model.bin"), ("adapter", "adapter_config.json")):
        model = whole_model(tmp_path / name)
        plant(model, marker)
        if name == "pickled":
            (model / "model.safetensors").unlink()
        else:
            (model / change).write_text('{"base_model_name_or_path": "elsewhere"}')
        ended = job_with(tmp_path / f"of-{name}", model, fork_server).attempt()

        assert ended.exit_code == 78
        record = ended.exit()
        assert record is not None
        assert record.outcome is Outcome.CONFIGURATION
        assert record.error is not None
        assert {"pickled": "save_pretrained", "adapter": "is an adapter"}[
            name
        ] in record.error.message
    assert not marker.exists()
