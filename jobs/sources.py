"""Where models and tasks lie: one rule for the check at submission and for the worker.

A name is looked up below the site's root (models_root, data_root), then beside the matrix file;
`package:NAME` is shipped; a hub id, or `hub:NAME` of a task, must be in the hub's cache already,
since nothing here or in an allocation downloads (`orchestrator.hub` does, on the login node,
before).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.catalog import SPLITS
from jobs.errors import HubRepo
from jobs.names import printable, safe_join

PACKAGE_PREFIX = "package:"
HUB_PREFIX = "hub:"
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_SHIPPED = Path(__file__).parent / "data"

_WHOLE_FILE = 64 << 20  # a larger file counts by its size, its first and its last MiB
_SAMPLE = 1 << 20
_MAX_FILES = 10_000
_SHOWN = 8


class SourceMissing(ValueError):
    """A model or a task is not where it is said to be; `fix` says what to write."""

    def __init__(self, message: str, fix: str, *, fetchable: HubRepo | None = None) -> None:
        self.fix = fix
        self.fetchable = fetchable
        super().__init__(message)


class SourceAbsent(SourceMissing):
    """Nothing is there at all: it may be on the machine where the matrix is submitted.

    `name`: of the file that is not in its directory.
    """

    def __init__(
        self, message: str, fix: str, *, name: str = "", fetchable: HubRepo | None = None
    ) -> None:
        self.name = name
        super().__init__(message, fix, fetchable=fetchable)


def shipped_tasks() -> list[str]:
    """Return the names that `package:NAME` may have."""
    return sorted(path.name for path in _SHIPPED.iterdir() if path.is_dir())


def find_task(
    path: str, *, base_dir: Path | None, data_root: Path | None, revision: str | None = None
) -> Path:
    """Return a task's directory; `revision`: of a hub's data set. Raises `SourceMissing`."""
    if path.startswith(HUB_PREFIX):
        return _find_hub_task(path.removeprefix(HUB_PREFIX), data_root, revision)
    if path.startswith(PACKAGE_PREFIX):
        name = path.removeprefix(PACKAGE_PREFIX)
        if _PACKAGE_NAME.fullmatch(name) and (_SHIPPED / name).is_dir():
            return _SHIPPED / name
        raise SourceMissing(
            f"no task {printable(name)} is shipped", f"shipped: {', '.join(shipped_tasks())}"
        )
    candidates = _candidates(path, data_root, base_dir)
    found = next((candidate for candidate in candidates if candidate.is_dir()), None)
    if found is not None:
        return found
    fix = "give a directory, relative to the matrix file or below data_root of site.yaml"
    raise SourceAbsent(_nowhere(path, candidates), fix)


def _find_hub_task(name: str, data_root: Path | None, revision: str | None) -> Path:
    """Return the directory of a hub's data set: the site's mirror of it, or the cache's."""
    shown = printable(name)
    parts = name.split("/")
    repo, below = "/".join(parts[:2]), "/".join(parts[2:])
    if not _HUB_ID.fullmatch(repo):
        raise SourceMissing(
            f"{shown} is no data set of a hub", "write hub:OWNER/NAME, or hub:OWNER/NAME/DIRECTORY"
        )
    mirror = next(iter(_candidates(name, data_root, None)), None)
    if mirror is not None and mirror.is_dir():
        return mirror
    snapshot = hub_snapshot(repo, revision, kind="dataset")
    if snapshot is None:
        what = (
            printable(repo) if revision is None else f"{printable(repo)} at {printable(revision)}"
        )
        raise SourceAbsent(
            f"the data set {what} is not in the hub's cache {hub_cache()}",
            "fetch it first (`orch fetch MATRIX.yaml`, where there is network), or put it below"
            " data_root of site.yaml",
            fetchable=HubRepo(repo=repo, revision=revision, kind="dataset"),
        )
    directory = safe_join(snapshot, below) if below else snapshot
    if directory is None or not directory.is_dir():
        there = sorted(path.name for path in snapshot.iterdir() if path.is_dir())
        names = ", ".join(map(printable, there[:_SHOWN])) or "none"
        raise SourceMissing(
            f"the data set {printable(repo)} has no directory {printable(below)}",
            f"it has at its top: {names}",
        )
    return directory


def task_commit(directory: Path) -> str | None:
    """Return the commit whose snapshot in the hub's cache has the directory, else None."""
    try:
        repo, folder, commit, *_ = directory.relative_to(hub_cache()).parts
    except ValueError:
        return None
    return commit if folder == "snapshots" and repo.startswith("datasets--") else None


def split_file(directory: Path, split: str, kind: str) -> Path:
    """Return the file of a split: `train.tsv`, or the one `*_train.tsv`. Raises `SourceMissing`."""
    exact = directory / f"{split}.{kind}"
    if exact.is_file():
        return exact
    found = sorted(directory.glob(f"*_{split}.{kind}"))
    if len(found) == 1 and found[0].is_file():
        return found[0]
    fix = f"a task needs {', '.join(f'{s}.{kind}' for s in SPLITS)}"
    if found:
        raise SourceMissing(f"{directory} has {len(found)} files *_{split}.{kind}", fix)
    raise SourceAbsent(f"{directory} has no {split}.{kind}", fix)


