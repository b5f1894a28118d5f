"""`orch checkpoints`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.options import JobSelector, Json
from orchestrator.cli.session import open_reading, require_state, state_home

if TYPE_CHECKING:
    from checkpoints.store import CheckpointStore, OpenCheckpoint
    from jobs.contract.paths import JobDir
    from orchestrator.rows import JobRow


class Action(StrEnum):
    """What to do with a job's checkpoints."""

    LS = "ls"
    SHOW = "show"
    VERIFY = "verify"
    DIFF = "diff"
    PRUNE = "prune"
    EXPORT = "export"


class Weights(StrEnum):
    """Which weights an export has."""

    RESULT = "result"
    LAST = "last"


def checkpoints(
    *,
    action: Annotated[Action, typer.Argument(help="What to do.", show_default=False)],
    job: JobSelector,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHECKPOINT]...",
            help="show, verify, export: which (default: the newest); diff: two of them.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="verify: every checkpoint, not the newest only.")
    ] = False,
    keep: Annotated[
        int, typer.Option("--keep", min=2, help="prune: how many verified ones stay.")
    ] = 2,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="export: a new directory.", show_default=False),
    ] = None,
    weights: Annotated[
        Weights,
        typer.Option(
            "--weights", help="export: the tested ones of the result, or the checkpoint's last."
        ),
    ] = Weights.RESULT,
    merge: Annotated[
        bool, typer.Option("--merge", help="export: fold the adapter into a full model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at a job's checkpoints, verify, compare, prune or export them.

    Examples:
      orch checkpoints ls 3f2a9c1e
      orch checkpoints verify 3f2a9c1e --all
      orch checkpoints diff 3f2a9c1e step-00000020.e0001 step-00000040.e0001
      orch checkpoints export 3f2a9c1e --to adapter
    """
    home = state_home()
    require_state(home, job)
    row, directory = open_reading(home).job_dir(job)
    match action:
        case Action.LS:
            _list(row, directory, as_json=as_json)
        case Action.SHOW:
            _show(_open(directory, row, _only(names)))
        case Action.VERIFY:
            _verify(row, directory, names or [], everything=everything, as_json=as_json)
        case Action.DIFF:
            _diff(directory, row, names or [])
        case Action.PRUNE:
            _prune(row, directory, keep)
        case Action.EXPORT:
            _export(directory, _only(names), to, weights, merge=merge)


def _only(names: list[str] | None) -> str | None:
    if names and len(names) > 1:
        raise Stop(Exit.USAGE, f"{len(names)} checkpoints were named", fix="name one")
    return names[0] if names else None


def _store(directory: JobDir, row: JobRow) -> CheckpointStore:
    from checkpoints.store import CheckpointStore
    from jobs.spec import JobSpec, semantic_digest

    spec = JobSpec.model_validate_json(directory.spec.read_bytes())
    digest = semantic_digest(spec.semantic)
    return CheckpointStore(directory.checkpoints, job=row.id, spec_digest=digest)


def _open(directory: JobDir, row: JobRow, name: str | None) -> OpenCheckpoint:
    from checkpoints.errors import BrokenCheckpoint
    from orchestrator.views.text import clean

    store = _store(directory, row)
    candidates = store.candidates()
    if not candidates or (name is not None and name not in candidates):
        there = ", ".join(candidates) or "none"
        raise Stop(Exit.NOT_FOUND, f"no checkpoint {clean(name or '')}; there are: {there}")
    try:
        return store.open(name or candidates[0])
    except BrokenCheckpoint as error:
        raise Stop(
            Exit.FAILED,
            f"{name or candidates[0]} is broken: {clean(str(error))}",
            fix="nothing needs to be done: the next attempt uses the one before",
        ) from error


def _list(row: JobRow, directory: JobDir, *, as_json: bool) -> None:
    from checkpoints.listing import listing
    from orchestrator.views.checkpoints import listing_document, listing_table

    found = listing(directory.checkpoints)
    if as_json:
        streams.show_document(listing_document(row.id, found))
    elif found:
        streams.show_table(listing_table(found))
    else:
        streams.say(f"{row.name} has no checkpoints")


def _show(opened: OpenCheckpoint) -> None:
    import json

    streams.show(json.dumps(opened.manifest.model_dump(mode="json"), indent=2, sort_keys=True))


def _verify(
    row: JobRow, directory: JobDir, names: list[str], *, everything: bool, as_json: bool
) -> None:
    from checkpoints.listing import Stage, verified
    from orchestrator.views.checkpoints import listing_document, listing_table

    candidates = _store(directory, row).candidates()
    if unknown := [name for name in names if name not in candidates]:
        raise Stop(
            Exit.NOT_FOUND, f"no checkpoint {unknown[0]!a}", fix=f"orch checkpoints ls {row.id}"
        )
    wanted = names or (candidates if everything else candidates[:1])
    found = [verified(directory.checkpoints, name) for name in wanted]
    if as_json:
        streams.show_document(listing_document(row.id, found))
    elif found:
        streams.show_table(listing_table(found))
    else:
        streams.say(f"{row.name} has no checkpoints")
    if any(one.stage is Stage.BROKEN for one in found):
        raise typer.Exit(int(Exit.FAILED))


def _diff(directory: JobDir, row: JobRow, names: list[str]) -> None:
    from checkpoints.comparison import differences
    from checkpoints.errors import BrokenCheckpoint
    from orchestrator.views.checkpoints import difference_table

    if len(names) != 2:
        raise Stop(Exit.USAGE, "diff compares two checkpoints", fix=f"orch checkpoints ls {row.id}")
    one, other = (_open(directory, row, name) for name in names)
    try:
        found = list(differences(one, other))
    except BrokenCheckpoint as error:
        raise Stop(Exit.FAILED, str(error)) from error
    if found:
        streams.show_table(difference_table(found, one=names[0], other=names[1]))
    else:
        streams.say("no difference")


def _prune(row: JobRow, directory: JobDir, keep: int) -> None:
    from jobs.spec import JobSpec
    from jobs.states import LIVE

    if row.state in LIVE:
        raise Stop(
            Exit.FAILED,
            f"{row.name} is {row.state}: its attempt prunes its own checkpoints",
            fix="wait until it is over, or set save.keep in the matrix",
        )
    spec = JobSpec.model_validate_json(directory.spec.read_bytes())
    every_steps = spec.run.save.keep_every_steps
    gone = _store(directory, row).prune(keep, every_steps=every_steps)
    streams.say(f"deleted {len(gone)}: {', '.join(gone)}" if gone else "nothing may go")


def _export(
    directory: JobDir, name: str | None, to: Path | None, weights: Weights, *, merge: bool
) -> None:
    """Run the export where torch lives."""
    import os
    import subprocess
    import sys

    if to is None:
        raise Stop(Exit.USAGE, "where to?", fix="--to DIR, a directory that does not exist yet")
    command = [sys.executable, "-P", "-W", "ignore", "-m", "worker.export"]
    command += ["--job", str(directory.path)]
    command += ["--to", str(to.absolute()), "--weights", weights.value]
    command += ["--checkpoint", name] if name else []
    command += ["--merge"] if merge else []
    environment = {"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu", **os.environ}
    done = subprocess.run(
        command, check=False, env=environment, stdout=subprocess.PIPE, text=True, errors="replace"
    )
    if done.returncode:
        raise typer.Exit(int(Exit.FAILED))
    streams.show(done.stdout.splitlines()[-1])
