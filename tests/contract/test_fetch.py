"""Hub models are fetched once, before anything is submitted; a part of one never looks whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.sources import hub_snapshot
from orchestrator.site_schema import Site
from tests.contract.fake_hub import COMMIT, FakeHub

ORCH = Path(sys.executable).with_name("orch")
MATRIX = """\
version: 1
name: hub
defaults:
  model: {family: decoder, path: org/small}
  method: {name: full}
  task: {name: tsv, path: "package:quickstart"}
  train: {steps: 2, global_batch: 4}
seeds: 2
"""
FILES = {
    "config.json": b'{"model_type": "gpt2"}',
    "model.safetensors": bytes(range(256)) * 4096,
    "pytorch_model.bin": b"the same weights in a format that no worker loads",
}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub with one small model."""
    with FakeHub({"org/small": dict(FILES)}).running() as served:
        yield served


class Desk:
    """A person's directory, without network but for the hub."""

    def __init__(self, root: Path, hub: FakeHub) -> None:
        self.root, self.cache = root, root / "cache"
        (root / "m.yaml").write_text(MATRIX)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ORCH_"))}
        own = {"ORCH_HOME": str(root / "orch"), "HF_ENDPOINT": hub.url}
        self.env = {**kept, **own, "HF_HUB_CACHE": str(self.cache)}

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start a verb."""
        return subprocess.Popen(
            [str(ORCH), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.env, **env},
            cwd=self.root,
        )

    def orch(self, *words: str, **env: str) -> tuple[int, str, str]:
        """Run a verb; return its exit code and what it said."""
        with self.start(*words, **env) as process:
            said, told = process.communicate(timeout=90)
        return process.returncode, said, told


@pytest.fixture
def desk(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A directory with a matrix of two seeds of the hub's model."""
    made = Desk(tmp_path, hub)
    monkeypatch.setenv("HF_HUB_CACHE", str(made.cache))
    return made


def whole(snapshot: Path | None) -> bool:
    """Tell whether a snapshot has the files that workers load, byte for byte."""
    assert snapshot is not None
    found = {path.name: path.read_bytes() for path in snapshot.iterdir()}
    return found == {name: FILES[name] for name in ("config.json", "model.safetensors")}


def test_a_model_is_fetched_once_and_a_second_time_nobody_is_asked(
    desk: Desk, hub: FakeHub
) -> None:
    """Every matrix after the first makes no request; submitting needs the hub no more."""
    code, said, told = desk.orch("fetch", "m.yaml", "--json")

    assert code == 0, told
    (row,) = json.loads(said)["fetched"]
    assert (row["model"], row["commit"], row["downloaded"]) == ("org/small", COMMIT, True)
    assert f"`revision: {COMMIT}`" in told
    assert whole(hub_snapshot("org/small", None))
    assert whole(hub_snapshot("org/small", COMMIT))
    hub.asked.clear()

    code, said, _ = desk.orch("fetch", "m.yaml")
    assert (code, "nothing to fetch" in said) == (0, True)
    code, said, told = desk.orch("submit", "m.yaml", "--dry-run")
    assert code == 0, told
    assert hub.asked == []


def test_submit_fetches_before_it_submits(desk: Desk) -> None:
    """The jobs know where the model is, and what they look for is there."""
    words = ("--backend", "local", "--slots", "1", "--no-watch", "--json")
    code, said, told = desk.orch(
        "submit", "m.yaml", *words, ORCH_FAULT="handover.tasks_written:kill"
    )

    assert code == -9, said + told  # just before anything reached the scheduler
    assert "fetched org/small" in told
    assert whole(hub_snapshot("org/small", None))
    (tasks,) = (desk.root / "orch" / "submissions").glob("*/tasks.json")
    assert json.loads(tasks.read_bytes())["site"]["hub_cache"] == str(desk.cache)