def find_model(
    path: str, *, base_dir: Path | None, models_root: Path | None, revision: str | None = None
) -> Path | str:
    """Return a model's directory, or an id that the hub's cache has. Raises `SourceMissing`.

    Attempts run offline, so the very revision must be there (none: the hub's `main`).
    """
    candidates = _candidates(path, models_root, base_dir)
    found = next((candidate for candidate in candidates if candidate.is_dir()), None)
    if found is not None:
        return found
    if not _HUB_ID.fullmatch(path):
        fix = "give a directory, relative to the matrix file or below models_root of site.yaml"
        raise SourceAbsent(_nowhere(path, candidates), fix)
    if hub_snapshot(path, revision) is not None:
        return path
    what = printable(path)
    if revision is not None:
        what = f"{what} at revision {printable(revision)}"
    raise SourceAbsent(
        f"{what} is neither a directory nor in the hub's cache {hub_cache()}",
        "fetch it first (`orch fetch MATRIX.yaml`, where there is network), or put it below"
        " models_root of site.yaml",
        fetchable=HubRepo(repo=path, revision=revision),
    )


def hub_snapshot(path: str, revision: str | None, *, kind: str = "model") -> Path | None:
    """Return the hub cache's directory of a repository at a revision, None when it is not there.

    A revision is a commit, or a name that stands for one; None: `main`.
    """
    cache = hub_dir(path, kind)
    commit = revision or "main"
    reference = safe_join(cache / "refs", commit)
    try:
        if reference is not None and reference.is_file():
            commit = reference.read_text(encoding="utf-8").strip()
        snapshot = safe_join(cache / "snapshots", commit) if commit else None
        # Not only the name: a download that broke off at once leaves an empty directory.
        whole = snapshot is not None and not fetching_mark(cache, commit).exists()
        if whole and snapshot is not None and snapshot.is_dir() and any(snapshot.iterdir()):
            return snapshot
    except (OSError, UnicodeDecodeError):
        return None
    return None


def hub_dir(path: str, kind: str = "model") -> Path:
    """Return the directory that the hub's client keeps a model or a dataset in."""
    return hub_cache() / f"{kind}s--{path.replace('/', '--')}"


def fetching_mark(directory: Path, commit: str) -> Path:
    """Return the file that exists while a snapshot may have a part of its files only."""
    return directory / f".orch-fetching-{commit}"


def find_input(path: str, *, base_dir: Path | None, data_root: Path | None) -> Path:
    """Return the file or directory that a command reads. Raises `SourceMissing`."""
    candidates = _candidates(path, data_root, base_dir)
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is not None:
        return found
    fix = "give a path beside the matrix file, below data_root of site.yaml, or absolute"
    raise SourceAbsent(_nowhere(path, candidates, what="file or directory"), fix)


def hub_cache() -> Path:
    """Return the hub client's cache directory, by the client's own rules."""
    if "HF_HUB_CACHE" in os.environ:
        return Path(os.environ["HF_HUB_CACHE"])
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HOME") or default) / "hub"


def content_digest(files: Sequence[Path]) -> str:
    """Return a digest of the names and bytes of files. Raises OSError.

    Of a file larger than 64 MiB: its size, its first and its last MiB (weights of many
    gigabytes are verified where they are loaded).
    """
    whole = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            if size <= _WHOLE_FILE:
                while block := stream.read(_SAMPLE):
                    digest.update(block)
            else:
                digest.update(stream.read(_SAMPLE))
                stream.seek(size - _SAMPLE)
                digest.update(stream.read(_SAMPLE))
        whole.update(f"{file.name}\0{size}\0{digest.hexdigest()}\n".encode())
    return "sha256:" + whole.hexdigest()


def model_files(directory: Path) -> list[Path]:
    """Return the files of a model's directory that can matter, sorted by name."""
    return sorted(_regular_files(directory))[:_MAX_FILES]


def _regular_files(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.is_file() and not path.name.startswith("."):
            yield path


def _candidates(path: str, root: Path | None, base_dir: Path | None) -> list[Path]:
    if Path(path).is_absolute():
        return [Path(path)]
    below_root = safe_join(root, path) if root is not None else None
    beside = base_dir / path if base_dir is not None else None
    return [candidate for candidate in (below_root, beside) if candidate is not None]


def _nowhere(path: str, candidates: Sequence[Path], *, what: str = "directory") -> str:
    if path.startswith("~"):
        return f"{printable(path)}: `~` is not expanded; write the whole path"
    looked = ", ".join(printable(str(candidate), limit=200) for candidate in candidates)
    return f"{printable(path)}: no such {what} (looked at {looked or 'nothing'})"
