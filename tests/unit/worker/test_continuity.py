"""What differs at a resume is refused by name with both values, or waived by that name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from checkpoints.manifest import Environment, Manifest
from jobs.contract.records import Overrides
from jobs.waivers import MEANINGS, WAIVED_BY_DEFAULT, Waiver, parse_waivers
from worker.continuity import (
    Difference,
    Present,
    differences,
    effective_waivers,
    inexact_reasons,
    judge,
)
from worker.standing import StandingRecord

DIGEST = "sha256:" + "0" * 64
VERSIONS = {"python": "3.11", "torch": "2.13"}
JOB = "0123456789abcdef"
NAMES = frozenset(Waiver)
MANIFEST: dict[str, Any] = {
    "epoch": 1,
    "step": 3,
    "kind": "periodic",
    "world_size": 1,
    "engine": {"ranks": 1, "zero_stage": 2, "precision": "fp32", "threads_per_rank": 1},
    "position": {"samples": 12, "order_digest": "o"},
    "states": ("model", "optimizer", "rng", "position", "best"),
    "base": {"source": "b", "digest": "b"},
    "environment": {"versions": VERSIONS, "device_model": "cpu a", "threads": 1, "packages": "p"},
    "job": JOB,
    "spec_digest": "s",
    "files": ({"path": "rank-00000/a", "rank": 0, "bytes": 1, "digest": DIGEST},),
}
STANDING = {"data_digest": "d", "vocabulary_digest": "v", "micro_batch": 4}
PRESENT = Present(
    environment=Environment(versions=VERSIONS, device_model="cpu a", threads=1, packages="p"),
    engine=MANIFEST["engine"],
    world_size=1,
    micro_batch=4,
    global_batch=4,
    data_digest="d",
    vocabulary_digest="v",
    order_digest="o",
    base_digest="b",
)


def found(manifest: dict[str, Any], standing: dict[str, Any]) -> list[Difference]:
    """Return the differences from what this attempt has."""
    record = StandingRecord.model_validate(STANDING | standing)
    return differences(Manifest.model_validate(MANIFEST | manifest), record, PRESENT)


def environment(**changes: Any) -> dict[str, Any]:
    """Return the manifest's part with another environment."""
    return {"environment": MANIFEST["environment"] | changes}


TABLE: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    # entry, the manifest's part, the standing's part, words that the refusal must have
    *(
        (state, {"states": [s for s in MANIFEST["states"] if s != state]}, {}, ["not among"])
        for state in ("model", "optimizer", "rng", "position")
    ),
    ("position", {"position": {"samples": 11, "order_digest": "o"}}, {}, ["11", "3 steps of 4"]),
    ("data", {"position": {"samples": 12, "order_digest": "x"}}, {}, ["order", "x when", "o now"]),
    ("data", {}, {"data_digest": "x"}, ["files", "x when saved, d now"]),
    ("tokenizer", {}, {"vocabulary_digest": "x"}, ["x when saved, v now"]),
    ("base", {"base": {"source": "b", "digest": "x"}}, {}, ["x when saved, b now"]),
    ("base", {"base": None}, {}, ["not on record when saved, b now"]),
    ("engine", {"engine": MANIFEST["engine"] | {"zero_stage": 3}}, {}, ["zero_stage 3", "2 now"]),
    ("engine", {"engine": {}}, {}, ["precision not on record when saved, fp32 now"]),
    (
        "library_versions",
        environment(versions={"python": "3.11", "torch": "2.12"}),
        {},
        ["torch 2.12 when saved, 2.13 now"],
    ),
    (
        "library_versions",
        environment(versions={"torch": "2.13"}),
        {},
        ["python not on record when saved, 3.11 now"],
    ),
    (
        "library_versions",
        environment(versions=VERSIONS | {"gone": "1"}),
        {},
        ["gone 1 when saved, not on record now"],
    ),
    ("device_model", environment(device_model="cpu b"), {}, ["cpu b when saved, cpu a now"]),
    ("threads", environment(threads=2), {}, ["2 when saved, 1 now"]),
    (
        "world_size",
        {
            "world_size": 2,
            "files": (
                *MANIFEST["files"],
                {"path": "rank-00001/a", "rank": 1, "bytes": 1, "digest": DIGEST},
            ),
        },
        {},
        ["2 when saved, 1 now"],
    ),
    ("batch_geometry", {}, {"micro_batch": 2}, ["micro_batch 2 when saved, 4 now"]),
]


# What the table need not change, and who looks at it instead.
ELSEWHERE: dict[type[BaseModel], dict[str, str]] = {
    Manifest: {
        "format": "decoding refuses it",
        "version": "decoding refuses a newer one, with both named",
        "job": "the store refuses another job's",
        "spec_digest": "the store refuses another spec's",
        "epoch": "the directory's name has it",
        "step": "the directory's name has it, and every rank's counters",
        "kind": "why it was saved changes nothing",
        "parent": "where it came from, for people",
        "files": "every byte is verified; what no rank wrote is missing by name",
        "waivers": "the history that the result tells",
        "extra": "the standing, below",
    },
    Environment: {"packages": "only a reason, unless `packages: strict` (worker.packages)"},
    StandingRecord: {
        "evaluation_pending": "taken over",
        "best": "taken over; its tensors are verified bytes",
        "dev": "taken over",
        "resumed_steps": "the history that the result tells",
        "inexact_reasons": "the history that the result tells",
        "waived": "the history that the result tells",
        "save_seconds": "how long a save took changes nothing",
    },
}


