"""A job's id: what is computed and nothing else, the same in every release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import create_model

from jobs.matrix.identity import Identities, Siblings
from jobs.spec import (
    EngineSpec,
    JobSpec,
    Semantic,
    TrainSpec,
    job_id,
    seed_block,
    semantic_digest,
)
from tests.unit.jobs.matrices import BASE, load

FIXTURE = Path(__file__).parent / "fixtures" / "ids.json"
CASES: dict[str, dict[str, Any]] = json.loads(FIXTURE.read_text())


def semantic(value: Any) -> Semantic:
    """Return plain data as a semantic part, as spec.json is read."""
    return Semantic.model_validate_json(json.dumps(value))


@pytest.mark.parametrize("name", sorted(CASES))
def test_ids_of_earlier_releases_are_unchanged(name: str) -> None:
    """A job that was submitted once is found again by every later orch. Never edit the fixture."""
    assert job_id(semantic(CASES[name]["semantic"])) == CASES[name]["id"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_new_field_with_a_default_leaves_ids_unchanged(name: str) -> None:
    """A later release adds fields everywhere; what does not use them stays the same job."""
    later_train = create_model("TrainSpec", __base__=TrainSpec, label_smoothing=(float, 0.0))
    later_engine = create_model("EngineSpec", __base__=EngineSpec, offload=(bool, False))
    later: type[Semantic] = create_model(
        "Semantic",
        __base__=Semantic,
        train=(later_train, ...),
        engine=(later_engine, later_engine()),
        curriculum=(str | None, None),
    )

    read = later.model_validate_json(json.dumps(CASES[name]["semantic"]))

    assert "label_smoothing" in type(read.train).model_fields
    assert job_id(read) == CASES[name]["id"]


def test_a_new_field_that_is_used_makes_another_job() -> None:
    """Otherwise two experiments would share one result."""
    later = create_model("Semantic", __base__=Semantic, curriculum=(str | None, None))
    value = CASES["lora_from_config"]["semantic"]

    read = later.model_validate_json(json.dumps({**value, "curriculum": "easy-first"}))

    assert job_id(read) != CASES["lora_from_config"]["id"]


def reordered(value: Any, draw: st.DrawFn) -> Any:
    """Return the same data with the keys of every mapping in a drawn order."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: reordered(value[key], draw) for key in keys}
    return value


@settings(deadline=None, max_examples=30)
@given(data=st.data(), name=st.sampled_from(sorted(CASES)))
def test_the_order_of_keys_means_nothing(data: st.DataObject, name: str) -> None:
    """A mapping is no list."""
    shuffled = reordered(CASES[name]["semantic"], data.draw)

    assert job_id(semantic(shuffled)) == CASES[name]["id"]


def test_writing_out_a_default_changes_nothing() -> None:
    """A spec that states what is so anyway is the same job."""
    value = CASES["lora_from_config"]["semantic"]
    full = semantic(value).model_dump(mode="json")

    assert full != value
    assert semantic_digest(semantic(full)) == semantic_digest(semantic(value))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("n_head: 4", "attn_pdrop: 0.1"),  # both are what the catalog says anyway
        ("n_head: 4", "n_head: 4, resid_pdrop: 1e-1"),
        ("lr: 1e-3", "lr: 0.001"),
        ("lr: 1e-3", "lr: 1e-3, micro_batch: 8"),
        ("lr: 1e-3", "lr: 1e-3, weight_decay: 0"),
        ("alpha: 16", "alpha: 16.0, targets: [c_attn]"),
        ("family: decoder", "family: decoder, architecture: gpt2"),
    ],
)
def test_what_means_the_same_is_the_same_job(tmp_path: Path, one: str, other: str) -> None:
    """Spelling is not identity."""
    changed = BASE.replace(one, other)
    assert changed != BASE

    assert load(tmp_path, base=changed).jobs[0].id == load(tmp_path).jobs[0].id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lr: 1e-3", "lr: 2e-3"),
        ("rank: 8", "rank: 4"),
        ("n_head: 4", "n_head: 2"),
        ("lr: 1e-3", "lr: 1e-3, micro_batch: 4"),
        ("alpha: 16", "alpha: 16, targets: [c_attn, c_fc]"),
        ("steps: 60", "steps: 61"),
        ("family: decoder", "family: decoder, init_seed: 1"),
    ],
)
def test_what_computes_something_else_is_another_job(tmp_path: Path, one: str, other: str) -> None:
    """The result would differ."""
    assert load(tmp_path, base=BASE.replace(one, other)).jobs[0].id != load(tmp_path).jobs[0].id


