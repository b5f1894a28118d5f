"""A manifest that was changed by a bit is refused; one of a newer orch is told apart from that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from checkpoints.errors import BrokenCheckpoint, NewerFormat
from checkpoints.manifest import (
    MAX_MANIFEST_BYTES,
    VERSION,
    FileEntry,
    Manifest,
    ManifestHeader,
    decode_manifest,
    digest_of,
    encode_manifest,
)
from jobs.spec import canonical_json
from tests.unit.checkpoints.fake_attempt import JOB, SPEC_DIGEST, header

DIGEST = digest_of(b"")


def entry(path: str, rank: int) -> FileEntry:
    """Return an entry of an empty file."""
    return FileEntry(path=path, rank=rank, bytes=0, digest=DIGEST)


def manifest(**changes: Any) -> Manifest:
    """Return a manifest of two ranks."""
    fields = {
        **header(step=20, epoch=1).model_dump(),
        "job": JOB,
        "spec_digest": SPEC_DIGEST,
        "files": [entry(f"rank-{rank:05d}/model.safetensors", rank) for rank in range(2)],
    }
    return Manifest.model_validate({**fields, **changes})


def resealed(**changes: Any) -> bytes:
    """Return a manifest whose fields were edited and whose own digest is right again."""
    body = {**json.loads(encode_manifest(manifest())), **changes}
    del body["manifest_digest"]
    return canonical_json({**body, "manifest_digest": digest_of(canonical_json(body))}) + b"\n"


def test_it_comes_back_as_it_was() -> None:
    """Writing and reading loses nothing, and writing is deterministic."""
    data = encode_manifest(manifest())
    assert decode_manifest(data) == manifest()
    assert encode_manifest(decode_manifest(data)) == data


def test_the_documented_fields_are_there() -> None:
    """DESIGN fixes the names; other programs read them."""
    fields = set(json.loads(encode_manifest(manifest())))
    documented = (
        "format, version, job, spec_digest, epoch, step, kind, parent, world_size, engine,"
        " position, states, files, base, environment, waivers"
    )
    assert fields >= set(documented.split(", "))


def test_every_flipped_bit_is_found() -> None:
    """Whatever single bit changes anywhere in the file, the manifest is refused as broken."""
    data = encode_manifest(manifest())
    for offset in range(len(data)):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << (offset % 8)
        with pytest.raises(BrokenCheckpoint) as caught:
            decode_manifest(bytes(flipped))
        assert not isinstance(caught.value, NewerFormat)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"manifest_digest":NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe{\x00}\x00",
        b"\x00" * 4096,
        b'{"a":' + b"9" * 10_000 + b"}",
    ],
)
def test_rubbish_is_broken_not_an_exception_of_ours(data: bytes) -> None:
    """Any bytes at all end in BrokenCheckpoint."""
    with pytest.raises(BrokenCheckpoint):
        decode_manifest(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    """The door from disk raises its own error only."""
    with pytest.raises(BrokenCheckpoint):
        decode_manifest(data)


def test_an_edited_value_is_called_by_its_name() -> None:
    """Canonical JSON all the same: what differs is the manifest's own digest, and it says so."""
    data = encode_manifest(manifest()).replace(b'"step":20', b'"step":21')
    with pytest.raises(BrokenCheckpoint, match="own digest differs"):
        decode_manifest(data)


def test_truncation_at_any_place_is_found() -> None:
    """No prefix of a manifest is a manifest, not even the one without the final newline."""
    data = encode_manifest(manifest())
    for length in range(len(data)):
        with pytest.raises(BrokenCheckpoint):
            decode_manifest(data[:length])


@pytest.mark.parametrize("dress", [lambda d: d[:-1] + b" \n", lambda d: d + b"\n"])
def test_only_the_canonical_spelling_counts(dress: Any) -> None:
    """Equal JSON in other bytes has another digest, so it is not this checkpoint."""
    with pytest.raises(BrokenCheckpoint, match="canonical"):
        decode_manifest(dress(encode_manifest(manifest())))


def test_a_newer_version_is_refused_by_both_numbers() -> None:
    """An older orch must not take newer work for damage, nor guess what it means."""
    with pytest.raises(NewerFormat, match=rf"version {VERSION + 6}.*up to {VERSION}"):
        decode_manifest(resealed(version=VERSION + 6, files="of a shape nobody knows yet"))


