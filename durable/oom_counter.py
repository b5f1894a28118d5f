"""How many processes of this one's memory cgroup the kernel has killed for want of memory.

A SIGKILL does not say who sent it. The kernel counts its own in the cgroup of the victim, before
the signal goes out: `oom_kill` of memory.events (cgroup v2) or memory.oom_control (v1), also when
it was the whole machine whose memory was used up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from durable.regular import read_regular

_ESCAPED = re.compile(r"\\([0-7]{3})")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OomCounter:
    """One counter and what it said; readable by every process of the host, whatever its cgroup."""

    path: str
    kills: int

    @classmethod
    def own(cls, root: Path = Path("/")) -> OomCounter | None:
        """Return the counter of the calling process's cgroup; None where there is none.

        `root` has the `proc` and the mounts (tests give another).
        """
        for path in _places(root):
            kills = _read(path)
            if kills is not None:
                return cls(path=str(path), kills=kills)
        return None

    def since(self) -> int | None:
        """Return how many were killed since then; None where that cannot be known any more."""
        kills = _read(Path(self.path))
        return None if kills is None or kills < self.kills else kills - self.kills


def _places(root: Path) -> Iterator[Path]:
    """Yield where the counter may be, the nearest first.

    With v2 a cgroup without a memory controller of its own is counted by the one above it.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            for point, relative in _mounts(root, path, kind="cgroup", option="memory"):
                yield point / relative / "memory.oom_control"
        elif not controllers:
            for point, relative in _mounts(root, path, kind="cgroup2", option=None):
                for folder in (relative, *relative.parents):
                    yield point / folder / "memory.events"


def _mounts(root: Path, path: str, *, kind: str, option: str | None) -> Iterator[tuple[Path, Path]]:
    """Yield the mounts that show a cgroup: the mount point, and the cgroup's path below it."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        fields, _, about = line.partition(" - ")
        parts, kinds = fields.split(), about.split()
        if len(parts) < 5 or len(kinds) < 3 or kinds[0] != kind:
            continue
        if option is not None and option not in kinds[2].split(","):
            continue
        shown, point = Path(_plain(parts[3])), _plain(parts[4])
        if Path(path).is_relative_to(shown):
            yield root / point.lstrip("/"), Path(path).relative_to(shown)


def _plain(escaped: str) -> str:
    """Return a path without mountinfo's octal escapes."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), escaped)


def _read(path: Path) -> int | None:
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdecimal():
            return int(value)
    return None


def _text(path: Path) -> str:
    try:
        return read_regular(path, limit=_MAX_BYTES).decode(errors="replace")
    except (OSError, ValueError):  # ValueError: a NUL in a path that was read from a record
        return ""