def test_no_entry_is_forgotten() -> None:
    """A new field of a manifest is compared, with a row above, or has its words here."""
    rows: dict[type[BaseModel], set[str]] = {
        Manifest: {name for _, manifest, _, _ in TABLE for name in manifest},
        Environment: {
            name
            for _, manifest, _, _ in TABLE
            for name, value in manifest.get("environment", {}).items()
            if value != MANIFEST["environment"][name]
        },
        StandingRecord: {name for _, _, standing, _ in TABLE for name in standing},
    }
    for model, elsewhere in ELSEWHERE.items():
        assert (rows[model] | set(elsewhere)) == set(model.model_fields), model.__name__


def test_an_equal_checkpoint_has_no_difference() -> None:
    """Otherwise every resume would be refused, and the table below shows nothing."""
    assert found({}, {}) == []


@pytest.mark.parametrize(("entry", "manifest", "standing", "words"), TABLE)
def test_each_entry_is_refused_by_name_with_both_values(
    entry: str, manifest: dict[str, Any], standing: dict[str, Any], words: list[str]
) -> None:
    """Missing or different; with the command that lets it pass exactly where there is one."""
    verdict = judge(found(manifest, standing), waived=())
    text = verdict.refusal(checkpoint="step-00000003.e0001", job=JOB)

    assert {d.entry for d in verdict.refused} == {entry}
    assert text is not None
    assert f"{entry}: " in text
    assert all(word in text for word in words), text
    assert (f"orch retry 01234567 --waive {entry}" in text) == (
        entry in NAMES and entry in {d.entry for d in verdict.refused if d.waiver}
    )


@pytest.mark.parametrize(("entry", "manifest", "standing", "words"), TABLE)
def test_each_entry_that_has_a_name_passes_by_it_and_by_no_other(
    entry: str, manifest: dict[str, Any], standing: dict[str, Any], words: list[str]
) -> None:
    """And leaves a reason; what has none is refused whatever is waived."""
    differing = found(manifest, standing)
    others = [name for name in Waiver if name != entry]

    assert judge(differing, waived=others).refused == tuple(differing)
    verdict = judge(differing, waived=list(Waiver))
    assert bool(verdict.waived) == (entry in NAMES)
    assert len(verdict.waived) + len(verdict.refused) == len(differing)
    whole = Manifest.model_validate(MANIFEST | manifest)
    reasons = inexact_reasons(verdict.waived, whole, PRESENT)
    assert len(reasons) == len(verdict.waived)
    assert all("step 3" in reason for reason in reasons)


def test_a_waiver_of_a_missing_state_names_what_is_done() -> None:
    """`rng` is in both tables: a manifest without it, and ranks whose state does not fit."""
    verdict = judge(found({"states": ("model", "optimizer", "position")}, {}), waived=["rng"])

    assert [d.entry for d in verdict.waived] == ["rng"]


def test_all_differences_are_said_at_once() -> None:
    """One look, one command: nobody is sent back three times."""
    manifest = environment(threads=2, versions={"python": "3.11", "torch": "2.12"})
    text = judge(found(manifest, {}), waived=()).refusal(checkpoint="c", job=JOB)

    assert text is not None
    assert text.endswith("orch retry 01234567 --waive library_versions --waive threads")


def test_what_cannot_be_waived_hides_no_command() -> None:
    """A command that would only be refused again is not offered."""
    text = judge(found(environment(threads=2), {"data_digest": "x"}), waived=()).refusal(
        checkpoint="c", job=JOB
    )

    assert text is not None
    assert "--waive" not in text
    assert "new job" in text


def test_other_packages_are_a_reason_where_no_library_says_it_better() -> None:
    """They are refused only with `packages: strict`, before anything is built."""
    other = Manifest.model_validate(MANIFEST | environment(packages="q"))

    assert inexact_reasons([], other, PRESENT) == ["other installed packages than before at step 3"]


def test_a_halved_micro_batch_needs_no_waiver() -> None:
    """The override that halved it is the wish; the result has the reason."""
    waived = effective_waivers((), Overrides(micro_batch=2))

    assert judge(found({}, {"micro_batch": 2}), waived).refused == ()
    assert effective_waivers((), Overrides()) == frozenset()


@pytest.mark.parametrize("parse", [parse_waivers])
def test_names_are_checked(parse: Callable[[list[str]], tuple[Waiver, ...]]) -> None:
    """A typo waives nothing and says what exists."""
    assert parse(["rng", "threads", "rng"]) == (Waiver.RNG, Waiver.THREADS)
    with pytest.raises(ValueError, match="known are library_versions"):
        parse(["everything"])
    assert set(MEANINGS) == set(Waiver) > set(WAIVED_BY_DEFAULT)
