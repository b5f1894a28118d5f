"""MANIFEST.json: what a checkpoint consists of, to the byte (DESIGN: "Fixed records").

The file is canonical JSON plus a newline. Its field `manifest_digest` is the sha256 of the
canonical JSON without that field; this rule is the same in every version, so that a flipped bit
in `version` is told from a newer format. The digest by which others name a checkpoint (a child's
`parent`, a result's `checkpoint_digest`) is the sha256 of the whole file.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from checkpoints.errors import BrokenCheckpoint, NewerFormat
from jobs.contract.paths import checkpoint_name
from jobs.spec import canonical_json

MANIFEST = "MANIFEST.json"
FORMAT: Literal["orch-checkpoint"] = "orch-checkpoint"
VERSION = 1
MAX_MANIFEST_BYTES = 64 << 20  # 10,000 ranks of 20 files stay below
_SELF_CHECK = "manifest_digest"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# What a command saves has the names and directories that its libraries chose.
_STORED_PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._=+@,~-]{1,128}")
_MAX_DEPTH = 8

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


def digest_of(*parts: bytes | memoryview) -> str:
    """Return `sha256:<hex>` of the parts, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def rank_directory(rank: int) -> str:
    """Return the directory of a rank within a checkpoint, e.g. `rank-00000`."""
    return f"rank-{rank:05d}"


def check_file_name(name: str) -> str:
    """Return `name` if it is a plain file name. Raises ValueError."""
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a file of a checkpoint: use 1 to 128 characters of"
            " A-Z a-z 0-9 . _ - that begin with a letter or digit"
        )
    return name


def check_stored_path(path: str) -> str:
    """Return a path below a rank's directory if its names are plain. Raises ValueError."""
    parts = path.split("/")
    if len(parts) > _MAX_DEPTH or not all(_STORED_PART.fullmatch(part) for part in parts):
        raise ValueError(
            f"{path!r} cannot be in a checkpoint: at most {_MAX_DEPTH} names of 1 to 128"
            " characters of A-Z a-z 0-9 . _ = + @ , ~ -"
        )
    return path


class _Model(BaseModel):
    # "constants": NaN and Infinity must fail loudly in canonical_json, not become null on the way.
    model_config = ConfigDict(
        frozen=True, extra="ignore", strict=True, ser_json_inf_nan="constants"
    )


class FileEntry(_Model):
    """One file of a checkpoint. JSON-able by `model_dump()`, back by `model_validate()`."""

    path: str  # "rank-00000/<name>"
    rank: Count
    bytes: Count
    digest: Digest
    # crc32 of each MiB: says where a file is damaged, never whether. Older checkpoints have none.
    blocks: Annotated[str, Field(pattern=r"^([0-9a-f]{8})*$")] | None = None

    @model_validator(mode="after")
    def _path_is_the_ranks(self) -> Self:
        directory, _, name = self.path.partition("/")
        if directory != rank_directory(self.rank):
            raise ValueError(f"path {self.path!r} is not below {rank_directory(self.rank)}/")
        check_stored_path(name)
        return self


class Parent(_Model):
    """The checkpoint that the attempt resumed from: digest saved = digest loaded."""

    name: str
    digest: Digest


class Position(_Model):
    """Where in the data the next step begins."""

    samples: Count  # consumed by optimizer steps so far, over all ranks
    order_digest: str  # of what determines the order of the data


class Base(_Model):
    """The frozen weights, which are not stored."""

    source: str
    revision: str | None = None
    digest: str | None = None


class Environment(_Model):
    """What must stay the same for a resume to be exact."""

    versions: dict[str, str] = {}
    device_model: str | None = None
    threads: int | None = None
    packages: str | None = None  # lock digest; older checkpoints have none


