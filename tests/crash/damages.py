"""Ways in which a checkpoint on disk can come to be wrong, each drawn from a seed."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkpoints.manifest import MANIFEST, digest_of
from jobs.spec import canonical_json

OLDEST, OLDER, NEWEST = (f"step-000000{step}.e0001" for step in (10, 20, 30))
ELSEWHERE = "step-00000015.e0001"  # of another job, to be swapped in
RANKS = 2


class NoDamage(Exception):
    """This draw changed nothing (a page that was zero already): draw again."""


@dataclass(kw_only=True)
class Scene:
    """One copy of the store, and what was done to it."""

    root: Path
    source: random.Random
    checkpoint: str
    files: set[str] = field(default_factory=set)  # damaged, as a record may name them
    offset: int | None = None  # of the first byte that is wrong, where contents are
    of_kind: str = "tree"
    tensors: bytes | None = None  # the damaged tensor file

    @property
    def place(self) -> Path:
        """The victim's directory."""
        return self.root / self.checkpoint

    def any_file(self, *, manifest: bool = True) -> Path:
        """Choose a file of it."""
        found = sorted(path for path in self.place.rglob("*") if path.is_file())
        found = [path for path in found if manifest or path.name != MANIFEST]
        return self.chosen(self.source.choice(found))

    def chosen(self, path: Path) -> Path:
        """Remember that this file is damaged."""
        self.files.add(str(path.relative_to(self.place)))
        self.of_kind = path.name
        return path

    def overwrite(self, path: Path, data: bytes) -> None:
        """Give a file other contents. Raises `NoDamage` if they are the same."""
        before = path.read_bytes()
        if before == data:
            raise NoDamage
        pairs = enumerate(zip(before, data, strict=False))
        self.offset = next((i for i, (a, b) in pairs if a != b), None)
        path.unlink()  # the copies of a scene share their files
        path.write_bytes(data)
        if path.suffix == ".safetensors":
            self.tensors = data


def flip_bit(scene: Scene) -> None:
    """One bit."""
    path = scene.any_file()
    data = bytearray(path.read_bytes())
    bit = scene.source.randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    scene.overwrite(path, bytes(data))


def zero_page(scene: Scene) -> None:
    """A page that never reached the disk."""
    path = scene.any_file()
    data = bytearray(path.read_bytes())
    start = scene.source.randrange(0, len(data), 4096)
    end = min(start + 4096, len(data))
    data[start:end] = bytes(end - start)
    scene.overwrite(path, bytes(data))


def zero_hole(scene: Scene) -> None:
    """A 64 KiB hole, or what the file has of it."""
    path = scene.any_file()
    data = bytearray(path.read_bytes())
    start = scene.source.randrange(len(data))
    end = min(start + 65536, len(data))
    data[start:end] = bytes(end - start)
    scene.overwrite(path, bytes(data))


def truncate(scene: Scene) -> None:
    """The end is missing."""
    path = scene.any_file()
    data = path.read_bytes()
    scene.overwrite(
        path, data[: scene.source.choice([0, len(data) - 1, scene.source.randrange(len(data))])]
    )


def append(scene: Scene) -> None:
    """Bytes after the end."""
    path = scene.any_file()
    scene.overwrite(
        path, path.read_bytes() + scene.source.randbytes(scene.source.choice([1, 4096]))
    )


def swap_ranks(scene: Scene) -> None:
    """A file of another rank."""
    path = scene.any_file(manifest=False)
    other = scene.place / f"rank-0000{1 - int(path.parent.name[5:])}" / path.name
    if not other.exists():
        raise NoDamage
    mine, theirs = path.read_bytes(), other.read_bytes()
    scene.chosen(other)
    scene.overwrite(other, mine)
    scene.overwrite(path, theirs)


def swap_steps(scene: Scene) -> None:
    """A file of another checkpoint of this job, the manifest as well."""
    path = scene.any_file()
    other = scene.root / OLDEST / path.relative_to(scene.place)
    if not other.exists():
        raise NoDamage
    scene.overwrite(path, other.read_bytes())


