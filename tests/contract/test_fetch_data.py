"""Data sets of a hub: fetched once, before anything is submitted; jobs read the very commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import MatrixInvalid
from jobs.matrix import load_matrix
from jobs.sources import hub_snapshot
from jobs.spec import Semantic, TaskSpec
from tests.contract.fake_hub import COMMIT, FakeHub
from tests.contract.test_fetch import Desk
from worker.failures import Misconfigured
from worker.sources import files_of_task

LATER = "7a" * 20
MATRIX = """\
version: 1
name: data
defaults:
  model: {family: decoder, config: {n_layer: 1, n_embd: 32, n_head: 4}}
  method: {name: full}
  task: {name: tsv, path: "hub:org/tasks/sst2"}
  train: {steps: 2, global_batch: 4}
seeds: 2
"""


def corpus(word: str = "good") -> dict[str, bytes]:
    """Return a data set of two tasks and of files that no task reads."""
    splits = {
        f"{task}/{split}.tsv": f"{word} {split}\tyes\n".encode()
        for task in ("sst2", "rte")
        for split in ("train", "dev", "test")
    }
    return {**splits, "data.parquet": b"the same again", "README.md": b"about"}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub with one data set."""
    with FakeHub(datasets={"org/tasks": corpus()}).running() as served:
        yield served