def test_another_format_is_refused() -> None:
    """JSON with a right digest of its own may still be somebody else's."""
    with pytest.raises(BrokenCheckpoint, match="unknown format"):
        decode_manifest(resealed(format="tarball"))


def test_fields_of_a_later_release_are_tolerated() -> None:
    """More fields are welcome within a version."""
    assert decode_manifest(resealed(colour="green")) == manifest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world_size": 3}, r"ranks \[2\] of 3 have no files"),
        ({"world_size": 1}, "outside a world of 1"),
        ({"world_size": "2"}, "world_size"),
        ({"step": -1}, "step"),
        ({"epoch": 0}, "epoch"),
        ({"version": 0}, "version"),
        ({"version": True}, "version"),
        ({"files": []}, "have no files"),
        ({"kind": "Periodic\n"}, "kind"),
        ({"position": None}, "position"),
    ],
)
def test_an_impossible_manifest_names_its_field(changes: dict[str, Any], message: str) -> None:
    """Edited by hand and sealed again: refused with the field that is wrong."""
    with pytest.raises(BrokenCheckpoint, match=message):
        decode_manifest(resealed(**changes))


@pytest.mark.parametrize(
    "path",
    [
        "rank-00000/../x",
        "rank-00000/a/../b",
        "rank-00000/",
        "rank-00000",
        "rank-00001/x",
        "/etc/passwd",
        "../rank-00000/x",
        "rank-00000/..",
        "rank-00000/a\nb",
        "rank-00000/" + "x" * 129,
        "MANIFEST.json",
    ],
)
def test_a_path_cannot_leave_its_rank(path: str) -> None:
    """rank-NNNNN/ and plain names, nothing else."""
    with pytest.raises(ValidationError):
        entry(path, 0)


def test_a_path_is_listed_once_whatever_its_case() -> None:
    """A copy to a filesystem that ignores case would lose one of them."""
    twice = [entry(f"rank-00000/{name}", 0) for name in ("a", "A")]
    with pytest.raises(ValidationError, match="twice"):
        manifest(files=[*twice, entry("rank-00001/a", 1)])


@pytest.mark.parametrize(
    "digest", ["", "md5:" + "0" * 32, "sha256:" + "0" * 63, "SHA256:" + "0" * 64]
)
def test_a_digest_names_its_algorithm(digest: str) -> None:
    """Only sha256 with all digits."""
    with pytest.raises(ValidationError):
        FileEntry(path="rank-00000/a", rank=0, bytes=0, digest=digest)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_nan_cannot_be_saved(value: str) -> None:
    """JSON has no NaN: the save fails now, not the load later, and it never becomes null."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_manifest(manifest(extra={"best": {"loss": float(value)}}))


def test_whatever_can_be_saved_can_be_read() -> None:
    """Numbers as keys are sorted differently once they are text: that must cost nothing."""
    awkward = {"seen": {10: 1, 9: 2, "x": 1e16, "é\ud800": [-0.0, (1, 2)]}, "big": 1 << 80}
    try:
        data = encode_manifest(manifest(extra=awkward))
    except (ValueError, TypeError):  # refused when saving: also fine
        return
    assert decode_manifest(data).extra["big"] == 1 << 80


def test_integers_as_keys_survive() -> None:
    """The likeliest of the awkward values, and it works."""
    data = encode_manifest(manifest(extra={"seen": {10: 1, 9: (1, 2)}}))
    assert decode_manifest(data).extra == {"seen": {"10": 1, "9": [1, 2]}}


def test_a_manifest_that_nobody_would_read_is_not_written() -> None:
    """The bound of the reader binds the writer."""
    with pytest.raises(ValueError, match="at most"):
        encode_manifest(manifest(extra={"log": "x" * (MAX_MANIFEST_BYTES + 1)}))


def test_entries_travel_between_ranks_as_json() -> None:
    """Ranks hand their lists to rank 0."""
    ours = entry("rank-00001/a", 1)
    assert FileEntry.model_validate(json.loads(json.dumps(ours.model_dump()))) == ours


def test_the_header_names_its_directory() -> None:
    """Step and epoch are in the name, so that an older epoch cannot take a newer one's."""
    fields = header(step=1200, epoch=3)
    assert isinstance(fields, ManifestHeader)
    assert fields.name == "step-00001200.e0003"
