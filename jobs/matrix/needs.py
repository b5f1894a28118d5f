"""From `needs:` to jobs: who waits for whose results; unknown names and cycles are refused.

What many jobs wait for together is one `Need`, so that a block of 10,000 jobs that needs
another of 10,000 is one need and not 100,000,000 pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from jobs.errors import Problem
from jobs.matrix.blocks import Block
from jobs.matrix.expansion import Cell
from jobs.matrix.findings import Findings
from jobs.matrix.wanted import Wanted
from jobs.names import printable
from jobs.suggestions import did_you_mean
from jobs.yaml_strict import Document

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """`jobs` may begin when every job of `of` has its result.

    `matrix`: what is needed are the jobs of a matrix of that name; which ones, is known to the
    database, and `of` is empty until then. `place` says where the file asks for it.
    """

    name: str
    jobs: tuple[str, ...]
    place: Problem  # to be given its message
    of: tuple[str, ...] = ()
    matrix: str | None = None

    def problem(self, message: str, fix: str) -> Problem:
        """Return a problem at the place that asks."""
        return replace(self.place, message=message, fix=fix)


def resolve_needs(
    document: Document,
    *,
    matrix: str,
    shared: Sequence[Wanted],
    blocks: Sequence[Block],
    cells: Sequence[Cell],
    ids: Sequence[str],
    findings: Findings,
) -> tuple[Need, ...]:
    """Return the needs of a matrix's jobs; `ids[i]` is the job of `cells[i]`."""
    if not shared and not any(block.needs for block in blocks):
        _refuse_repeated_names(document, blocks, findings)
        return ()
    resolver = _Resolver(document, matrix, blocks, cells, ids, findings)
    _refuse_repeated_names(document, blocks, findings)
    needs: list[Need] = []
    for wanted in shared:
        needs += resolver.resolve(wanted, range(len(cells)))
    for number, block in enumerate(blocks):
        mine = resolver.of_block(number)
        for wanted in block.needs:
            needs += resolver.resolve(wanted, mine)
    found = find_cycle(needs)
    if found and not findings.problems:
        findings.add(cycle_problem(found))
    return tuple(needs)


def _refuse_repeated_names(document: Document, blocks: Sequence[Block], findings: Findings) -> None:
    first: dict[str, Block] = {}
    for block in blocks:
        if block.name is not None and first.setdefault(block.name, block) is not block:
            line = document.place((*first[block.name].path, "name")).line
            message = f"a block of this name stands on line {line}"
            findings.add(document.problem((*block.path, "name"), message, "use another name"))


@dataclass(slots=True)
class _Resolver:
    document: Document
    matrix: str
    blocks: Sequence[Block]
    cells: Sequence[Cell]
    ids: Sequence[str]
    findings: Findings

    def of_block(self, number: int) -> list[int]:
        return [index for index, cell in enumerate(self.cells) if cell.block == number]

    def resolve(self, wanted: Wanted, waiting: Sequence[int]) -> Iterator[Need]:
        """Yield a need for each group of waiting cells that wait for the same jobs."""
        if wanted.matrix is not None:
            if wanted.matrix == self.matrix:
                fix = "name a block of it: give the block a `name:`"
                self._refuse(wanted, "a matrix cannot need itself", fix)
            elif waiting:
                jobs = self._jobs(waiting)
                yield Need(
                    name=wanted.label, jobs=jobs, matrix=wanted.matrix, place=self._place(wanted)
                )
            return
        needed = self._needed(wanted)
        if needed is None:
            return
        groups: dict[_Key, list[int]] = {}
        for index in waiting:
            groups.setdefault(self._key(wanted, index), []).append(index)
        targets: dict[_Key, list[int]] = {}
        for index in needed:
            targets.setdefault(self._key(wanted, index), []).append(index)
        for key, group in groups.items():
            if key not in targets:
                self._refuse_unmatched(wanted, key)
                return
            words = [f"{'.'.join(f)}={v}" for f, v in zip(wanted.same, key, strict=True)]
            name = f"{wanted.label} ({', '.join(words)})" if words else wanted.label
            yield Need(
                name=name,
                jobs=self._jobs(group),
                of=self._jobs(targets[key]),
                place=self._place(wanted),
            )

    def _needed(self, wanted: Wanted) -> list[int] | None:
        if wanted.block is not None:
            names = [block.name for block in self.blocks]
            if wanted.block not in names:
                known = [name for name in names if name is not None]
                fix = did_you_mean(wanted.block, known)
                if not known:
                    fix = "give that block a `name:`; another matrix is {matrix: NAME}"
                message = f"no block of this file is called {printable(wanted.block)}"
                self._refuse(wanted, message, fix)
                return None
            found = self.of_block(names.index(wanted.block))
        else:
            assert wanted.cells is not None
            condition = wanted.cells
            found = [i for i, cell in enumerate(self.cells) if condition.holds(cell.value)]
        if not found:
            self._refuse(wanted, "matches no cell", "correct the values, or remove it")
            return None
        return found

    def _key(self, wanted: Wanted, index: int) -> _Key:
        cell = self.cells[index]
        values = (cell.value(field) for field in wanted.same)
        # Lists and mappings are values too; their text is as good a key.
        return tuple(repr(v) if isinstance(v, list | dict) else v for v in values)

    def _jobs(self, indices: Sequence[int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.ids[index] for index in indices))

    def _place(self, wanted: Wanted) -> Problem:
        return self.document.problem(wanted.path, "", "")

    def _refuse(self, wanted: Wanted, message: str, fix: str) -> None:
        self.findings.add(self.document.problem(wanted.path, message, fix))

    def _refuse_unmatched(self, wanted: Wanted, key: _Key) -> None:
        fields = zip(wanted.same, key, strict=True)
        words = ", ".join(f"{'.'.join(field)} {printable(value)}" for field, value in fields)
        message = f"{wanted.label} has no cell with {words}"
        self._refuse(wanted, message, "add it there, or remove that field from `same`")


def cycle_problem(cycle: Sequence[Need]) -> Problem:
    """Return the problem of jobs that would wait for each other for ever."""
    if len(cycle) == 1:
        message = f"some of these jobs need themselves, as jobs of {cycle[0].name}"
    else:
        message = f"a cycle: {' -> '.join(need.name for need in (*cycle, cycle[0]))}"
    return cycle[0].problem(message, "remove one of these needs")


def find_cycle(needs: Sequence[Need]) -> list[Need]:
    """Return needs of which each waits for the next and the last for the first, or nothing."""
    waits_in: dict[str, list[int]] = {}
    for number, need in enumerate(needs):
        for job in need.jobs:
            waits_in.setdefault(job, []).append(number)

    def followed(number: int) -> Iterator[int]:
        # Needs of jobs that this one needs: it cannot be met before they are.
        others = (other for job in needs[number].of for other in waits_in.get(job, ()))
        return iter(dict.fromkeys(others))

    done: set[int] = set()
    for start in range(len(needs)):
        cycle = _walk(start, followed, done)
        if cycle:
            return [needs[number] for number in cycle]
    return []


def _walk(start: int, followed: Callable[[int], Iterator[int]], done: set[int]) -> list[int]:
    """Go down from one need, depth first; return the cycle that was found, or nothing."""
    if start in done:
        return []
    path, walks, depth = [start], [followed(start)], {start: 0}
    while path:
        other = next(walks[-1], None)
        if other is None:
            walks.pop()
            done.add(path[-1])
            del depth[path.pop()]
        elif other in depth:
            return path[depth[other] :]
        elif other not in done:
            depth[other] = len(path)
            path.append(other)
            walks.append(followed(other))
    return []
