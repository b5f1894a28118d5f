"""Files that are there whole, or not at all, after a crash or a power cut.

The rules: write under a temporary name, fsync, rename, fsync the directory. An fsync that
failed is never repeated on the same file: the kernel may have dropped the pages, and the second
call would lie. The caller starts again with a new file.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from durable import faults
from durable.syncing import FilesystemSync

_FILE_MODE = 0o600
_DIR_MODE = 0o700
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FEW_FILES = 32  # up to here fsyncs are cheaper than writing back all that a filesystem has
WRITERS = 16
TEMPORARY_SUFFIX = ".orch-tmp"  # leftovers of a crash; readers of a directory skip these


class AlreadyThere(FileExistsError):
    """A directory would have replaced an existing entry; nothing was done."""


def publish_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the file at `path` by `data`, atomically.

    `durable=False` omits both fsyncs: for heartbeats, where an old one does no harm. Raises
    OSError; then `path` is what it was before, or is whole and new if only the last fsync failed.
    """
    if durable:
        temporary = _write_temporary(path, data)
        try:
            faults.hit("publish.before_rename")
            temporary.replace(path)
        except BaseException:
            _discard(temporary)
            raise
        faults.hit("publish.after_rename")
        fsync_dir(path.parent)
        return
    temporary = _temporary(path)
    try:
        _write_new(temporary, [data], sync=False)
        faults.hit("publish_volatile.before_rename")
        temporary.replace(path)
    except BaseException:
        _discard(temporary)
        raise


def publish_new(path: Path, data: bytes) -> bool:
    """Publish `data` under a name that must not exist; False if it does. Never overwrites.

    Durable when it returns True. Raises OSError, also where the filesystem has no hard links.
    """
    temporary = _write_temporary(path, data)
    try:
        faults.hit("publish_new.before_link")
        published = _link(temporary, path)
        faults.hit("publish_new.after_link")
    finally:
        _discard(temporary)
    # Also after "exists already": the caller may act on it, so its entry must survive too.
    fsync_dir(path.parent)
    return published


def publish_staged(staged: Path, final: Path, *, new: bool = False) -> bool:
    """Give a file that `write_durable` wrote its final name, atomically and durably.

    It replaces what has that name; `new`: never, then False says that the name exists. Raises
    FileNotFoundError when `staged` was taken away meanwhile; OSError.
    """
    if new:
        published = _link(staged, final)
    else:
        published, identity = True, _inode(staged)
        try:
            staged.replace(final)
        except OSError:
            # On NFS a repeated request may report an error although the first one was done.
            if identity is None or _inode(final) != identity:
                raise
    fsync_dir(final.parent)
    return published


def publish_all_new(root: Path, files: Mapping[Path, bytes]) -> frozenset[Path]:
    """Publish many files below `root`; a name that exists already stays as it is.

    Return those that were published here. When it returns, all names and contents are durable, also
    those that a killed predecessor left behind. As with `publish_new` no name ever leads to a part
    of its content, not even after a power cut: every content is durable before the first name
    appears. Missing parents are created with mode 0700. One sync of the filesystem before and one
    after the names replace the fsyncs where they may (`durable.syncing`). Raises OSError; then some
    names may exist, whole.
    """
    whole = FilesystemSync.open(root) if len(files) >= FEW_FILES else None
    if whole is None:
        # Side by side: the filesystem's journal takes the fsyncs of several threads in one go.
        with ThreadPoolExecutor(max_workers=WRITERS) as pool:
            published = list(pool.map(lambda item: _publish_in(*item), files.items()))
        return frozenset(path for path, new in zip(files, published, strict=True) if new)
    try:
        return _publish_at_once(whole, root, files)
    finally:
        whole.close()


def _publish_at_once(
    whole: FilesystemSync, root: Path, files: Mapping[Path, bytes]
) -> frozenset[Path]:
    staged: dict[Path, Path] = {}
    published: list[Path] = []
    try:
        for path, data in files.items():
            if not _is_fresh(path.parent, root):
                if path.exists():
                    continue
                if path.parent.stat().st_dev != whole.device:  # another filesystem is mounted there
                    published += [path] if publish_new(path, data) else []
                    continue
            staged[path] = temporary = _temporary(path)
            _write_new(temporary, [data], sync=False)
        faults.hit("publish_all.before_sync")
        if staged:
            whole.sync()
        faults.hit("publish_all.after_sync")
        for path, temporary in staged.items():
            published += [path] if _link(temporary, path) else []
            temporary.unlink()
            faults.hit("publish_all.linked")
    except BaseException:
        for temporary in staged.values():
            _discard(temporary)
        raise
    whole.sync()  # the names, also those that were there
    return frozenset(published)


