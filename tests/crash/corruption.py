"""Thousands of seeded damages: each is found, named, put away, and the right one is used instead.

    python -m tests.crash.corruption [--cases N] [--seed S] [--blind]

A case damages the newest of three checkpoints, sometimes the one before it too, in one of the ways
of `KINDS`. The store must then give the newest that is not damaged, every byte as it was saved; the
damaged ones must lie in quarantine with a record that names a file that was damaged, and of wrong
contents the right MiB. Prints counts by kind of damage and of file, and beside them how many of the
damaged tensor files safetensors itself would have loaded. `--blind` leaves out the comparison of
contents: the check must then fail.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from checkpoints import reading
from checkpoints.blocks import BLOCK
from checkpoints.manifest import FileEntry, ManifestHeader
from checkpoints.store import CheckpointStore
from jobs.spec import canonical_json
from tests.crash.crash_sweep import workshop
from tests.crash.damages import KINDS, NEWEST, OLDER, OLDEST, RANKS, NoDamage, Scene
from tests.crash.invariants import quarantined
from tests.unit.checkpoints.fake_attempt import header, no_fence, open_store

Contents = dict[tuple[str, int], dict[str, bytes]]  # (checkpoint, rank) -> its files


def worker_files(source: random.Random, step: int, rank: int) -> dict[str, bytes]:
    """Return files of every kind that the worker saves; one of several MiB."""
    sizes = {"optimizer": 9000, "rng": 5000}
    if rank == 0:
        sizes |= {"model": 2 * BLOCK + 777 if step == 30 else 7000, "best": 6000}
    files = {}
    for name, size in sizes.items():
        head = json.dumps(
            {"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
        ).encode()
        files[f"{name}.safetensors"] = (
            len(head).to_bytes(8, "little") + head + source.randbytes(size)
        )
    numbers = [source.randrange(1 << 31) for _ in range(300)]
    files["state.json"] = canonical_json({"step": step, "rank": rank, "numbers": numbers})
    return files


def make(root: Path, *, steps: tuple[int, ...], seed: int, job: str | None = None) -> Contents:
    """Save checkpoints of these steps; return what was saved."""
    store = (
        open_store(root) if job is None else CheckpointStore(root, job=job, spec_digest="6" * 64)
    )
    contents: Contents = {}
    for step in steps:
        entries: list[FileEntry] = []
        about: ManifestHeader = header(step=step, epoch=1)
        for rank in range(RANKS):
            files = worker_files(random.Random(f"{seed} {step} {rank}"), step, rank)
            writer = store.stage(step=step, epoch=1, rank=rank)
            for name, data in files.items():
                writer.write(name, data)
            entries += writer.finish()
            contents[about.name, rank] = files
        store.commit(about, entries, fence=no_fence)
    return contents


def damaged_copy(
    template: Path, place: Path, kind: Callable[[Scene], None], seed: str
) -> list[Scene]:
    """Copy the store and damage it; return the damages, newest checkpoint first."""
    source = random.Random(seed)
    victims = [NEWEST, OLDER] if source.random() < 0.2 else [NEWEST]
    while True:
        shutil.copytree(template.parent, place, copy_function=os.link)
        scenes = [Scene(root=place / template.name, source=source, checkpoint=v) for v in victims]
        try:
            for scene in scenes:
                kind(scene)
        except NoDamage:
            shutil.rmtree(place)
            continue
        return scenes


def problems(scenes: list[Scene], contents: Contents) -> list[str]:
    """Load; return what is wrong with what came of it."""
    root = scenes[0].root
    reports: list[str] = []
    loaded = open_store(root).latest_verified(reports.append)
    right = OLDEST if len(scenes) == 2 else OLDER
    if loaded is None or loaded.name != right:
        return [f"{loaded and loaded.name} was given, right is {right}"]
    found = [
        f"other bytes than rank {rank} saved"
        for rank in range(RANKS)
        if loaded.read_rank(rank) != contents[right, rank]
    ]
    away = quarantined(root)
    if set(away) != {scene.checkpoint for scene in scenes}:
        return [*found, f"in quarantine: {sorted(away)}"]
    if len(reports) != len(scenes):
        found.append(f"reported: {reports}")
    for scene in scenes:
        record = json.loads((away[scene.checkpoint] / "QUARANTINE.json").read_bytes())
        if record["file"] not in scene.files or not record["reason"]:
            found.append(f"{record} names none of {sorted(scene.files)}")
        located = record["reason"] == "digest differs" and len(scene.files) == 1
        if (
            located
            and scene.offset is not None
            and record["offset"] != scene.offset // BLOCK * BLOCK
        ):
            found.append(f"{record} has not the MiB of {scene.offset}")
    return found


def loads_anyway(data: bytes) -> bool | None:
    """Return whether safetensors loads the file; None without safetensors."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError:
        return None
    try:
        load(data)
    except (SafetensorError, ValueError, KeyError):
        return False
    return True


def main() -> int:
    """Run the cases; print counts as JSON; return 1 if any damage was not handled right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true")
    options = parser.parse_args()
    if options.blind:
        reading._check_digest = lambda *arguments: None
    place = workshop()
    kinds, files, anyway = Counter[str](), Counter[str](), Counter[bool | None]()
    violations: list[str] = []
    try:
        template = place / "template" / "checkpoints"
        contents = make(template, steps=(10, 20, 30), seed=options.seed)
        make(place / "template" / "foreign" / "checkpoints", steps=(15,), seed=1, job="f" * 16)
        for number in range(options.cases):
            kind = KINDS[number % len(KINDS)]
            scenes = damaged_copy(template, place / "case", kind, f"{options.seed} {number}")
            kinds[kind.__name__] += 1
            for scene in scenes:
                files[scene.of_kind] += 1
                if scene.tensors is not None:
                    anyway[loads_anyway(scene.tensors)] += 1
            found = problems(scenes, contents)
            violations += [f"case {number}, {kind.__name__}: {problem}" for problem in found]
            shutil.rmtree(place / "case")
    finally:
        shutil.rmtree(place)
    print("\n".join(violations[:50]), file=sys.stderr)
    said = {
        "cases": options.cases,
        "by_damage": dict(kinds),
        "by_file": dict(files),
        "tensor_files_that_safetensors_loads": {"yes": anyway[True], "no": anyway[False]},
        "violations": len(violations),
    }
    print(json.dumps(said))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
