"""A whole checkpoint of other circumstances: refused with every name, or let pass and on record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoints.manifest import MANIFEST, decode_manifest, digest_of, encode_manifest
from jobs.contract.exit_codes import ExitCode
from jobs.contract.paths import checkpoint_name
from jobs.contract.records import RESUME_REFUSED, Outcome
from jobs.spec import canonical_json
from tests.e2e.comparison import bench
from worker.forkserver import ForkServer

pytestmark = pytest.mark.e2e

RNG = "rank-00000/rng.safetensors"
STATE = "rank-00000/state.json"
NAME = checkpoint_name(step=3, epoch=1)


def rewrite(checkpoint: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest and give it its right digests, as another writer would have."""
    manifest = decode_manifest((checkpoint / MANIFEST).read_bytes())
    body = manifest.model_dump(mode="json")
    for entry in body["files"]:
        data = (checkpoint / entry["path"]).read_bytes()
        entry |= {"bytes": len(data), "digest": digest_of(data)}
    change(body)
    whole = type(manifest).model_validate_json(canonical_json(body))
    (checkpoint / MANIFEST).write_bytes(encode_manifest(whole))


def test_what_differs_is_refused_together_and_goes_on_by_name_only(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """Versions, random state, settings, scaler: refused with nothing touched; waived, on record."""
    job = bench(tmp_path, "job", fork_server, engine__zero_stage=1)
    assert job.attempt(fault="loop.after_step:kill@4").exit_code == 1
    checkpoint = job.job.checkpoints / NAME
    state = json.loads((checkpoint / STATE).read_bytes())
    state["param_groups"][0]["weight_decay"] = 0.25
    state["loss_scaler"]["ghost"] = 1
    (checkpoint / STATE).write_bytes(canonical_json(state) + b"\n")
    (checkpoint / RNG).unlink()
    names = ("library_versions", "rng", "scheduler", "scaler")

    def others(body: dict[str, Any], standing: dict[str, Any] | None = None) -> None:
        body["environment"]["versions"]["torch"] = "1.0"
        body["files"] = [entry for entry in body["files"] if entry["path"] != RNG]

    (checkpoint / RNG).write_bytes(b"")  # hashed with the others, then no longer listed
    rewrite(checkpoint, others)
    (checkpoint / RNG).unlink()
    before = {p: p.read_bytes() for p in checkpoint.rglob("*") if p.is_file()}

    refused = job.attempt()

    assert refused.exit_code == ExitCode.CONFIGURATION
    record = refused.exit()
    assert record is not None
    assert record.error is not None
    assert (record.outcome, record.error.type) == (Outcome.CONFIGURATION, RESUME_REFUSED)
    message = record.error.message
    assert "torch 1.0 when saved" in message
    assert "weight_decay was 0.25 when saved, is 0.0 now" in message
    assert message.endswith(
        f"orch retry {job.spec.id[:8]}" + "".join(f" --waive {name}" for name in names)
    )
    assert before == {p: p.read_bytes() for p in checkpoint.rglob("*") if p.is_file()}
    assert not (job.job.checkpoints / "quarantine").exists()

    job.submit(waivers=names[1:])
    assert "library_versions: torch 1.0" in str(job.attempt().exit())
    job.submit(waivers=(*names, "threads"))
    assert job.attempt().exit_code == ExitCode.RESULT

    result = job.result
    assert not result.exact
    assert set(result.waivers) == set(names)  # and not what was waived and did not differ
    assert len(result.inexact_reasons) == len(names)
    assert f"torch 1.0 -> {result.environment['versions']['torch']} at step 3" in (
        result.inexact_reasons
    )
    last = decode_manifest((job.job.checkpoints / sorted_last(job.job.checkpoints)).read_bytes())
    assert set(last.waivers) == set(names)


def sorted_last(checkpoints: Path) -> str:
    """Return the manifest of the newest checkpoint."""
    return f"{max(path.name for path in checkpoints.glob('step-*'))}/{MANIFEST}"


def test_a_manifest_without_a_data_fingerprint_is_refused(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    """Nothing can be waived that nobody can compare."""
    job = bench(tmp_path, "job", fork_server)
    assert job.attempt(fault="loop.after_step:kill@4").exit_code == 1
    rewrite(job.job.checkpoints / NAME, lambda body: body["extra"].pop("data_digest"))

    refused = job.attempt()

    assert refused.exit_code == ExitCode.CONFIGURATION
    assert "standing: extra.data_digest: Field required" in str(refused.exit())
    assert (job.job.checkpoints / NAME).is_dir()
