"""The fault points of this package; those of `durable` are passed on the way as well."""

from __future__ import annotations

FAULT_POINTS: dict[str, str] = {
    "stage.before_mkdir": "nothing of this rank's shard exists",
    "stage.after_mkdir": "the rank's staging directory exists, without files",
    "stage.before_write": "the next file of the shard does not exist",
    "stage.after_write": "a file of the shard is written and fsynced",
    "stage.before_finish": "all files of the shard are fsynced, their directory is not",
    "commit.before_manifest": "all ranks have finished, there is no manifest",
    "commit.after_manifest": "the staged checkpoint is whole and has its manifest",
    "commit.before_fence": "all is durable; it is not yet asked whether a higher epoch exists",
    "commit.before_rename": "no higher epoch existed a moment ago",
    "commit.after_rename": "the checkpoint is committed",
    "verify.before_contents": "manifest, tree and sizes are right, no content is compared yet",
    "verify.before_file": "the next file is open, to be compared (errno=EIO: it cannot be read)",
    "verify.before_use": "a verified file is about to be read by the rank that needs it",
    "prune.before_rename": "a superseded checkpoint still has its name",
    "prune.after_rename": "it is in the trash, whole",
    "prune.mid_delete": "it is in the trash, without its manifest",
    "prune.after_delete": "it is gone",
    "quarantine.after_reason": "the reason is written, the bad checkpoint still has its name",
    "quarantine.after_rename": "the bad checkpoint is in quarantine, not yet durably",
    "sweep.before_remove": "a staging directory of an older epoch is about to go",
}
