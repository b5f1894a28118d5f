"""What an attempt asked of the filesystem, call by call, as strace saw it.

Both ranks are traced from their first instruction to their end; the calls of both are in one order.
Only what changes something below one directory is kept, and what the ranks said to the test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash.two_ranks import Process, start

_KINDS = {
    "openat": "create",
    "write": "write",
    "sendto": "say",
    "fsync": "fsync",
    "fdatasync": "fsync",
    "rename": "rename",
    "link": "link",
    "linkat": "link",
    "mkdir": "mkdir",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "rmdir": "unlink",
}
# All that could change something: the others are traced so that they cannot pass unseen.
_OTHERS = "renameat,renameat2,mkdirat,ftruncate,pwrite64,pwritev,writev,syncfs,sync_file_range"
CALLS = f"{','.join(_KINDS)},{_OTHERS}"
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"^(\d+|AT_FDCWD)<([^>]*)>")
_DONE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One call that succeeded. Paths are absolute; `data` is what was written, or said."""

    kind: str  # create, write, fsync, rename, link, unlink, mkdir, say
    path: str = ""
    other: str = ""  # of rename and link: the new name
    data: bytes = b""

    def __str__(self) -> str:
        shown = f"{self.kind} {self.path} {self.other} {self.data[:20]!r}"
        return shown if self.kind == "say" else shown.removesuffix(" b''")


def record(root: Path, *, trace: Path, **options: Any) -> tuple[list[Event], list[Process]]:
    """Run an attempt on `root` under strace; return its events and how it ended."""

    def wait_for_the_tracer(rank: int) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    processes = start(root, before=wait_for_the_tracer, **options)
    for process in processes:
        assert process.wait(os.WUNTRACED)
    pids = [word for process in processes for word in ("-p", str(process.pid))]
    command = ["strace", "-f", "-y", "-xx", "-s", "10000000", "-e", f"trace={CALLS}"]
    tracer = subprocess.Popen([*command, "-o", str(trace), *pids], stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    for _ in processes:
        line = tracer.stderr.readline()
        assert b"attached" in line, line
    for process in processes:
        process.signal(signal.SIGCONT)
    for process in processes:
        process.wait()
    tracer.stderr.read()
    tracer.wait()
    return list(events(trace.read_text(), below=str(root.parent))), processes


def events(trace: str, *, below: str) -> Iterator[Event]:
    """Yield the events of a trace, in the order in which they were done."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        if unfinished := _BEGUN.match(line):
            begun[unfinished[1]] = unfinished[3]
            continue
        if resumed := _RESUMED.match(line):
            call, value = resumed[2], int(resumed[4])
            arguments = begun.pop(resumed[1]) + resumed[3]
        elif done := _DONE.match(line):
            call, arguments, value = done[2], done[3], int(done[4])
        else:
            continue
        event = _event(call, arguments, value) if value >= 0 else None
        if event and (event.kind == "say" or f"{event.path}/".startswith(f"{below}/")):
            yield event


def _event(call: str, arguments: str, value: int) -> Event | None:
    strings = [_bytes(text) for text in _STRING.findall(arguments)]
    descriptor = _DESCRIPTOR.match(arguments)
    at = _bytes(descriptor[2]).decode() if descriptor else ""
    kind = _KINDS[call]  # KeyError: a call that nothing here understands must not pass unseen
    if kind == "create" and "O_CREAT" not in arguments:
        return None
    if kind in ("write", "say"):
        return Event(kind=kind, path=at, data=strings[0][:value])
    if kind == "fsync":
        return Event(kind=kind, path=at)
    names = [os.path.join(at, name.decode()) for name in strings]  # noqa: PTH118
    return Event(kind=kind, path=names[0], other=names[1] if len(names) > 1 else "")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()
