"""Fetching models and data of a hub into the site's cache, once for all; jobs run offline.

The hub's own client downloads and resumes. What it lacks is added here: a snapshot that an
interrupted download left with a part of its files never looks whole, a name such as `main` stands
for a commit only when that commit is there, and two submissions do not fetch the same twice.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from durable.faults import hit
from durable.files import fsync_dir, private_dir, publish_file
from durable.locks import Locked, SingleHolderLock
from jobs.errors import HubRepo
from jobs.names import printable, safe_join
from jobs.sources import fetching_mark, hub_cache, hub_dir, hub_snapshot

OFFLINE = "HF_HUB_OFFLINE"
_WAIT_SECONDS = 0.2
_TRUE = frozenset({"1", "on", "yes", "true"})
# Workers load safetensors alone: other formats of the same weights are so many bytes for nothing.
_IGNORED = ("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.ot", "*.gguf", "*.tflite")
# What tasks are made of; a hub keeps the same examples in formats of its own as well.
_DATA = ("*.tsv", "*.jsonl", "*.json", "*.txt")


class NotFetched(Exception):
    """A model or a data set could not be fetched; `fix` says what to do."""

    def __init__(self, message: str, fix: str) -> None:
        self.fix = fix
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A model or a data set that is in the cache. `downloaded` False: it was there."""

    source: HubRepo
    commit: str
    directory: Path
    downloaded: bool


def is_offline() -> bool:
    """Return whether the user has forbidden the hub's client to use the network."""
    return os.environ.get(OFFLINE, "").lower() in _TRUE


def fetch(source: HubRepo, *, say: Callable[[str], None] = lambda line: None) -> Fetched:
    """Return its snapshot, downloaded where it is missing. Raises `NotFetched`.

    One process at a time fetches a repository; `say` tells people whom this one waits for.
    """
    try:
        lock = SingleHolderLock(
            private_dir(hub_cache()) / _lock_name(source), about={"command": "orch fetch"}
        )
        _acquire(lock, say)
    except OSError as error:
        raise NotFetched(
            f"the hub's cache cannot be written: {error}", "set scratch_root, or HF_HUB_CACHE"
        ) from error
    try:
        there = hub_snapshot(source.repo, source.revision, kind=source.kind)
        if there is not None:
            return Fetched(source=source, commit=there.name, directory=there, downloaded=False)
        return _download(source)
    finally:
        lock.release()


def _lock_name(source: HubRepo) -> str:
    return f".orch-{hub_dir(source.repo, source.kind).name}.lock"


def _acquire(lock: SingleHolderLock, say: Callable[[str], None]) -> None:
    told = False
    while True:
        try:
            lock.acquire()
        except Locked as error:
            if not told:
                say(f"waits: {error}")
            told = True
            time.sleep(_WAIT_SECONDS)
        else:
            return


def _download(source: HubRepo) -> Fetched:
    import huggingface_hub as client
    from huggingface_hub import errors
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        api = client.HfApi()
        ask = api.dataset_info if source.kind == "dataset" else api.model_info
        info = ask(source.repo, revision=source.revision)
        names = [entry.rfilename for entry in info.siblings or ()]
        commit = str(info.sha)
        directory = hub_dir(source.repo, source.kind)
        _check(source, commit, names)
        mark = fetching_mark(private_dir(directory), commit)
        publish_file(mark, b"")
        hit("hub.marked")
        found = Path(
            client.snapshot_download(
                source.repo,
                repo_type=source.kind,
                revision=commit,
                cache_dir=hub_cache(),
                allow_patterns=list(_DATA) if source.kind == "dataset" else None,
                ignore_patterns=list(_IGNORED),
            )
        )
        hit("hub.downloaded")
        _make_durable(found)
        _name(directory, source.revision or "main", commit)
        mark.unlink()
        fsync_dir(directory)
    except errors.GatedRepoError as error:
        raise NotFetched(
            f"the hub lets only those in who were accepted: {printable(source.repo)}",
            "ask for access on its page, then `hf auth login`",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NotFetched(
            f"the hub's {printable(source.repo)} has no revision"
            f" {printable(source.revision or '')}",
            "write a branch, a tag or a commit that it has",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotFetched(
            f"the hub {_endpoint()} has no {_noun(source)} {printable(source.repo)}, or not for"
            " you",
            "correct the name; where it is private: `hf auth login`",
        ) from error
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError, ValueError) as error:
        raise _silent(source, error) from error
    except Exception as error:
        if _is_of_transport(error):
            raise _silent(source, error) from error
        raise
    return Fetched(source=source, commit=commit, directory=found, downloaded=True)


def _noun(source: HubRepo) -> str:
    return "data set" if source.kind == "dataset" else "model"


def _check(source: HubRepo, commit: str, names: list[str]) -> None:
    """Refuse what no worker would load, before it is downloaded. Raises `NotFetched`."""
    if safe_join(Path("/snapshots"), commit) is None or "/" in commit:
        raise NotFetched(f"the hub answers with a commit {printable(commit)}", "ask its operators")
    if source.kind == "dataset":
        if not any(name.endswith((".tsv", ".jsonl", ".json")) for name in names):
            raise NotFetched(
                f"the hub's data set {printable(source.repo)} has neither tsv nor json files",
                "choose a revision that has them, or convert it and give a directory",
            )
    elif source.weights and not any(name.endswith(".safetensors") for name in names):
        raise NotFetched(
            f"the hub's {printable(source.repo)} has no safetensors weights",
            "choose a revision that has them, or convert it and give a directory",
        )


def _name(directory: Path, revision: str, commit: str) -> None:
    """Let a name stand for the commit, as the client does; only now that all is there."""
    reference = safe_join(directory / "refs", revision)
    if revision != commit and reference is not None:
        private_dir(reference.parent)
        publish_file(reference, commit.encode())


def _make_durable(snapshot: Path) -> None:
    for path in sorted(snapshot.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        elif path.is_dir():
            fsync_dir(path)
    fsync_dir(snapshot)


def _endpoint() -> str:
    from huggingface_hub import constants

    return printable(str(constants.ENDPOINT))


def _silent(source: HubRepo, error: BaseException) -> NotFetched:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return NotFetched(
        f"the hub {_endpoint()} cannot be used: {printable(lines[0], limit=300)}",
        "try again where there is network (what is downloaded already is kept), or put the"
        f" {_noun(source)} below {'data' if source.kind == 'dataset' else 'models'}_root of"
        " site.yaml",
    )


def _is_of_transport(error: Exception) -> bool:
    """Tell whether the client's HTTP library failed; which one that is depends on its version."""
    return any(kind.__module__.startswith(("httpx", "requests")) for kind in type(error).__mro__)