def swap_jobs(scene: Scene) -> None:
    """The manifest of another job's checkpoint, or all of it under this name."""
    foreign = scene.root.parent / "foreign" / "checkpoints" / ELSEWHERE
    scene.chosen(scene.place / MANIFEST)
    if scene.source.random() < 0.5:
        scene.overwrite(scene.place / MANIFEST, (foreign / MANIFEST).read_bytes())
        return
    shutil.rmtree(scene.place)
    shutil.copytree(foreign, scene.place)


def lose_file(scene: Scene) -> None:
    """A file is gone."""
    scene.any_file().unlink()


def lose_rank(scene: Scene) -> None:
    """All that a rank saved is gone."""
    directory = scene.place / f"rank-0000{scene.source.randrange(RANKS)}"
    for path in directory.iterdir():
        scene.chosen(path)
    scene.of_kind = "rank directory"
    shutil.rmtree(directory)


def extra_file(scene: Scene) -> None:
    """A file that nobody lists: by its name, somebody might load it."""
    name = scene.source.choice(["best.safetensors.orch-tmp", "pytorch_model.bin", "rng.pkl", "x"])
    directory = scene.source.choice([scene.place, scene.place / "rank-00001"])
    scene.chosen(directory / name).write_bytes(scene.source.randbytes(8))
    scene.of_kind = "extra"


def special_file(scene: Scene) -> None:
    """A directory, a pipe, or a second rank's directory too many."""
    path = scene.chosen(scene.place / scene.source.choice(["rank-00002", "rank-00000/more"]))
    scene.source.choice([path.mkdir, lambda: os.mkfifo(path)])()
    scene.of_kind = "special"


def link(scene: Scene) -> None:
    """A symbolic link to the very same bytes."""
    path = scene.any_file()
    away = scene.root.parent / f"away-{scene.source.randrange(1 << 30)}"
    path.rename(away)
    path.symlink_to(away)


def link_directory(scene: Scene) -> None:
    """A rank's directory, or the whole, is a link."""
    path = scene.source.choice([scene.place, scene.place / "rank-00001"])
    away = scene.root.parent / f"away-{scene.source.randrange(1 << 30)}"
    path.rename(away)
    path.symlink_to(away)
    scene.files.add("" if path == scene.place else "rank-00001")
    scene.of_kind = "directory"


def edit_manifest(scene: Scene) -> None:
    """A field has another value, and the manifest's own digest was made right again."""
    path = scene.chosen(scene.place / MANIFEST)
    body = json.loads(path.read_bytes())
    del body["manifest_digest"]
    edits: list[Callable[[], Any]] = [
        lambda: body.update(step=body["step"] + 1),
        lambda: body.update(epoch=body["epoch"] + 1),
        lambda: body.update(world_size=body["world_size"] + scene.source.choice([-1, 1])),
        lambda: body.update(job="f" * 16),
        lambda: body.update(spec_digest="f" * 64),
        lambda: body.update(format="other"),
        lambda: body.update(version=0),
        lambda: body.pop(scene.source.choice(["job", "files", "step", "position", "kind"])),
        lambda: body["files"].pop(scene.source.randrange(len(body["files"]))),
        lambda: _entry(scene, body).update(digest="sha256:" + "0" * 64),
        lambda: _entry(scene, body).update(bytes=3),
        lambda: _entry(scene, body).update(path="rank-00000/../../x"),
        lambda: _entry(scene, body).update(path="/etc/passwd"),
        lambda: body["files"].append(dict(body["files"][0])),
    ]
    scene.source.choice(edits)()
    # What is missing or too much is named as such; a wrong digest as the file's.
    scene.files |= {str(p.relative_to(scene.place)) for p in scene.place.rglob("*") if p.is_file()}
    sealed = {**body, "manifest_digest": digest_of(canonical_json(body))}
    scene.overwrite(path, canonical_json(sealed) + b"\n")
    scene.offset = None


def _entry(scene: Scene, body: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = scene.source.choice(body["files"])
    return entry


KINDS: tuple[Callable[[Scene], None], ...] = (
    flip_bit,
    flip_bit,
    flip_bit,
    zero_page,
    zero_hole,
    truncate,
    append,
    swap_ranks,
    swap_steps,
    swap_jobs,
    lose_file,
    lose_rank,
    extra_file,
    special_file,
    link,
    link_directory,
    edit_manifest,
)