def _is_fresh(directory: Path, root: Path) -> bool:
    """Create a directory; return whether it is new and surely on the filesystem of `root`."""
    try:
        directory.mkdir(mode=_DIR_MODE)
    except FileExistsError:
        return False
    except FileNotFoundError:
        directory.mkdir(mode=_DIR_MODE, parents=True, exist_ok=True)
        return False
    return directory.parent == root


def _publish_in(path: Path, data: bytes) -> bool:
    private_dir(path.parent)
    if not path.exists():
        return publish_new(path, data)
    fsync_dir(path.parent)
    return False


def publish_dir(
    staged: Path, final: Path, *, before_rename: Callable[[], None] | None = None
) -> None:
    """Give a staged directory, whose files are already fsynced, its final name.

    Every directory below `staged` is fsynced, then `before_rename` is called (a fence that may
    raise), then the whole is renamed, then the parent is fsynced. Raises `AlreadyThere` if `final`
    exists, OSError otherwise; `staged` then remains, except when only the last fsync failed.
    """
    for directory, _, _ in os.walk(staged, topdown=False):
        fsync_dir(Path(directory))
    if os.path.lexists(final):  # rename() would silently replace an *empty* directory
        raise AlreadyThere(f"{final} exists already; a published directory is never replaced")
    identity = _inode(staged)
    if before_rename is not None:
        before_rename()
    faults.hit("publish_dir.before_rename")
    try:
        staged.rename(final)
    except OSError:
        # On NFS a repeated request may report an error although the first one was done.
        if identity is None or _inode(final) != identity:
            raise
    faults.hit("publish_dir.after_rename")
    fsync_dir(final.parent)


def write_durable(path: Path, *parts: bytes | memoryview) -> None:
    """Create a file of these parts that must not exist; fsync it. The parent is not fsynced.

    Raises OSError; what is at `path` then must be thrown away, never written again.
    """
    _write_new(path, parts, sync=True)


def stream_durable(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Do what `write_durable` does with parts that come one by one."""
    _write_new(path, parts, sync=True)


def append_durable(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Append `data` in one write; the file is created when missing. Raises OSError.

    A crash may leave a part of the last `data`: readers ignore a tail without its newline.
    """
    created = not path.exists()
    descriptor = os.open(
        path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE
    )
    try:
        _write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if created and durable:
        fsync_dir(path.parent)


def fsync_dir(path: Path) -> None:
    """Make the entries of a directory (creations, renames) durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        faults.hit("files.before_fsync_dir")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_above(directory: Path) -> None:
    """Make the names that lead to an existing directory durable, as far up as they may be ours.

    `private_dir` syncs what it creates. Who was killed in between left a name behind that everybody
    sees and a power cut may still take away, with all that was made durable below it since.
    Raises OSError.
    """
    if directory.is_symlink():
        fsync_dir(directory.parent)
    directory = directory.resolve()
    status = directory.stat()
    for above in directory.parents:
        found = above.stat()
        if found.st_dev != status.st_dev:
            return  # a mount point: its name is of another making
        with suppress(PermissionError):  # a directory that we cannot read is not ours to create in
            fsync_dir(above)
        if found.st_uid != os.geteuid():
            return


def private_dir(path: Path) -> Path:
    """Create a directory and its missing parents with mode 0700, durably; return it.

    What exists already keeps its mode. Raises OSError, `NotADirectoryError` for a file.
    """
    if path.is_dir():
        return path
    if path.parent != path:
        private_dir(path.parent)
    try:
        path.mkdir(mode=_DIR_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(f"{path} is in the way: it is not a directory") from None
        return path  # somebody was quicker
    fsync_dir(path.parent)
    return path


def _discard(temporary: Path) -> None:
    with suppress(OSError):  # a leftover is harmless; the error or the answer on its way is not
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def _write_temporary(path: Path, data: bytes) -> Path:
    temporary = _temporary(path)
    try:
        faults.hit("publish.before_write")
        _write_new(temporary, [data], sync=True)
        faults.hit("publish.after_write")
    except BaseException:
        _discard(temporary)
        raise
    return temporary


def _write_new(path: Path, parts: Iterable[bytes | memoryview], *, sync: bool) -> None:
    descriptor = os.open(path, _NEW, _FILE_MODE)
    try:
        for part in parts:
            _write_all(descriptor, part)
        if sync:
            faults.hit("files.before_fsync")
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data).cast("B")
    while rest:  # a single write() stops at 2 GiB, and may be short on a full disk
        rest = rest[os.write(descriptor, rest) :]


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        # On NFS a repeated request meets the link that the first one made: ours if it counts two.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if temporary.stat().st_nlink == 2:
            return True
        raise OSError(
            error.errno,
            f"{error.strerror}; {path.parent} must be on a filesystem with hard links, which are"
            " how a record is published once and never overwritten",
            str(path),
        ) from error
    return True


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.lstat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
