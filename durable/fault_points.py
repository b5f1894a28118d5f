"""The fault points of this package: where a crash would matter, and what it would mean."""

from __future__ import annotations

FAULT_POINTS: dict[str, str] = {
    "files.before_fsync": "a new file is written, not yet fsynced (errno=EIO: the fsync fails)",
    "files.before_fsync_dir": "a directory's entries are visible, not yet durable",
    "publish.before_write": "nothing of the new content exists",
    "publish.after_write": "the temporary file is whole and fsynced, the name is still old",
    "publish.before_rename": "as after_write, immediately before the rename",
    "publish.after_rename": "the new content is visible, the directory is not fsynced",
    "publish_volatile.before_rename": "a heartbeat is written, its name is still old",
    "publish_new.before_link": "the temporary file is whole, the name does not exist",
    "publish_new.after_link": "the name exists, the temporary one too, nothing is fsynced",
    "publish_all.before_sync": "all contents are written under temporary names, none is durable",
    "publish_all.after_sync": "all contents are durable, no name exists",
    "publish_all.linked": "one more name exists, whole, not yet durable",
    "files.before_syncfs": "a filesystem is about to be synced (errno=EIO: that fails)",
    "publish_dir.before_rename": "the staged directory is durable under its staging name",
    "publish_dir.after_rename": "the directory has its final name, the parent is not fsynced",
    "lock.after_flock": "the lock is held, its holder record is still the previous one",
    "lock.before_release": "the lock is about to be given back",
}
