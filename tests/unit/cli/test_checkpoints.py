"""`orch checkpoints`: what it shows, what it leaves with, and that looking changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints.manifest import Environment, ManifestHeader, Position
from checkpoints.store import CheckpointStore
from jobs.spec import JobSpec, semantic_digest
from orchestrator.cli.exits import Exit
from tests.contract.stub import make_spec
from tests.unit.cli.conftest import Outcome
from tests.unit.cli.state import write_state

Orch = Callable[..., Outcome]
SPEC = make_spec(1)
OLD, NEW = "step-00000010.e0001", "step-00000020.e0001"


def tensors(value: int) -> bytes:
    """Return a safetensors file of two tensors, one of which depends on `value`."""
    header = {
        "fixed": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
        "moving": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]},
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes([7, 7, value, value])


def save(store: CheckpointStore, step: int) -> None:
    """Commit a checkpoint of one rank."""
    writer = store.stage(step=step, epoch=1, rank=0)
    writer.write("model.safetensors", tensors(step))
    writer.write("state.json", b"{}")
    header = ManifestHeader(
        epoch=1,
        step=step,
        kind="periodic",
        world_size=1,
        position=Position(samples=step, order_digest="sha256:0"),
        states=("model",),
        environment=Environment(threads=1),
    )
    store.commit(header, writer.finish(), fence=lambda: None)


@pytest.fixture
def store(home: Path) -> CheckpointStore:
    """A completed job with two checkpoints."""
    state = write_state(home, {})
    _insert(home, SPEC, "COMPLETED")
    directory = state.job(SPEC.id)
    directory.path.mkdir(parents=True)
    directory.spec.write_bytes(SPEC.to_json())
    made = CheckpointStore(
        directory.checkpoints, job=SPEC.id, spec_digest=semantic_digest(SPEC.semantic)
    )
    save(made, 10)
    save(made, 20)
    return made


def _insert(home: Path, spec: JobSpec, state: str) -> None:
    import sqlite3

    with sqlite3.connect(home / "orch.sqlite3") as connection:
        connection.execute(
            "INSERT OR REPLACE INTO jobs (id, name, spec, state, state_since, total_steps)"
            " VALUES (?, ?, ?, ?, 0, 3)",
            (spec.id, spec.name, spec.to_json().decode(), state),
        )


def states(outcome: Outcome) -> dict[str, str]:
    """Return each checkpoint's state."""
    return {entry["name"]: entry["state"] for entry in outcome.document["checkpoints"]}


def flip(store: CheckpointStore, name: str) -> None:
    """Flip bits inside a tensor: sizes stay."""
    path = store.root / name / "rank-00000/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def test_states_from_durable_to_verified_to_broken(orch: Orch, store: CheckpointStore) -> None:
    """A verdict holds until a file changes; what rotted is broken in later listings, too."""
    assert states(orch("checkpoints", "ls", SPEC.id, "--json")) == {NEW: "durable", OLD: "durable"}

    assert orch("checkpoints", "verify", SPEC.id).code == Exit.OK
    assert states(orch("checkpoints", "ls", SPEC.id, "--json")) == {NEW: "verified", OLD: "durable"}

    flip(store, NEW)
    assert states(orch("checkpoints", "ls", SPEC.id, "--json"))[NEW] == "durable"
    verified = orch("checkpoints", "verify", SPEC.id, "--all")
    assert verified.code == Exit.FAILED
    assert "digest differs" in verified.out
    assert states(orch("checkpoints", "ls", SPEC.id, "--json")) == {NEW: "broken", OLD: "verified"}
    assert store.candidates() == [NEW, OLD]  # nothing is moved by looking


def test_what_rotted_on_disk_is_found_demoted_and_not_resumed_from(
    orch: Orch, store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit of a file that keeps its size and times; every file is read past the page cache."""
    advised: list[str] = []

    def advise(descriptor: int, offset: int, length: int, advice: int) -> None:
        if (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED):
            advised.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    path = store.root / NEW / "rank-00000/model.safetensors"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert orch("checkpoints", "verify", SPEC.id, "--all").code == Exit.FAILED

    # What is broken is not read to its end.
    whole = {str(file) for file in (store.root / OLD).rglob("rank-*/*")}
    rest = {str(file) for file in (store.root / NEW).rglob("rank-*/*")}
    assert {*whole, str(path)} <= set(advised) <= whole | rest
    listed = orch("checkpoints", "ls", SPEC.id)
    assert "digest differs" in listed.out
    assert states(orch("checkpoints", "ls", SPEC.id, "--json")) == {NEW: "broken", OLD: "verified"}
    reports: list[str] = []
    opened = store.latest_verified(reports.append)  # what a resume does
    assert opened is not None
    assert opened.name == OLD
    assert NEW in reports[0]
    there = orch("checkpoints", "ls", SPEC.id, "--json").document["checkpoints"]
    assert [(one["name"][:22], one["state"]) for one in there] == [
        (OLD, "verified"),
        (f"{NEW}.0"[:22], "quarantined"),
    ]


def test_staged_and_quarantined_are_listed(orch: Orch, store: CheckpointStore) -> None:
    """A save that is under way is no checkpoint yet; evidence is shown with its reason."""
    store.stage(step=30, epoch=2, rank=0)
    store.quarantine(NEW, "made up")

    shown = orch("checkpoints", "ls", SPEC.name)

    assert shown.code == Exit.OK
    assert "step-00000030.e0002.t1  written" in shown.out
    assert "quarantined" in shown.out
    assert "made up" in shown.out


def test_show_prints_the_manifest(orch: Orch, store: CheckpointStore) -> None:
    """The newest by default, or the one that is named."""
    assert json.loads(orch("checkpoints", "show", SPEC.id).out)["step"] == 20
    assert json.loads(orch("checkpoints", "show", SPEC.id, OLD).out)["step"] == 10


def test_diff_names_fields_and_tensors(orch: Orch, store: CheckpointStore) -> None:
    """What is equal is left out."""
    shown = orch("checkpoints", "diff", SPEC.id, OLD, NEW).out

    assert "position.samples" in shown
    assert "model.safetensors: moving" in shown
    assert "fixed" not in shown
    assert "no difference" in orch("checkpoints", "diff", SPEC.id, OLD, OLD).err


def test_prune_keeps_two_and_leaves_a_running_job_alone(
    orch: Orch, home: Path, store: CheckpointStore
) -> None:
    """A live attempt prunes by itself; afterwards what is superseded may go."""
    save(store, 30)
    _insert(home, SPEC, "RUNNING")
    refused = orch("checkpoints", "prune", SPEC.id)
    assert refused.code == Exit.FAILED
    assert "RUNNING" in refused.err
    assert len(store.candidates()) == 3

    _insert(home, SPEC, "COMPLETED")
    assert OLD in orch("checkpoints", "prune", SPEC.id).err
    assert store.candidates() == ["step-00000030.e0001", NEW]


def test_what_does_not_exist_is_named_with_what_does(orch: Orch, store: CheckpointStore) -> None:
    """An unknown checkpoint leaves with 3; a wrong use with 2 and the fix."""
    missing = orch("checkpoints", "show", SPEC.id, "step-00000099.e0001")
    assert missing.code == Exit.NOT_FOUND
    assert NEW in missing.err
    assert orch("checkpoints", "verify", SPEC.id, "nope").code == Exit.NOT_FOUND
    assert orch("checkpoints", "diff", SPEC.id, NEW).code == Exit.USAGE
    assert orch("checkpoints", "export", SPEC.id).code == Exit.USAGE
