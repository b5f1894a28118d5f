"""How much room checkpoints will need, before there is one: for `orch submit` and `orch doctor`."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.checkpoint_size import checkpoint_bytes, model_shapes, peak_bytes, trained_elements
from jobs.contract.records import WorkerSite
from jobs.host_memory import HostMemory, host_memory
from jobs.sources import SourceMissing, find_model, hub_snapshot
from jobs.spec import JobSpec, ModelSpec, Semantic

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024.0
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSpace:
    """What the checkpoints of some jobs need, in bytes, and what there is."""

    jobs: int  # whose size could be told
    unknown: int
    largest: int  # of one checkpoint
    total: int  # of all jobs at their peak
    free: int
    place: str  # a directory of the file system where they go
    memory: int = 0  # of the host: the least that the hungriest job needs
    memory_of_saves: int = 0  # of it
    short_of_memory: int = 0  # jobs whose resources.memory_gb is less than they need

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
        if self.memory:
            line += (
                f"; memory of the host: at least {size_words(self.memory)} a job,"
                f" {size_words(self.memory_of_saves)} of it for saves"
            )
        return f"{line} ({self.unknown:,} jobs cannot be told)" if self.unknown else line

    def memory_warning(self) -> str | None:
        """Return what to do where jobs ask for less memory than they are sure to need."""
        if not self.short_of_memory:
            return None
        gigabytes = math.ceil(self.memory / GIB)
        return (
            f"resources.memory_gb is too little for {self.short_of_memory:,} of {self.jobs:,} jobs:"
            f" at least {size_words(self.memory)} are needed, of which the copies that are saved"
            f" take {size_words(self.memory_of_saves)}; ask for {gigabytes} and more"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one job will need, in bytes."""

    spec: JobSpec
    each: int  # one checkpoint
    peak: int  # all of its checkpoints
    memory: HostMemory


def predict(specs: Iterable[JobSpec], *, site: WorkerSite, home: Path) -> CheckpointSpace | None:
    """Return what the checkpoints of `specs` need; None where nothing can be told."""
    predicted = list(predictions(specs, site=site))
    found = [one for one in predicted if one is not None]
    if not found:
        return None
    hungriest = max((one.memory for one in found), key=lambda memory: memory.total)
    place = _existing(Path(site.scratch_root) if site.scratch_root else home)
    return CheckpointSpace(
        jobs=len(found),
        unknown=len(predicted) - len(found),
        largest=max(one.each for one in found),
        total=sum(one.peak for one in found),
        free=shutil.disk_usage(place).free,
        place=str(place),
        memory=hungriest.total,
        memory_of_saves=hungriest.saves,
        short_of_memory=sum(
            one.memory.total > one.spec.run.resources.memory_gb * GIB for one in found
        ),
    )


def predictions(specs: Iterable[JobSpec], *, site: WorkerSite) -> Iterator[Prediction | None]:
    """Yield what each training will need; None where that cannot be told."""
    known = _KnownElements(site)
    for spec in specs:
        if not isinstance(spec.semantic, Semantic):
            continue  # a command's files are its own
        counted = known.of(spec)
        if counted is None:
            yield None
            continue
        parameters, trained = counted
        each = checkpoint_bytes(spec.semantic, trained)
        yield Prediction(
            spec=spec,
            each=each,
            peak=peak_bytes(spec.semantic, spec.run, each),
            memory=host_memory(spec.semantic, spec.run, parameters=parameters, trained=trained),
        )


def size_words(count: float) -> str:
    """Return a number of bytes as roughly as it matters."""
    for unit in _UNITS[:-1]:
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} {_UNITS[-1]}"


class _KnownElements:
    """Elements of a model, and how many are trained: thousands of cells share a few of them."""

    def __init__(self, site: WorkerSite) -> None:
        self._site = site
        self._known: dict[tuple[str, str, str | None], tuple[int, int] | None] = {}

    def of(self, spec: JobSpec) -> tuple[int, int] | None:
        semantic = spec.semantic
        assert isinstance(semantic, Semantic)
        model, method = semantic.model.model_dump_json(), semantic.method.model_dump_json()
        key = (model, method, spec.run.base_dir)
        if key not in self._known:
            shapes = model_shapes(semantic, self._directory(semantic.model, spec.run.base_dir))
            trained = None if shapes is None else trained_elements(semantic, shapes)
            self._known[key] = None
            if shapes is not None and trained is not None:
                every = sum(math.prod(shape) for shape in shapes.values())
                self._known[key] = (every, trained)
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
