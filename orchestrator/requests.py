"""The inbox: how a verb asks whoever holds the lease to do something.

A request is one small file, published whole and never edited; its durable name is the moment
at which the verb's wish counts. The lease holder carries it out exactly once: the request's
name is committed in the transaction that carries it out.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from durable.faults import hit
from durable.files import private_dir, publish_all_new, publish_new
from jobs.contract.paths import StateDir
from jobs.contract.records import Record, read_record
from jobs.spec import JobSpec, canonical_json
from jobs.waivers import Waiver
from orchestrator.snapshots import publish_snapshots

if TYPE_CHECKING:
    from jobs.matrix import Matrix

MAX_REQUEST_BYTES = 4 << 20
MAX_MATRIX_BYTES = 64 << 20  # a million ids and what they need
DONE = "done"  # directory of carried-out requests


class SubmitWish(Record):
    """Take the jobs of a matrix into the store."""

    kind: Literal["submit"] = "submit"
    matrix: str


class CancelWish(Record):
    """End jobs."""

    kind: Literal["cancel"] = "cancel"
    jobs: tuple[str, ...]


class PruneWish(Record):
    """Cancel jobs that a matrix named earlier and that nobody wants any more."""

    kind: Literal["prune"] = "prune"
    matrices: tuple[str, ...]  # names


class PreemptWish(Record):
    """Give the attempt that runs now the site's signal sequence."""

    kind: Literal["preempt"] = "preempt"
    job: str
    epoch: int | None = None


class HoldWish(Record):
    """Let jobs wait for a person; what runs saves and leaves."""

    kind: Literal["hold"] = "hold"
    jobs: tuple[str, ...]


class ReleaseWish(Record):
    """Let held jobs go on."""

    kind: Literal["release"] = "release"
    jobs: tuple[str, ...]


class AgainWish(Record):
    """Start stopped jobs again, with whole budgets."""

    kind: Literal["again"] = "again"
    jobs: tuple[str, ...]
    waive: tuple[Waiver, ...] = ()  # what may differ at their resumes from now on
    ranks: Annotated[int | None, Field(ge=1, le=4096)] = None  # as many from now on


class ForgiveWish(Record):
    """Forget what nodes did to jobs until now."""

    kind: Literal["forgive"] = "forgive"
    nodes: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")], ...]


Wish = Annotated[
    SubmitWish
    | CancelWish
    | PruneWish
    | PreemptWish
    | HoldWish
    | ReleaseWish
    | AgainWish
    | ForgiveWish,
    Field(discriminator="kind"),
]
_WISH: TypeAdapter[Wish] = TypeAdapter(Wish)


class NeedRecord(Record):
    """`jobs` wait for the results of `of`."""

    name: str
    jobs: tuple[str, ...]
    of: tuple[str, ...]


class MatrixRecord(Record):
    """matrices/<digest>.json: what was submitted, verbatim."""

    digest: str
    name: str
    path: str
    cells: int
    text: str
    jobs: tuple[str, ...]
    priorities: tuple[int, ...] = ()  # of `jobs`; empty: those of their specs
    max_in_flight: int | None = None
    needs: tuple[NeedRecord, ...] = ()


class BadRequest(ValueError):
    """A file in the inbox is no request; it is set aside and reported."""


def inbox(state: StateDir) -> Path:
    """Return the directory of requests."""
    return state.path / "requests"


def post(state: StateDir, wish: Wish) -> str:
    """Publish a request durably; return its name."""
    folder = private_dir(inbox(state))
    while True:
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"
        if publish_new(folder / name, wish.to_json()):
            hit("request.posted")
            return name


def pending(state: StateDir) -> list[str]:
    """Return the names of requests, oldest first."""
    try:
        return sorted(p.name for p in inbox(state).iterdir() if p.name.endswith(".json"))
    except FileNotFoundError:
        return []


def read(state: StateDir, name: str) -> Wish:
    """Return a request. Raises `BadRequest`; OSError when it cannot be read."""
    data = (inbox(state) / name).read_bytes()
    try:
        return _WISH.validate_json(data[:MAX_REQUEST_BYTES])
    except ValidationError as error:
        raise BadRequest(f"requests/{name}: not a request: {error.errors()[0]['msg']}") from error