@pytest.mark.parametrize(
    "rest",
    [
        "resources: {memory_gb: 9}\n",
        "save: {every_steps: 7}\n",
        "retry: {exceptions: 3}\n",
        "grace_seconds: 7\n",
        "rehearsal: {at_step: 3}\n",
    ],
)
def test_how_it_is_run_is_no_part_of_the_identity(tmp_path: Path, rest: str) -> None:
    """More memory does not make it another experiment."""
    assert load(tmp_path, rest).jobs[0].id == load(tmp_path).jobs[0].id


def test_edited_data_is_another_job(tmp_path: Path) -> None:
    """The same path with other bytes gives another result, so it is not `unchanged`."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev", "test"):
        (data / f"{split}.tsv").write_text("some words\tgood\n")
    base = BASE.replace("package:quickstart", "data")
    before = load(tmp_path, base=base).jobs[0].id
    again = load(tmp_path, base=base).jobs[0].id
    (data / "train.tsv").write_text("some words\tbad\n")

    assert again == before
    assert load(tmp_path, base=base).jobs[0].id != before


def test_one_relative_path_in_two_places_is_two_jobs(tmp_path: Path) -> None:
    """`data` beside one matrix is not `data` beside another, unless the bytes are the same."""
    ids = []
    for name, label in (("a", "good"), ("b", "bad"), ("c", "good")):
        data = tmp_path / name / "data"
        data.mkdir(parents=True)
        for split in ("train", "dev", "test"):
            (data / f"{split}.tsv").write_text(f"some words\t{label}\n")
        base = BASE.replace("package:quickstart", "data")
        ids.append(load(tmp_path / name, base=base).jobs[0].id)

    assert ids[0] != ids[1]
    assert ids[0] == ids[2]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1e-3, 2.5e-4]), st.booleans())))
def test_ids_of_many_cells_at_once_are_those_of_each_alone(
    cells: list[tuple[int, float, bool]],
) -> None:
    """The loader's faster spelling, with sections shared or not, is `job_id`."""
    identities = Identities()
    shared = TrainSpec(steps=5)
    for seed, lr, own in cells:
        train = TrainSpec(steps=5, lr=lr) if own else shared
        value = {
            "model": {"family": "decoder", "config": {"n_layer": 1}},
            "method": {"name": "lora"},
            "task": {"name": "tsv", "path": "x"},
            "seed": seed,
        }
        one = semantic({**value, "train": train.model_dump(mode="json")})
        assert identities.job_id(one) == job_id(one)
        other, identity = Siblings(one, identities).member(seed + 1)
        assert identity == job_id(other)
        assert other.model_dump() == {**one.model_dump(), "seed": seed + 1}


def test_a_loaded_matrix_has_the_ids_and_names_that_its_specs_would_be_given(
    tmp_path: Path,
) -> None:
    """Specs of a matrix are made without validation; validated, they are the same."""
    matrix = load(
        tmp_path,
        "matrix:\n"
        "- {grid: {train.lr: [1e-3, 3e-3], engine.ranks: [1, 2], method.rank: [8, 4]}}\n"
        "- {grid: {method.rank: [2, 1]}, zip: {seed: [5, 6, 5], train.lr: [1e-3, 1e-3, 2e-3]}}\n"
        "- {set: {seed: 9}}\n"
        "seeds: 3\n",
    )

    assert len(matrix.jobs) == 24 + 6 + 1
    assert [spec.semantic.seed for spec in matrix.jobs[24:]] == [5, 6, 5, 5, 6, 5, 9]
    assert len({spec.id for spec in matrix.jobs}) == 31
    for spec in matrix.jobs:
        assert JobSpec.model_validate_json(spec.to_json()) == spec


def test_a_seed_block_is_what_seeds_have_in_common(tmp_path: Path) -> None:
    """Equal for the seeds of a cell, different for cells."""
    jobs = load(tmp_path, "matrix: {train.lr: [1e-3, 3e-3]}\nseeds: 2\n").jobs
    blocks = [seed_block(job.semantic) for job in jobs]

    assert blocks[0] == blocks[1] != blocks[2] == blocks[3]
