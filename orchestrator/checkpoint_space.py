"""How much room checkpoints will need, before there is one: for `orch submit` and `orch doctor`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jobs.checkpoint_size import checkpoint_bytes, model_shapes, peak_bytes, trained_elements
from jobs.contract.records import WorkerSite
from jobs.sources import SourceMissing, find_model, hub_snapshot
from jobs.spec import JobSpec, ModelSpec, Semantic

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSpace:
    """What the checkpoints of some jobs need, in bytes, and what there is."""

    jobs: int  # whose size could be told
    unknown: int
    largest: int  # of one checkpoint
    total: int  # of all jobs at their peak
    free: int
    place: str  # a directory of the file system where they go

    @property
    def scarce(self) -> bool:
        """Whether not even all jobs' peaks would fit."""
        return self.total > self.free

    def words(self) -> str:
        """Return the line for people."""
        line = (
            f"checkpoints: at most {size_words(self.largest)} each, {size_words(self.total)} for"
            f" all of {self.jobs:,} jobs; {size_words(self.free)} are free at {self.place}"
        )
        return f"{line} ({self.unknown:,} jobs cannot be told)" if self.unknown else line


def predict(specs: Iterable[JobSpec], *, site: WorkerSite, home: Path) -> CheckpointSpace | None:
    """Return what the checkpoints of `specs` need; None where nothing can be told."""
    known = _KnownElements(site)
    sizes: list[tuple[int, int]] = []
    unknown = 0
    for spec in specs:
        if not isinstance(spec.semantic, Semantic):
            continue  # a command's files are its own
        elements = known.of(spec)
        if elements is None:
            unknown += 1
            continue
        each = checkpoint_bytes(spec.semantic, elements)
        sizes.append((each, peak_bytes(spec.semantic, spec.run, each)))
    if not sizes:
        return None
    place = _existing(Path(site.scratch_root) if site.scratch_root else home)
    return CheckpointSpace(
        jobs=len(sizes),
        unknown=unknown,
        largest=max(each for each, _ in sizes),
        total=sum(peak for _, peak in sizes),
        free=shutil.disk_usage(place).free,
        place=str(place),
    )


def size_words(count: float) -> str:
    """Return a number of bytes as roughly as it matters."""
    for unit in _UNITS[:-1]:
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} {_UNITS[-1]}"


class _KnownElements:
    """Trained elements by model and method: thousands of cells share a few of them."""

    def __init__(self, site: WorkerSite) -> None:
        self._site = site
        self._known: dict[tuple[str, str, str | None], int | None] = {}

    def of(self, spec: JobSpec) -> int | None:
        semantic = spec.semantic
        assert isinstance(semantic, Semantic)
        model, method = semantic.model.model_dump_json(), semantic.method.model_dump_json()
        key = (model, method, spec.run.base_dir)
        if key not in self._known:
            shapes = model_shapes(semantic, self._directory(semantic.model, spec.run.base_dir))
            self._known[key] = None if shapes is None else trained_elements(semantic, shapes)
        return self._known[key]

    def _directory(self, model: ModelSpec, base_dir: str | None) -> Path | None:
        if model.path is None:
            return None
        root = self._site.models_root
        try:
            found = find_model(
                model.path,
                base_dir=Path(base_dir) if base_dir else None,
                models_root=Path(root) if root else None,
                revision=model.revision,
            )
        except (SourceMissing, OSError):
            return None
        return found if isinstance(found, Path) else hub_snapshot(found, model.revision)


def _existing(path: Path) -> Path:
    """Return `path`, or its nearest parent that is there."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path
