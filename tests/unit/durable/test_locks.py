"""One holder; free as soon as the holder is dead; never freed because someone guessed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from durable import locks
from durable.files import publish_file
from durable.locks import Locked, LockUnsupported, SingleHolderLock

_HOLD = """
import sys
from pathlib import Path
from durable.locks import Locked, SingleHolderLock
lock = SingleHolderLock(Path(sys.argv[1]), about={"command": "orch watch"})
try:
    lock.acquire()
except Locked as error:
    print("locked by", error.holder["pid"], flush=True)
    sys.exit(5)
print("held", flush=True)
sys.stdin.readline()
lock.release()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the lock lies."""
    return tmp_path / "writer.lock"


@contextmanager
def holding(path: Path, *, fault: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start a process that takes the lock, says what it got, and waits for a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)],
        env={**os.environ, "ORCH_FAULT": fault},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line of a child."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_holder_is_published_while_it_holds_and_gone_afterwards(path: Path) -> None:
    """Others read who holds the lock; a free lock has no holder."""
    lock = SingleHolderLock(path, about={"command": "orch watch", "epoch": 3})
    assert lock.holder() is None
    with lock:
        holder = lock.holder()
        assert holder is not None
        assert holder["pid"] == os.getpid()
        assert (holder["command"], holder["epoch"]) == ("orch watch", 3)
        assert {"host", "boot_id", "pid_start", "since"} <= holder.keys()
        assert json.loads((path.parent / "writer.lock.holder.json").read_text()) == holder
    assert lock.holder() is None
    assert [entry.name for entry in path.parent.iterdir()] == ["writer.lock"]


def test_a_second_object_of_this_process_is_refused(path: Path) -> None:
    """The lock is the file's, not the object's."""
    with SingleHolderLock(path, about={}):
        second = SingleHolderLock(path, about={})
        with pytest.raises(Locked) as caught:
            second.acquire()
    assert caught.value.holder is not None
    assert caught.value.holder["pid"] == os.getpid()
    with second:
        pass


def test_taking_it_twice_is_a_mistake(path: Path) -> None:
    """Nesting would make the inner release free the outer's lock."""
    with SingleHolderLock(path, about={}) as lock, pytest.raises(RuntimeError, match="already"):
        lock.acquire()


def test_another_process_is_refused_and_told_who_holds_it(path: Path) -> None:
    """The message names pid, host, command; the loser changes nothing."""
    with holding(path) as process:
        assert said(process) == "held"
        with pytest.raises(Locked, match=rf"pid {process.pid} on .* \(orch watch\) since"):
            SingleHolderLock(path, about={}).acquire()
        assert SingleHolderLock(path, about={}).holder() is not None
        process.communicate("go\n", timeout=30)
    with SingleHolderLock(path, about={}):
        pass


def test_a_killed_holder_frees_the_lock_at_once(path: Path) -> None:
    """Its record remains, but nobody believes it and nothing needs an rm."""
    with holding(path) as process:
        assert said(process) == "held"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert (path.parent / "writer.lock.holder.json").exists()
    lock = SingleHolderLock(path, about={})
    assert lock.holder() is None
    with lock:
        holder = lock.holder()
        assert holder is not None
        assert holder["pid"] == os.getpid()


def test_a_stopped_holder_still_holds_and_the_message_says_how_to_go_on(path: Path) -> None:
    """A stopped process would go on writing after SIGCONT: its lock is not free."""
    with holding(path) as process:
        assert said(process) == "held"
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        with pytest.raises(Locked, match=rf"stopped: `kill -CONT {process.pid}`"):
            SingleHolderLock(path, about={}).acquire()
        process.send_signal(signal.SIGCONT)


def test_of_many_starters_exactly_one_holds(path: Path) -> None:
    """Everybody else is told the pid of that one."""
    with ExitStack() as stack:
        started = [stack.enter_context(holding(path)) for _ in range(5)]
        answers = {process.pid: said(process) for process in started}
    holder = [pid for pid, answer in answers.items() if answer == "held"]
    assert len(holder) == 1
    assert set(answers.values()) == {"held", f"locked by {holder[0]}"}


def test_a_forked_child_does_not_keep_the_lock(path: Path) -> None:
    """flock belongs to the open file, which a fork shares: the child must not prolong it."""
    lock = SingleHolderLock(path, about={})
    reader, writer = os.pipe()
    with lock:
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)  # lives until the test closes its end
            os._exit(0)
    try:
        assert lock.holder() is None
        with lock:
            pass
    finally:
        os.close(writer)
        os.waitpid(child, 0)
        os.close(reader)


def test_a_child_that_outlives_a_killed_holder_does_not_keep_it(path: Path) -> None:
    """Workers started by a watcher live on when it is killed; the next watcher must get in."""
    code = _HOLD.replace(
        'print("held"', 'import os\nif os.fork() == 0: os.read(0, 1); os._exit(0)\nprint("held"'
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert said(process) == "held"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        with SingleHolderLock(path, about={}):
            pass
        assert process.stdin is not None
        process.stdin.close()  # ends the grandchild


def test_a_dead_holders_record_is_not_believed_while_another_one_takes_over(path: Path) -> None:
    """Between taking the lock and publishing the record nobody is named, least of all the dead."""
    with holding(path) as process:
        assert said(process) == "held"
        process.kill()
        process.wait(30)
    with holding(path, fault="lock.after_flock:stop") as process:
        os.waitpid(process.pid, os.WUNTRACED)
        with pytest.raises(Locked, match="has not said who it is") as caught:
            SingleHolderLock(path, about={}).acquire()
    assert caught.value.holder is not None
    assert caught.value.holder["pid"] is None


def test_readers_do_not_keep_a_writer_out(path: Path) -> None:
    """`orch status` probes with a shared flock; who meets it tries again, and gets in."""
    path.touch()
    probe = os.open(path, os.O_RDONLY)
    fcntl.flock(probe, fcntl.LOCK_SH)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        os.close(probe)  # the reader has seen enough

    with pytest.MonkeyPatch.context() as patch:
        # A shared lock held by a reader looks "free" to other readers.
        patch.setattr(locks.time, "sleep", sleep)
        with SingleHolderLock(path, about={}):
            assert len(waits) == 1


def test_without_flock_it_fails_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """filelock would fall back to a marker file that outlives its holder; we refuse."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LockUnsupported, match="ORCH_HOME"):
        SingleHolderLock(path, about={}).acquire()


def test_the_lock_file_is_never_unlinked_or_truncated(path: Path) -> None:
    """A new inode would be a second lock beside the first."""
    path.write_bytes(b"kept")
    inode = path.stat().st_ino
    with SingleHolderLock(path, about={}):
        pass
    assert path.stat().st_ino == inode
    assert path.read_bytes() == b"kept"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"x"'])
def test_a_garbled_record_names_nobody(path: Path, content: bytes) -> None:
    """Whatever lies beside the lock, the answer is held-by-unknown, not an exception."""
    with SingleHolderLock(path, about={}) as lock, pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "_PATIENCE_SECONDS", 0.0)
        publish_file(path.with_name("writer.lock.holder.json"), content)
        assert lock.holder() == dict.fromkeys(["host", "boot_id", "pid", "pid_start", "since"])


def test_a_failure_to_publish_the_record_gives_the_lock_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not leave a lock that its owner does not know it has."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    lock = SingleHolderLock(path, about={})
    monkeypatch.setattr(locks, "publish_file", fail)
    with pytest.raises(OSError, match="No space"):
        lock.acquire()
    assert lock.holder() is None
