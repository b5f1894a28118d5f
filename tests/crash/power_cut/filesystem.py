"""What a power cut may leave of a filesystem that promises no more than POSIX does.

A file's bytes are safe from its fsync on, a name from the fsync of its directory on. What is not
safe may be there, or not, or in part, in any order; a rename happens whole. Operations on one name
keep their order. That is harsher than ext4 or xfs, which keep all names in order.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.power_cut.recording import Event

SECTOR = 512
FEW = 5  # so many pending operations are tried in all combinations
Key = tuple[int, str]  # a directory's number, a name in it
Choice = Mapping[int, int]  # a file's number -> which of its contents


@dataclass
class _File:
    safe: bytes = b""
    pending: list[bytes] = field(default_factory=list)  # appended since the last fsync

    @property
    def now(self) -> bytes:
        return self.safe + b"".join(self.pending)


@dataclass(frozen=True)
class _Change:
    """One operation on names: all of it, or nothing."""

    number: int
    sets: tuple[tuple[Key, int | None], ...]


@dataclass(frozen=True)
class State:
    """A tree: directories are dicts. Compared by what it shows."""

    tree: tuple[object, ...]

    def write(self, root: Path) -> None:
        """Make it real below the existing directory `root`."""
        _write(self.tree, root)


def _write(tree: tuple[object, ...], root: Path) -> None:
    for name, content in tree:  # type: ignore[misc]
        if isinstance(content, bytes):
            (root / name).write_bytes(content)
        else:
            (root / name).mkdir(mode=0o700)
            _write(content, root / name)


class Disk:
    """A directory `base` and all below it; what is there at first is safe."""

    def __init__(self, base: Path) -> None:
        self._base = str(base)
        self._files: dict[int, _File] = {}
        self._numbers = itertools.count()
        self._now: dict[Key, int] = {}
        self._directories = {next(self._numbers)}
        self._load(base, 0)
        self._safe = dict(self._now)
        self._pending: list[_Change] = []

    def _load(self, directory: Path, number: int) -> None:
        for entry in sorted(directory.iterdir()):
            inner = next(self._numbers)
            self._now[number, entry.name] = inner
            if entry.is_dir():
                self._directories.add(inner)
                self._load(entry, inner)
            else:
                self._files[inner] = _File(safe=entry.read_bytes())

    def apply(self, event: Event) -> None:
        """Do what the event says."""
        match event.kind:
            case "create":
                key = self._key(event.path)
                if key not in self._now:
                    number = next(self._numbers)
                    self._files[number] = _File()
                    self._change((key, number))
            case "mkdir":
                number = next(self._numbers)
                self._directories.add(number)
                self._change((self._key(event.path), number))
            case "write":
                self._files[self._now[self._key(event.path)]].pending.append(event.data)
            case "rename":
                source = self._key(event.path)
                self._change((source, None), (self._key(event.other), self._now[source]))
            case "link":
                self._change((self._key(event.other), self._now[self._key(event.path)]))
            case "unlink":
                self._change((self._key(event.path), None))
            case "fsync":
                self._fsync(event.path)

    def _key(self, path: str) -> Key:
        parts = path.removeprefix(self._base).strip("/").split("/")
        directory = 0
        for part in parts[:-1]:
            directory = self._now[directory, part]
        return directory, parts[-1]

    def _change(self, *sets: tuple[Key, int | None]) -> None:
        self._pending.append(_Change(number=next(self._numbers), sets=sets))
        _do(self._now, sets)

    def _fsync(self, path: str) -> None:
        number = 0 if path == self._base else self._now[self._key(path)]
        if number in self._files:
            file = self._files[number]
            file.safe, file.pending = file.now, []
            return
        wanted = {c.number for c in self._pending if any(key[0] == number for key, _ in c.sets)}
        for change in self._closed(wanted):
            _do(self._safe, change.sets)
            self._pending.remove(change)

    def _closed(self, wanted: set[int]) -> list[_Change]:
        """Return the wanted changes, in order, with all earlier ones of the same names."""
        chosen, names = [], set[Key]()
        for change in reversed(self._pending):
            if change.number in wanted or any(key in names for key, _ in change.sets):
                chosen.append(change)
                names |= {key for key, _ in change.sets}
        return chosen[::-1]

    def states(self, source: random.Random) -> Iterator[State]:
        """Yield what a power cut may leave now; all of it where little is pending."""
        for changes in self._subsets(source):
            names = dict(self._safe)
            for change in changes:
                _do(names, change.sets)
            below = _by_directory(names)
            reached = _reachable(below)
            unsafe = [n for n in reached if n in self._files and self._files[n].pending]
            for choice in self._contents(unsafe, source):
                yield State(self._tree(below, 0, choice))

    def _subsets(self, source: random.Random) -> Iterator[list[_Change]]:
        numbers = [change.number for change in self._pending]
        if len(numbers) <= FEW:
            picks = [
                set(c) for n in range(len(numbers) + 1) for c in itertools.combinations(numbers, n)
            ]
        else:
            picks = [set(numbers[:count]) for count in range(len(numbers) + 1)]  # in order
            picks += [{number} for number in numbers]
            picks += [set(numbers) - {number} for number in numbers]
            picks += [{n for n in numbers if source.random() < 0.5} for _ in range(8)]
        seen = set()
        for pick in picks:
            changes = self._closed(pick)
            key = tuple(change.number for change in changes)
            if key not in seen:
                seen.add(key)
                yield changes

    def _contents(self, unsafe: list[int], source: random.Random) -> Iterator[dict[int, bytes]]:
        """Yield contents of the files that are not safe: nothing, all, holes, tears, seeded."""
        variants = {number: _variants(self._files[number], source) for number in unsafe}
        for one in range(len(VARIANTS)) if unsafe else (0,):
            yield {number: variants[number][one] for number in unsafe}
        for number in unsafe if len(unsafe) > 1 else ():  # one file lost, all others whole
            whole = {other: variants[other][WHOLE] for other in unsafe}
            yield whole | {number: source.choice(variants[number])}

    def _tree(
        self, below: Mapping[int, list[tuple[str, int]]], directory: int, choice: dict[int, bytes]
    ) -> tuple[object, ...]:
        return tuple(
            (
                name,
                self._tree(below, number, choice)
                if number in self._directories
                else choice.get(number, self._files[number].safe),
            )
            for name, number in below.get(directory, ())
        )


VARIANTS = ("nothing", "whole", "zeros", "torn", "cut")
WHOLE = VARIANTS.index("whole")


def _variants(file: _File, source: random.Random) -> list[bytes]:
    """Return the contents that a file may have, in the order of VARIANTS."""
    whole, safe = file.now, file.safe
    new = len(whole) - len(safe)
    torn = bytearray(whole)
    for start in range(len(safe), len(whole), SECTOR):
        if source.random() < 0.5:
            end = min(start + SECTOR, len(whole))
            torn[start:end] = bytes(end - start)
    cut = whole[: len(safe) + source.randrange(new)] if new else whole
    return [safe, whole, safe + bytes(new), bytes(torn), cut]


def _do(names: dict[Key, int], sets: tuple[tuple[Key, int | None], ...]) -> None:
    for key, number in sets:
        if number is None:
            names.pop(key, None)
        else:
            names[key] = number


def _by_directory(names: Mapping[Key, int]) -> dict[int, list[tuple[str, int]]]:
    found: dict[int, list[tuple[str, int]]] = {}
    for (directory, name), number in sorted(names.items()):
        found.setdefault(directory, []).append((name, number))
    return found


def _reachable(below: Mapping[int, list[tuple[str, int]]]) -> list[int]:
    found, todo = [], [0]
    while todo:
        for _, number in below.get(todo.pop(), ()):
            found.append(number)
            todo.append(number)
    return found