@pytest.fixture
def desk(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A directory with a matrix of two seeds of a task of the hub."""
    made = Desk(tmp_path, hub)
    (tmp_path / "m.yaml").write_text(MATRIX)
    monkeypatch.setenv("HF_HUB_CACHE", str(made.cache))
    return made


def task_of(desk: Desk) -> TaskSpec:
    """Return the task of the matrix's first job."""
    semantic = load_matrix(desk.root / "m.yaml").jobs[0].semantic
    assert isinstance(semantic, Semantic)
    return semantic.task


def test_a_data_set_is_fetched_once_and_jobs_find_it_offline(desk: Desk, hub: FakeHub) -> None:
    """What tasks read is downloaded and nothing else; the specs have the commit; once is enough."""
    code, said, told = desk.orch("fetch", "m.yaml", "--json")

    assert code == 0, told
    (row,) = json.loads(said)["fetched"]
    assert (row["kind"], row["dataset"], row["commit"]) == ("dataset", "org/tasks", COMMIT)
    assert not [line for line in hub.asked if "parquet" in line]
    hub.asked.clear()
    code, said, told = desk.orch("submit", "m.yaml", "--dry-run", "--json")
    assert code == 0, told
    assert hub.asked == []
    plan = json.loads(said)
    assert plan["missing"] == []
    task: dict[str, Any] = plan["jobs"][0]["spec"]["semantic"]["task"]
    assert (task["path"], task["revision"]) == ("hub:org/tasks/sst2", COMMIT)
    _, files = files_of_task(TaskSpec.model_validate(task), base_dir=None, data_root=None)
    assert files["dev"][0].read_bytes() == b"good dev\tyes\n"


def test_submit_fetches_before_it_submits(desk: Desk) -> None:
    """The specs that are written name the commit."""
    words = ("--backend", "local", "--slots", "1", "--no-watch", "--json")
    code, said, told = desk.orch(
        "submit", "m.yaml", *words, ORCH_FAULT="handover.tasks_written:kill"
    )

    assert code == -9, said + told  # just before anything reached the scheduler
    assert "fetched org/tasks" in told
    specs = [json.loads(p.read_bytes()) for p in (desk.root / "orch/jobs").glob("*/spec.json")]
    assert {spec["semantic"]["task"]["revision"] for spec in specs} == {COMMIT}
    assert len(specs) == 2


def test_queued_jobs_keep_their_commit_when_main_moves_on(desk: Desk, hub: FakeHub) -> None:
    """Another fetch may move `main`; old jobs read the old files, and the matrix means new jobs."""
    assert desk.orch("fetch", "m.yaml")[0] == 0
    old = task_of(desk)
    hub.commit, hub.datasets["org/tasks"] = LATER, corpus("better")
    (desk.cache / "datasets--org--tasks/refs/main").unlink()
    assert desk.orch("fetch", "m.yaml")[0] == 0

    assert (old.revision, task_of(desk).revision) == (COMMIT, LATER)
    assert old.content_digest != task_of(desk).content_digest
    _, files = files_of_task(old, base_dir=None, data_root=None)
    assert files["test"][0].read_bytes() == b"good test\tyes\n"


def test_a_snapshot_that_was_edited_is_refused_by_the_worker(desk: Desk) -> None:
    """The bytes are a part of the job's id, wherever they came from."""
    assert desk.orch("fetch", "m.yaml")[0] == 0
    task = task_of(desk)
    snapshot = hub_snapshot("org/tasks", None, kind="dataset")
    assert snapshot is not None
    (snapshot / "sst2/dev.tsv").resolve().write_text("another\tno\n")

    with pytest.raises(Misconfigured, match="have changed since"):
        files_of_task(task, base_dir=None, data_root=None)


def test_a_mirror_of_the_site_comes_first(desk: Desk, hub: FakeHub, tmp_path: Path) -> None:
    """data_root is looked up before any hub; the revision stays as it was written."""
    mirror = tmp_path / "mirror/org/tasks/sst2"
    mirror.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (mirror / f"{split}.tsv").write_text(f"mine {split}\tyes\n")

    (first, _) = load_matrix(desk.root / "m.yaml", data_root=tmp_path / "mirror").jobs

    assert isinstance(first.semantic, Semantic)
    assert first.semantic.task.revision is None
    assert hub.asked == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("hub:org/tasks/sst2", "hub:org/taks"), "no data set `org/taks`"),
        (('sst2"', 'sst2", revision: v9'), "no revision `v9`"),
    ],
)
def test_what_the_hub_does_not_have_is_named_with_its_line(
    desk: Desk, edit: tuple[str, str], said: str
) -> None:
    """File, line and reason; nothing is submitted."""
    (desk.root / "m.yaml").write_text(MATRIX.replace(*edit))

    code, _, told = desk.orch("submit", "m.yaml", "--backend", "local", "--no-watch")

    assert code == 2
    assert "m.yaml:6:" in told
    assert said in told
    assert not (desk.root / "orch/jobs").exists()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("hub:org/tasks/sst2", "hub:org/tasks/sst3"), "no directory `sst3`"),
        (("hub:org/tasks/sst2", "hub:org/tasks/../x"), "no directory `../x`"),
        (("hub:org/tasks/sst2", "hub:../x"), "is no data set of a hub"),
        (("hub:org/tasks/sst2", "hub:org/tasks"), "has no train.tsv"),
        (('"hub:org/tasks/sst2"', '"package:quickstart", revision: v9'), "task.path names none"),
    ],
)
def test_what_a_data_set_does_not_have_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: tuple[str, str], said: str
) -> None:
    """Also where the data set is there: a wrong directory is no reason to ask the hub."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    snapshot = tmp_path / "cache/datasets--org--tasks/snapshots/c0ffee"
    (snapshot / "sst2").mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("c0ffee")
    (tmp_path / "m.yaml").write_text(MATRIX.replace(*edit))

    with pytest.raises(MatrixInvalid, match=said) as caught:
        load_matrix(tmp_path / "m.yaml")

    assert [(p.line, p.fetchable) for p in caught.value.problems] == [(6, None)]


def test_data_in_no_format_that_tasks_read_are_not_downloaded(desk: Desk, hub: FakeHub) -> None:
    """Refused before a byte of them is asked for."""
    hub.datasets["org/tasks"] = {"data.parquet": b"x", "README.md": b"y"}

    code, _, told = desk.orch("fetch", "m.yaml")

    assert code == 2
    assert "neither tsv nor json files" in told
    assert not [line for line in hub.asked if "/resolve/" in line]


def test_offline_a_missing_data_set_is_said_and_a_dry_run_counts(desk: Desk, hub: FakeHub) -> None:
    """Nobody is asked; the plan has its numbers and names what is missing."""
    code, _, told = desk.orch("submit", "m.yaml", "--offline", "--backend", "local")
    assert (code, "orch fetch" in told) == (2, True)

    code, said, _ = desk.orch("submit", "m.yaml", "--dry-run", "--json", "--backend", "local")

    plan = json.loads(said)
    assert (code, plan["unique_jobs"]) == (0, 2)
    assert [one["source"] for one in plan["missing"]] == ["hub:org/tasks/sst2"]
    assert hub.asked == []
