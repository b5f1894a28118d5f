"""Where an attempt finds its task and its model: by the rule of the submission, and unchanged.

A job's id covers the digest of the local files that it was submitted with. Files that were edited
since would give a result under the wrong id, so they are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs import sources
from jobs.model_weights import check_weights
from jobs.spec import ModelSpec, TaskSpec
from jobs.task_files import every_file, task_files
from worker.failures import Misconfigured


def files_of_task(
    task: TaskSpec, *, base_dir: str | None, data_root: str | None
) -> tuple[Path, dict[str, tuple[Path, ...]]]:
    """Return the task's directory and the files of each split. Raises `Misconfigured`."""
    try:
        directory = sources.find_task(
            task.path,
            base_dir=_path(base_dir),
            data_root=_path(data_root),
            revision=task.revision,
        )
        files = task_files(directory, task)
    except sources.SourceMissing as error:
        raise Misconfigured(f"task.path {task.path!r}: {error}; {error.fix}") from error
    every = every_file(files)
    if task.name == "plugin":  # only its code knows which files it reads
        every = [path for path in sorted(directory.iterdir()) if path.is_file()]
    _check_unchanged(f"task.path {task.path!r}", every, task.content_digest)
    return directory, files


def model_source(
    model: ModelSpec, *, base_dir: str | None, models_root: str | None
) -> Path | str | None:
    """Return the model's directory or hub id, None for `model.config`. Raises `Misconfigured`."""
    if model.path is None:
        return None
    found = _find_model("model.path", model.path, base_dir, models_root, model.revision)
    try:
        check_weights(found, revision=model.revision)
    except sources.SourceMissing as error:
        raise Misconfigured(f"model.path {model.path!r}: {error}; {error.fix}") from error
    if isinstance(found, Path):
        files = sources.model_files(found)
        _check_unchanged(f"model.path {model.path!r}", files, model.content_digest)
    return found


def tokenizer_source(
    model: ModelSpec, *, base_dir: str | None, models_root: str | None
) -> Path | str | None:
    """Return where the tokenizer is, None to train one. Raises `Misconfigured`."""
    path = model.tokenizer.path or model.path  # a model brings its own
    if path is None:
        return None
    key = "model.tokenizer.path" if model.tokenizer.path else "model.path"
    revision = None if model.tokenizer.path else model.revision
    found = _find_model(key, path, base_dir, models_root, revision)
    # The model's own tokenizer is that of the same revision.
    return found if isinstance(found, Path) else sources.hub_snapshot(found, revision) or found


def _find_model(
    key: str, path: str, base_dir: str | None, models_root: str | None, revision: str | None
) -> Path | str:
    try:
        return sources.find_model(
            path,
            base_dir=_path(base_dir),
            models_root=_path(models_root),
            revision=revision,
        )
    except sources.SourceMissing as error:
        raise Misconfigured(f"{key} {path!r}: {error}; {error.fix}") from error


def _check_unchanged(what: str, files: Sequence[Path], submitted: str | None) -> None:
    if submitted is not None and sources.content_digest(files) != submitted:
        raise Misconfigured(
            f"{what}: the files have changed since the job was submitted; submit the matrix again"
            " (the changed data make a new job), or put the old files back"
        )


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None
