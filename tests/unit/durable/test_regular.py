"""A file that a job left is read without following, waiting or swallowing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from durable.regular import read_regular
from jobs.contract.records import BadRecord, ProgressRecord, read_record
from orchestrator.heartbeat import read_heartbeat


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    """A file of any size costs what it was allowed to."""
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")

    assert read_regular(path, limit=100) == b"0123456789"
    assert read_regular(path, limit=4) == b"0123"


@pytest.mark.parametrize("kind", ["pipe", "link", "device", "directory"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """One job that makes its heartbeat a pipe must not stop the watcher of all the others."""
    path = tmp_path / "progress.json"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "link":
            (tmp_path / "secret").write_text("{}")
            path.symlink_to(tmp_path / "secret")
        case "device":
            path.symlink_to("/dev/zero")
        case "directory":
            path.mkdir()

    with pytest.raises(OSError) as refused:
        read_regular(path, limit=10)
    assert refused.value.errno in (errno.EINVAL, errno.ELOOP, errno.EISDIR)
    with pytest.raises(BadRecord, match=r"progress\.json"):
        read_record(path, ProgressRecord)
    assert read_heartbeat(path) is None
