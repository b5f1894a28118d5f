"""The user's own code: which files, their digest, and whether a snapshot still is what it was.

A snapshot is named by the digest of its files' paths, modes and bytes. It is taken at submission
(`orchestrator.snapshots` copies it into the state directory) and checked before each attempt, so
what runs is what was submitted, whatever was edited since. Nothing here imports that code.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jobs.names import UNSAFE_IN_NAME, printable
from jobs.spec import canonical_json

MAX_FILES = 2_000
MAX_BYTES = 64 << 20
# Beside every name that begins with a dot (.git, .venv, .env, .orch): made from code, or no code.
LEFT_OUT = frozenset({"__pycache__", "node_modules", "venv"})
LEFT_OUT_ENDINGS = (".pyc", ".pyo", ".egg-info", ".orch-tmp")
VENV_MARK = "pyvenv.cfg"
_BLOCK = 1 << 20


class CodeRefused(ValueError):
    """`command.code` names something that cannot be snapshotted; `fix` says what to write."""

    def __init__(self, message: str, fix: str) -> None:
        self.fix = fix
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFile:
    """One file of the user's code."""

    path: str  # in the snapshot: relative, `/` between names
    source: Path  # where it is read from
    executable: bool
    digest: str  # hex sha256 of its bytes
    bytes: int


def collect(base_dir: Path, names: Sequence[str]) -> tuple[CodeFile, ...]:
    """Return all files that `names` (relative to `base_dir`) mean, by path, each once.

    A directory is taken whole, without hidden names, caches and virtual environments; a hidden
    file is taken when it is named itself. Raises `CodeRefused`; OSError where one cannot be read.
    """
    found: dict[str, CodeFile] = {}
    size = 0
    for name in names:
        top = _checked(base_dir, name)
        for path, source in _files(base_dir, top):
            if path in found:
                continue
            if len(found) == MAX_FILES:
                raise CodeRefused(
                    f"{printable(name)}: more than {MAX_FILES:,} files",
                    "name only the code; data belong below `inputs`",
                )
            size += source.stat().st_size
            if size > MAX_BYTES:
                raise CodeRefused(
                    f"{printable(path)}: with it the code has more than {MAX_BYTES >> 20} MiB",
                    "name only the code; data belong below `inputs`",
                )
            found[path] = _read(path, source)
    return tuple(found[path] for path in sorted(found))


def code_digest(files: Sequence[CodeFile]) -> str:
    """Return the snapshot's name: `sha256:` and the hex digest of paths, modes and contents."""
    listed = [[file.path, file.executable, file.digest] for file in files]
    return "sha256:" + hashlib.sha256(canonical_json(listed)).hexdigest()


def snapshot_digest(directory: Path) -> str:
    """Return the digest of what lies in a snapshot's directory now. Raises OSError.

    A link or a special file, which no snapshot has, makes it another digest.
    """
    files = []
    for folder, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted([*names, *(d for d in directories if Path(folder, d).is_symlink())]):
            source = Path(folder, name)
            path = source.relative_to(directory).as_posix()
            if not stat.S_ISREG(source.lstat().st_mode):
                path += "\0"  # no file of the submission has such a path
                files.append(
                    CodeFile(path=path, source=source, executable=False, digest="", bytes=0)
                )
                continue
            files.append(_read(path, source))
    return code_digest(sorted(files, key=lambda file: file.path))


def tree_digest(path: Path) -> str:
    """Return the digest of an input: a file's, or of all files below a directory, links followed.

    Raises `CodeRefused` when there are too many files, OSError.
    """
    if path.is_file():
        return "sha256:" + _hash(path)
    whole, count = hashlib.sha256(), 0
    for folder, directories, names in os.walk(path, followlinks=False):
        directories.sort()
        for name in sorted(names):
            source = Path(folder, name)
            if not source.is_file():
                continue
            count += 1
            if count > 10 * MAX_FILES:
                fix = "name one of its files, or an archive"
                raise CodeRefused(f"{printable(str(path))}: more than {count - 1:,} files", fix)
            whole.update(f"{source.relative_to(path).as_posix()}\0{_hash(source)}\n".encode())
    return "sha256:" + whole.hexdigest()


def _checked(base_dir: Path, name: str) -> str:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or name.startswith("~"):
        raise CodeRefused(
            f"{printable(name)} is not below the matrix file's directory",
            "name files and directories beside the matrix file (put the matrix beside the code)",
        )
    if not pure.parts:
        raise CodeRefused(
            f"{printable(name)} is the whole directory, the matrix file too",
            "name the files and directories that the command needs: every edit of what is named"
            " makes new jobs",
        )
    path = base_dir / pure
    if not os.path.lexists(path):
        raise CodeRefused(
            f"{printable(name)}: no such file or directory in {base_dir}", "correct it"
        )
    return pure.as_posix()


def _files(base_dir: Path, top: str) -> Iterator[tuple[str, Path]]:
    start = base_dir / top
    if not start.is_dir() or start.is_symlink():
        yield top, _regular(base_dir, top)
        return
    for folder, directories, names in os.walk(start):
        kept = sorted(d for d in directories if _is_code(Path(folder, d)))
        for name in kept:
            if Path(folder, name).is_symlink():
                names.append(name)  # refused below, by name
        directories[:] = [d for d in kept if d not in names]
        for name in sorted(names):
            source = Path(folder, name)
            if _is_code(source):
                path = source.relative_to(base_dir).as_posix()
                yield path, _regular(base_dir, path)


def _is_code(path: Path) -> bool:
    name = path.name
    if name.startswith(".") or name in LEFT_OUT or name.endswith(LEFT_OUT_ENDINGS):
        return False
    return not (path / VENV_MARK).exists()


def _regular(base_dir: Path, path: str) -> Path:
    """Return the file to read. A link to a file below `base_dir` is that file; others refuse."""
    source = base_dir / path
    if UNSAFE_IN_NAME.search(path):
        raise CodeRefused(f"{printable(path)} has a control character in its name", "rename it")
    real = source.resolve()
    inside = real.is_relative_to(base_dir.resolve())
    if source.is_symlink() and not (inside and real.is_file()):
        raise CodeRefused(
            f"{printable(path)} is a link to {printable(str(real), limit=200)}",
            "only links to files beside the matrix are followed; name what is meant itself",
        )
    if not inside:
        raise CodeRefused(f"{printable(path)} leaves the matrix's directory by a link", "copy it")
    if not stat.S_ISREG(real.stat().st_mode):
        raise CodeRefused(f"{printable(path)} is no regular file", "remove it, or name others")
    return real


def _read(path: str, source: Path) -> CodeFile:
    status = source.stat()
    return CodeFile(
        path=path,
        source=source,
        executable=bool(status.st_mode & stat.S_IXUSR),
        digest=_hash(source),
        bytes=status.st_size,
    )


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