@pytest.mark.parametrize("offline", [{"HF_HUB_OFFLINE": "1"}, {}])
def test_offline_asks_nobody(desk: Desk, hub: FakeHub, offline: dict[str, str]) -> None:
    """By the client's variable or by the option: what is missing is said, with its line."""
    words = [] if offline else ["--offline"]
    code, _, told = desk.orch("submit", "m.yaml", *words, **offline)

    assert code == 2
    assert "m.yaml:4:" in told
    assert "orch fetch" in told
    assert hub.asked == []
    assert not (desk.root / "orch" / "jobs").exists()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("org/small", "org/smal"), "no model `org/smal`"),
        (("org/small}", "org/small, revision: v9}"), "no revision `v9`"),
    ],
)
def test_what_the_hub_does_not_have_is_named_with_its_line(
    desk: Desk, edit: tuple[str, str], said: str
) -> None:
    """Nothing is submitted; the file, the line and the key are there, and what to do."""
    (desk.root / "m.yaml").write_text(MATRIX.replace(*edit))

    code, _, told = desk.orch("submit", "m.yaml")

    assert code == 2
    assert "m.yaml:4:" in told
    assert "defaults.model.path" in told
    assert said in told
    assert not (desk.root / "orch" / "jobs").exists()


def test_weights_that_no_worker_loads_are_not_downloaded(desk: Desk, hub: FakeHub) -> None:
    """A model without safetensors is refused before a byte of it is asked for."""
    del hub.models["org/small"]["model.safetensors"]

    code, _, told = desk.orch("fetch", "m.yaml")

    assert code == 2
    assert "no safetensors weights" in told
    assert not [line for line in hub.asked if "/resolve/" in line]


def test_a_download_that_breaks_off_never_looks_whole_and_goes_on(desk: Desk, hub: FakeHub) -> None:
    """Killed in the middle of the weights: not there by name nor by commit, then completed."""
    hub.stall = "model.safetensors"
    process = desk.start("fetch", "m.yaml")
    assert hub.stalled.wait(60)
    process.kill()
    process.communicate()
    hub.go_on.set()
    hub.stall = ""

    assert hub_snapshot("org/small", None) is None
    assert hub_snapshot("org/small", COMMIT) is None
    code, _, told = desk.orch("fetch", "m.yaml")

    assert code == 0, told
    assert whole(hub_snapshot("org/small", None))


@pytest.mark.parametrize("point", ["hub.marked", "hub.downloaded"])
def test_a_crash_at_each_point_of_a_fetch_is_repaired_by_the_next(desk: Desk, point: str) -> None:
    """Whatever was there, the snapshot counts only when its mark is gone."""
    code, _, _ = desk.orch("fetch", "m.yaml", ORCH_FAULT=f"{point}:kill")
    assert code == -9
    assert hub_snapshot("org/small", None) is None
    assert hub_snapshot("org/small", COMMIT) is None

    assert desk.orch("fetch", "m.yaml")[0] == 0
    assert whole(hub_snapshot("org/small", None))


def test_two_fetches_at_once_download_once(desk: Desk, hub: FakeHub) -> None:
    """The second waits for the first, says for whom, and finds all there."""
    hub.stall = "model.safetensors"
    first = desk.start("fetch", "m.yaml")
    assert hub.stalled.wait(60)
    second = desk.start("fetch", "m.yaml")
    assert second.stderr is not None
    while "waits:" not in (line := second.stderr.readline()):
        assert line, "the second fetch waits for nobody"
    hub.go_on.set()

    told = [process.communicate(timeout=90)[1] for process in (first, second)]

    assert [first.returncode, second.returncode] == [0, 0], told
    assert "has org/small" in told[1]
    gets = [line for line in hub.asked if line.startswith("GET") and "model.safetensors" in line]
    assert len(gets) == 1


def test_jobs_look_where_the_site_keeps_its_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """scratch_root has them all, unless the user's own variable names another place."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    site = Site(scratch_root="/scratch/me")
    assert site.worker_site().hub_cache == "/scratch/me/huggingface/hub"
    monkeypatch.setenv("HF_HUB_CACHE", "/data/hub")
    assert site.worker_site().hub_cache == "/data/hub"
