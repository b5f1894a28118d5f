"""Known bugs, put into the store on purpose: a check that cannot find them proves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkpoints import removal, simple, store
from checkpoints.retention import RetentionPlan, newest_first
from durable import faults, files


def no_fence() -> None:
    """An attempt commits whether or not a newer one holds the job."""
    simple.Checkpoints._fence = lambda self: None  # type: ignore[method-assign]


def commit_file_by_file() -> None:
    """The final directory is filled instead of renamed."""

    def publish_dir(staged: Path, final: Path, *, before_rename: Callable[[], None]) -> None:
        before_rename()
        final.mkdir()
        for entry in sorted(staged.iterdir()):
            entry.rename(final / entry.name)
            faults.hit("publish_dir.before_rename")
        faults.hit("publish_dir.after_rename")
        files.fsync_dir(final.parent)

    store.publish_dir = publish_dir  # type: ignore[assignment]


def delete_in_place() -> None:
    """A superseded checkpoint is emptied under its own name."""

    def remove(root: Path, victim: Path) -> None:
        faults.hit("prune.before_rename")
        for entry in sorted(victim.iterdir()):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            faults.hit("prune.after_rename")
        victim.rmdir()

    removal.remove = remove


def keep_one() -> None:
    """All but the newest go."""

    def plan(names: Any, **rules: Any) -> RetentionPlan:
        ordered = newest_first(names)
        return RetentionPlan(delete=tuple(ordered[1:]), keep=tuple(ordered[:1]))

    store.plan_retention = plan


def say_it_too_early() -> None:
    """A failed commit is reported as done."""
    real = store.CheckpointStore.commit

    def commit(self: Any, header: Any, entries: Any, *, fence: Any) -> Any:
        entries = list(entries)
        try:
            return real(self, header, entries, fence=fence)
        except OSError:
            return store.CommittedCheckpoint(
                name=header.name, path=self.root, digest="sha256:" + "0" * 64, manifest=header
            )

    store.CheckpointStore.commit = commit  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        no_fence,
        commit_file_by_file,
        delete_in_place,
        keep_one,
        say_it_too_early,
    )
}
