"""Where models and tasks are looked up, and when a matrix is told that they are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.errors import HubRepo, MatrixInvalid
from jobs.matrix import load_matrix
from jobs.sources import (
    SourceMissing,
    content_digest,
    find_model,
    find_task,
    hub_snapshot,
    shipped_tasks,
    split_file,
)
from jobs.spec import ModelSpec
from tests.unit.jobs.matrices import BASE, load, write
from worker.sources import tokenizer_source


def task_directory(
    path: Path, *, kind: str = "tsv", row: str = "words\tgood", prefix: str = ""
) -> Path:
    """Write a task of one row a split."""
    path.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (path / f"{prefix}{split}.{kind}").write_text(row + "\n")
    return path


def message_of(base: str, directory: Path) -> str:
    """Return the one problem of a matrix."""
    with pytest.raises(MatrixInvalid) as caught:
        load(directory, base=base)
    (problem,) = caught.value.problems
    return str(problem)


def test_a_shipped_task_is_found_by_name() -> None:
    """`package:quickstart` needs no file of the user's."""
    assert "quickstart" in shipped_tasks()
    assert split_file(find_task("package:quickstart", base_dir=None, data_root=None), "dev", "tsv")


def test_the_sites_mirror_comes_before_the_matrix_file(tmp_path: Path) -> None:
    """The same order as in the worker."""
    beside = task_directory(tmp_path / "beside" / "t")
    mirror = task_directory(tmp_path / "mirror" / "t")

    assert find_task("t", base_dir=tmp_path / "beside", data_root=tmp_path / "mirror") == mirror
    assert find_task("t", base_dir=tmp_path / "beside", data_root=None) == beside
    assert find_task(str(beside), base_dir=None, data_root=tmp_path / "mirror") == beside


def test_nothing_leaves_the_sites_mirror(tmp_path: Path) -> None:
    """`../` starts at the matrix file only, which is the user's own place."""
    task_directory(tmp_path / "outside")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "matrix").mkdir()

    with pytest.raises(SourceMissing):
        find_task("../outside", base_dir=None, data_root=tmp_path / "mirror")
    assert find_task("../outside", base_dir=tmp_path / "matrix", data_root=None).is_dir()


@pytest.mark.parametrize(
    "path", ["package:", "package:../data/quickstart", "package:/etc", "package:.."]
)
def test_a_shipped_name_is_a_name(path: str) -> None:
    """No path hides behind `package:`."""
    with pytest.raises(SourceMissing):
        find_task(path, base_dir=Path("/"), data_root=Path("/"))


def test_crossfit_names_are_found(tmp_path: Path) -> None:
    """`glue-sst2_train.tsv` is a train split; two of them are none."""
    directory = task_directory(tmp_path / "t", prefix="glue-sst2_")

    assert split_file(directory, "train", "tsv").name == "glue-sst2_train.tsv"
    (directory / "other_train.tsv").write_text("a\tb\n")
    with pytest.raises(SourceMissing, match="2 files"):
        split_file(directory, "train", "tsv")


def test_a_hub_model_must_be_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allocations often have no network: what is missing is said at submission."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(SourceMissing) as caught:
        find_model("org/small", base_dir=tmp_path, models_root=None)
    cached(tmp_path / "hub", "c0ffee", ref="main")

    assert "orch fetch" in caught.value.fix
    assert find_model("org/small", base_dir=tmp_path, models_root=None) == "org/small"


def cached(hub: Path, commit: str, *, ref: str | None = None) -> Path:
    """Put a commit of org/small into a hub cache, as the hub's client lays it out."""
    model = hub / "models--org--small"
    snapshot = model / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    if ref is not None:
        (model / "refs").mkdir(exist_ok=True)
        (model / "refs" / ref).write_text(commit)
    return snapshot


def test_the_very_revision_must_be_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts run offline: another revision that was fetched before does not help them."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = cached(tmp_path / "hub", "c0ffee", ref="v2")
    (tmp_path / "hub/models--org--small/snapshots/abc").mkdir()  # a download that broke off

    def find(revision: str | None) -> Path | str:
        return find_model("org/small", base_dir=None, models_root=None, revision=revision)

    assert find("v2") == find("c0ffee") == "org/small"
    assert hub_snapshot("org/small", "v2") == snapshot
    for missing in (None, "v1", "abc", "../snapshots/c0ffee"):
        with pytest.raises(SourceMissing):
            find(missing)
    with pytest.raises(SourceMissing) as caught:
        find("v1")
    assert caught.value.fetchable == HubRepo(repo="org/small", revision="v1")