class ManifestHeader(_Model):
    """What the worker says about a checkpoint; the store adds job, spec and files."""

    epoch: Annotated[int, Field(ge=1)]
    step: Count
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,31}$")]  # e.g. periodic, notice, best
    parent: Parent | None = None
    world_size: Annotated[int, Field(ge=1, le=100_000)]
    engine: dict[str, Any] = {}
    position: Position
    states: Annotated[tuple[str, ...], Field(strict=False)]
    base: Base | None = None
    environment: Environment = Environment()
    waivers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    extra: dict[str, Any] = {}  # the worker's own, e.g. the best metric so far

    @property
    def name(self) -> str:
        """The directory name of the committed checkpoint."""
        return checkpoint_name(step=self.step, epoch=self.epoch)


class Manifest(ManifestHeader):
    """A whole manifest: every rank has files, every path is its rank's, no path twice."""

    format: Literal["orch-checkpoint"] = FORMAT
    version: Annotated[int, Field(ge=1, le=VERSION)] = VERSION
    job: str
    spec_digest: str
    files: Annotated[tuple[FileEntry, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _every_rank_has_files(self) -> Self:
        paths = {entry.path.casefold() for entry in self.files}
        if len(paths) != len(self.files):
            raise ValueError("a path is listed twice (upper and lower case count as equal)")
        ranks = {entry.rank for entry in self.files}
        missing = sorted(set(range(self.world_size)) - ranks)
        if missing:
            raise ValueError(f"ranks {missing[:8]} of {self.world_size} have no files")
        if len(ranks) != self.world_size:
            raise ValueError(f"rank {max(ranks)} is outside a world of {self.world_size}")
        return self

    @property
    def total_bytes(self) -> int:
        """Size of all files in bytes, without the manifest."""
        return sum(entry.bytes for entry in self.files)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of MANIFEST.json.

    Raises ValueError for what could not be read back: NaN, values JSON lacks, too many files.
    """
    body = manifest.model_dump(mode="json")
    data = canonical_json({**body, _SELF_CHECK: digest_of(canonical_json(body))}) + b"\n"
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError(f"the manifest has {len(data)} bytes, at most {MAX_MANIFEST_BYTES} do")
    try:
        decode_manifest(data)
    except BrokenCheckpoint as problem:
        raise ValueError(f"the manifest would not be readable: {problem}") from problem
    return data


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest. Raises `BrokenCheckpoint`, and `NewerFormat` for an intact newer one."""
    body = _parse(data)
    recorded = body.pop(_SELF_CHECK, None)
    found = digest_of(canonical_json(body))
    if recorded != found:
        raise BrokenCheckpoint(
            "the manifest's own digest differs", MANIFEST, expected=str(recorded), found=found
        )
    if canonical_json({**body, _SELF_CHECK: found}) + b"\n" != data:
        raise BrokenCheckpoint("the manifest is not in canonical form", MANIFEST)
    if body.get("format") != FORMAT:
        raise BrokenCheckpoint(
            "unknown format", MANIFEST, expected=FORMAT, found=ascii(body.get("format"))
        )
    version = body.get("version")
    if isinstance(version, int) and version > VERSION:
        raise NewerFormat(
            f"written in format version {version}, this orch reads versions up to {VERSION}:"
            " use the orch that wrote it, or a newer one",
            MANIFEST,
            expected=str(VERSION),
            found=str(version),
        )
    try:
        return Manifest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BrokenCheckpoint(f"{field}: {first['msg']}", MANIFEST) from error


def _parse(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        offset = getattr(error, "pos", None)
        raise BrokenCheckpoint("the manifest is not JSON", MANIFEST, offset=offset) from error
    if not isinstance(body, dict):
        raise BrokenCheckpoint("the manifest is not a JSON object", MANIFEST)
    try:
        canonical_json(body)
    except (ValueError, RecursionError) as error:  # NaN and Infinity, which json.loads accepts
        raise BrokenCheckpoint("the manifest is not canonical JSON", MANIFEST) from error
    return body