def done(state: StateDir) -> list[str]:
    """Return the names of carried-out requests, oldest first, as `read` takes them."""
    folder = inbox(state) / DONE
    try:
        return sorted(f"{DONE}/{p.name}" for p in folder.iterdir() if p.name.endswith(".json"))
    except FileNotFoundError:
        return []


def put_away(state: StateDir, name: str) -> None:
    """Take a request that has been carried out from the inbox; a rebuild reads it again."""
    path = inbox(state) / name
    folder = private_dir(inbox(state) / DONE)
    with suppress(FileNotFoundError):
        path.rename(folder / path.name)


def written_matrices(state: StateDir) -> list[str]:
    """Return the digests of all written matrices, oldest first by their files' times."""
    try:
        files = [p for p in state.matrices.iterdir() if p.name.endswith(".json")]
    except FileNotFoundError:
        return []
    return [p.stem for p in sorted(files, key=lambda p: (p.stat().st_mtime, p.name))]


def set_aside(state: StateDir, name: str) -> None:
    """Keep what is no request out of the way, for people to look at."""
    path = inbox(state) / name
    path.rename(path.with_name(f"{name}.rejected"))


def write_matrix(
    state: StateDir, matrix: Matrix, *, written: dict[str, JobSpec] | None = None
) -> str:
    """Write a matrix, its code and its jobs' specs durably; return the record's digest.

    Idempotent. Adds to `written` the specs whose spec.json did not exist before, by id.
    Raises `jobs.snapshot.CodeRefused` when the code changed since it was read.
    """
    publish_snapshots(state, matrix.jobs)
    private_dir(state.jobs)
    specs = {state.job(spec.id).spec: spec for spec in matrix.jobs}
    new = publish_all_new(state.jobs, {path: spec.to_json() for path, spec in specs.items()})
    if written is not None:
        written.update((specs[path].id, specs[path]) for path in new)
    hit("submit.specs_written")
    record = _record(matrix)
    private_dir(state.matrices)
    publish_new(state.matrices / f"{record.digest}.json", record.to_json())
    hit("submit.matrix_written")
    return record.digest


def read_matrix(
    state: StateDir, digest: str, *, written: Mapping[str, JobSpec] | None = None
) -> tuple[MatrixRecord, Sequence[JobSpec]]:
    """Return a written matrix with the specs of its jobs, in its order.

    `written`: specs that this process itself has published, so that they need not be read.
    Raises `BadRequest` when it, or a spec that it names, is missing or broken.
    """
    if not digest.isalnum():
        raise BadRequest(f"matrix {digest!r} is not a digest")
    path = state.matrices / f"{digest}.json"
    record = read_record(path, MatrixRecord, limit=MAX_MATRIX_BYTES)
    if record is None:
        raise BadRequest(f"{path} is missing")
    specs = []
    for job in record.jobs:
        if written is not None and job in written:
            specs.append(written[job])
            continue
        spec = state.job(job).spec
        try:
            specs.append(JobSpec.model_validate_json(spec.read_bytes()))
        except (OSError, ValidationError) as error:
            raise BadRequest(f"{spec}: {error}") from error
    return record, specs


def _record(matrix: Matrix) -> MatrixRecord:
    record = MatrixRecord(
        digest="",
        name=matrix.name,
        path=str(matrix.path),
        cells=matrix.cells,
        text=matrix.text,
        jobs=tuple(spec.id for spec in matrix.jobs),
        priorities=tuple(spec.run.priority for spec in matrix.jobs),
        max_in_flight=matrix.max_in_flight,
        needs=tuple(NeedRecord(name=n.name, jobs=n.jobs, of=n.of) for n in matrix.needs),
    )
    # Over the expansion too: the same text with other settings is another matrix.
    whole = canonical_json(record.model_dump(mode="json", exclude={"digest", "path", "cells"}))
    return record.model_copy(update={"digest": hashlib.sha256(whole).hexdigest()[:32]})