def test_the_models_own_tokenizer_is_of_the_models_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's `main` may have another vocabulary."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    cached(tmp_path / "hub", "11111", ref="main")
    old = cached(tmp_path / "hub", "22222", ref="v1")
    model = ModelSpec(family="decoder", path="org/small", revision="v1")

    assert tokenizer_source(model, base_dir=None, models_root=None) == old


@pytest.mark.parametrize(
    ("kind", "row", "fragment"),
    [
        ("tsv", "one column", "has 1 columns, not 2"),
        ("tsv", "a\tb\tc", "has 3 columns, not 2"),
        ("tsv", "", "is empty"),
        ("jsonl", "{", "is not JSON"),
        ("jsonl", "[1]", "has no text `input`"),
        ("jsonl", '{"input": "x", "output": 3}', "has no text `output`"),
    ],
)
def test_the_first_line_is_looked_at(tmp_path: Path, kind: str, row: str, fragment: str) -> None:
    """A wrong format is seen before any allocation is spent."""
    task_directory(tmp_path / "data", kind=kind, row=row)
    base = BASE.replace('name: tsv, path: "package:quickstart"', f"name: {kind}, path: data")

    with pytest.raises(MatrixInvalid, match=fragment.replace("[", r"\[")):
        load(tmp_path, base=base)


def test_a_jsonl_task_with_its_own_fields(tmp_path: Path) -> None:
    """The fields are the task's to name."""
    task_directory(tmp_path / "data", kind="jsonl", row=json.dumps({"q": "x", "a": "y"}))
    task = "name: jsonl, path: data, input_field: q, output_field: a"
    base = BASE.replace('name: tsv, path: "package:quickstart"', task)

    assert load(tmp_path, base=base).jobs[0].semantic.task.content_digest is not None


def local_model(directory: Path, **config: object) -> str:
    """Write a model directory beside the matrix; return a matrix that uses it."""
    (directory / "model").mkdir()
    (directory / "model" / "config.json").write_text(json.dumps(config))
    return BASE.replace("config: {n_layer: 1, n_embd: 32, n_head: 4}", "path: model")


def test_a_local_models_architecture_gives_the_targets(tmp_path: Path) -> None:
    """config.json says what LoRA adapts, without torch."""
    (job,) = load(tmp_path, base=local_model(tmp_path, model_type="llama")).jobs

    assert job.semantic.method.targets == ("q_proj", "v_proj")  # type: ignore[union-attr]
    assert job.semantic.model.content_digest is not None


def test_a_local_models_targets_are_checked(tmp_path: Path) -> None:
    """A wrong target would fail minutes later on the cluster."""
    base = local_model(tmp_path, model_type="opt").replace("rank: 8", "rank: 8, targets: [c_attn]")

    assert "opt has no module `c_attn` to adapt" in message_of(base, tmp_path)


def test_a_model_outside_the_catalog_is_the_workers_to_judge(tmp_path: Path) -> None:
    """The catalog is a help, not a list of what may be trained."""
    base = local_model(tmp_path, model_type="unheard").replace("rank: 8", "rank: 8, targets: [w_q]")

    assert load(tmp_path, base=base).jobs[0].semantic.method.targets == ("w_q",)  # type: ignore[union-attr]


def test_an_architecture_belongs_to_a_config(tmp_path: Path) -> None:
    """A path says its own."""
    base = local_model(tmp_path).replace("path: model", "path: model, architecture: gpt2")

    assert "`config`" in message_of(base, tmp_path)


def test_models_and_data_roots_reach_the_checks(tmp_path: Path) -> None:
    """A matrix is portable: the site says where things are."""
    task_directory(tmp_path / "data" / "mine")
    (tmp_path / "models" / "small").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    base = BASE.replace("config: {n_layer: 1, n_embd: 32, n_head: 4}", "path: small")
    path = write(tmp_path / "here", base=base.replace("package:quickstart", "mine"))

    with pytest.raises(MatrixInvalid) as caught:
        load_matrix(path)
    matrix = load_matrix(path, models_root=tmp_path / "models", data_root=tmp_path / "data")

    assert len(caught.value.problems) == 2
    assert matrix.jobs[0].run.base_dir == str(tmp_path / "here")


def test_content_is_names_and_bytes(tmp_path: Path) -> None:
    """Of large files a sample; the size always counts."""
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"x" * 10)
    other.write_bytes(b"x" * 10)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate((64 << 20) + 1)
    before = content_digest([large])
    with large.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"y")

    assert content_digest([one]) != content_digest([other])
    assert content_digest([large]) != before
