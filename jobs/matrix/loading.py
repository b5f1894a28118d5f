"""`load_matrix`: a file -> jobs, or every problem at once. Reads; changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from durable.garbage import uncollected
from jobs.errors import MatrixInvalid, Problem
from jobs.matrix.assembly import Assembled, Assembler, Roots
from jobs.matrix.blocks import Block, read_blocks
from jobs.matrix.expansion import Cell, expand, merged, refuse_too_many
from jobs.matrix.fields import RUN_SECTIONS
from jobs.matrix.findings import Findings, Setting, locate
from jobs.matrix.identity import make_spec
from jobs.matrix.naming import cell_names
from jobs.matrix.needs import Need, resolve_needs
from jobs.matrix.outline import Outline, Rehearsal, read_outline
from jobs.matrix.overriding import read_sets
from jobs.matrix.profiles import choose_profile, without
from jobs.names import MATRIX_NAME
from jobs.spec import JobSpec, Run, canonical_json
from jobs.yaml_strict import MAX_BYTES, Document, parse_yaml

_EVERY_STEPS = ("save", "every_steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A valid matrix. `cells` counts what the conditions left; `jobs` are the distinct ones."""

    name: str
    path: Path  # absolute
    digest: str  # hex sha256 of the text and the sets
    text: str  # verbatim
    cells: int
    jobs: tuple[JobSpec, ...]  # in the order of the file
    sets: tuple[str, ...] = ()
    max_in_flight: int | None = None  # tasks at the scheduler, at most
    needs: tuple[Need, ...] = ()
    missing: tuple[Problem, ...] = ()  # sources that are not here: ids of their jobs may change


def load_matrix(
    path: Path,
    *,
    models_root: Path | None = None,
    data_root: Path | None = None,
    sets: Sequence[str] = (),
    profile: str | None = None,
    absent_ok: bool = False,
) -> Matrix:
    """Return the matrix that a file describes, `sets` (`train.steps=40`) and a profile applied.

    `absent_ok`: for a plan only; models, tasks and inputs that are not here are `missing`.
    Raises `MatrixInvalid` with every problem, or OSError when the file cannot be read.
    """
    roots = Roots(
        base_dir=path.absolute().parent.resolve(),
        models_root=Path(models_root) if models_root else None,
        data_root=Path(data_root) if data_root else None,
    )
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    with uncollected():
        return _matrix(path, data, roots, Chosen(tuple(sets), profile), absent_ok=absent_ok)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was asked for beside the file itself."""

    sets: tuple[str, ...]
    profile: str | None

    def record(self) -> tuple[object, ...]:
        """Return what makes another matrix of the same text."""
        return (list(self.sets), *([self.profile] if self.profile is not None else []))


def _matrix(path: Path, data: bytes, roots: Roots, chosen: Chosen, *, absent_ok: bool) -> Matrix:
    document = parse_yaml(data, file=str(path))
    findings = Findings(absent_ok=absent_ok)
    outline, blocks, cells = _cells(document, chosen, findings)
    assembler = Assembler(roots, absent_ok=absent_ok, aliases=outline.aliases)
    assembled = _assemble(document, outline, cells, assembler, findings)
    jobs: tuple[JobSpec, ...] = ()
    needs: tuple[Need, ...] = ()
    if not findings.problems:
        jobs = _jobs(document, outline, cells, assembled, findings)
        needs = resolve_needs(
            document,
            matrix=outline.name,
            shared=outline.needs,
            blocks=blocks,
            cells=cells,
            ids=[parts.id for parts in assembled],
            findings=findings,
        )
    if findings.problems:
        raise MatrixInvalid(findings.problems)
    text = data.decode()
    return Matrix(
        name=outline.name,
        path=path.absolute(),
        digest=hashlib.sha256(canonical_json([text, *chosen.record()])).hexdigest(),
        text=text,
        cells=len(cells),
        jobs=jobs,
        sets=chosen.sets,
        max_in_flight=outline.max_in_flight,
        needs=needs,
        missing=findings.missing,
    )


def _cells(
    document: Document, chosen: Chosen, findings: Findings
) -> tuple[Outline, tuple[Block, ...], list[Cell]]:
    outline = read_outline(document, findings)
    if not outline.base:
        return outline, (), []
    blocks = read_blocks(document, outline.blocks, findings)
    sets = read_sets(chosen.sets, blocks, findings)
    outline = replace(outline, base=(*outline.base, *sets))
    profile = choose_profile(document, chosen.profile, findings)
    if profile is not None:
        name = profile.matrix_name(outline.name)
        if not MATRIX_NAME.fullmatch(name):
            message, fix = f"{name[:80]} is no name for a matrix", "shorten it, or `name`"
            findings.add(document.problem(("profiles", profile.name), message, fix, key=True))
        outline = replace(
            outline,
            name=name,
            profile=without(profile, sets),
            seeds=profile.seeds or outline.seeds,
        )
    before = len(findings.problems)
    refuse_too_many(document, outline, blocks, findings)
    if len(findings.problems) > before:
        return outline, blocks, []
    return outline, blocks, expand(document, outline, blocks, findings)


def _assemble(
    document: Document,
    outline: Outline,
    cells: Sequence[Cell],
    assembler: Assembler,
    findings: Findings,
) -> list[Assembled]:
    shared = assembler.judge_shared(merged({}, outline.base))
    findings.extend(locate(finding, outline.base) for finding in shared)
    assembled = []
    for cell in cells:
        parts, wrong = assembler.assemble(cell)
        findings.extend(locate(finding, cell.settings) for finding in wrong)
        if parts is not None:
            assembled.append(parts)
    if not findings.problems:
        findings.extend(_never_saves(document, cells, assembled))
    return assembled


def _never_saves(
    document: Document, cells: Sequence[Cell], assembled: Sequence[Assembled]
) -> list[Problem]:
    """Return a problem when somebody asks for periodic saves that no cell would ever reach."""
    asked: tuple[Cell, Assembled] | None = None
    before: Cell | None = None
    for cell, parts in zip(cells, assembled, strict=True):
        sibling = before is not None and before.data is cell.data
        before = cell
        if sibling or not parts.semantic.total_steps or not _says(cell.settings, _EVERY_STEPS):
            continue
        if parts.run.save.every_steps <= parts.semantic.total_steps:
            return []
        asked = asked or (cell, parts)
    if asked is None:
        return []
    cell, parts = asked
    every, steps = parts.run.save.every_steps, parts.semantic.total_steps
    setting = _says(cell.settings, _EVERY_STEPS)
    assert setting is not None
    rest = _EVERY_STEPS[len(setting.field) :]
    return [
        setting.document.problem(
            (*setting.path, *rest),
            f"{every} is more than train.steps {steps}: nothing would be saved on the way",
            f"write at most {steps}, or remove it",
        )
    ]


def _says(settings: Sequence[Setting], field: tuple[str, ...]) -> Setting | None:
    """Return the setting that gives the field a value, None when it has its default."""
    for setting in reversed(settings):
        if setting.field and field[: len(setting.field)] == setting.field:
            node = setting.value
            for part in field[len(setting.field) :]:
                node = node.get(part) if isinstance(node, dict) else None
            if node is not None:
                return setting
    return None


def _jobs(
    document: Document,
    outline: Outline,
    cells: Sequence[Cell],
    assembled: Sequence[Assembled],
    findings: Findings,
) -> tuple[JobSpec, ...]:
    names = cell_names(cells, [parts.id for parts in assembled], template=outline.job_name)
    first: dict[str, int] = {}
    jobs: list[JobSpec] = []
    for index, parts in enumerate(assembled):
        one = first.setdefault(parts.id, index)
        if one != index:
            run = assembled[one].run
            findings.extend(_two_ways(run, parts.run, cells[index], names[one]))
            continue
        run = parts.run
        if outline.rehearsal is not None and len(jobs) < outline.rehearsal.jobs:
            findings.extend(_rehearsal_too_late(document, outline.rehearsal, parts))
            run = run.model_copy(update={"rehearsal": outline.rehearsal.spec()})
        name = f"{outline.name}/{names[index]}"
        jobs.append(make_spec(parts.id, name, parts.semantic, run))
    if outline.rehearsal is not None and outline.rehearsal.jobs > len(jobs):
        message = f"{outline.rehearsal.jobs} is more than the {len(jobs)} jobs of this matrix"
        findings.add(document.problem(("rehearsal", "jobs"), message, f"write at most {len(jobs)}"))
    return tuple(jobs)


def _rehearsal_too_late(
    document: Document, rehearsal: Rehearsal, parts: Assembled
) -> list[Problem]:
    steps = parts.semantic.total_steps
    if not steps or rehearsal.at_step < steps:
        return []
    message = f"{rehearsal.at_step} is not before the last step, train.steps {steps}"
    fix = f"write at most {steps - 1}" if steps > 1 else "remove it"
    return [document.problem(("rehearsal", "at_step"), message, fix)]


def _two_ways(one: Run, other: Run, cell: Cell, first_name: str) -> list[Problem]:
    """Return a problem when two cells are one job that would have to run in two ways."""
    if one is other or one == other:
        return []
    differs = next(name for name in RUN_SECTIONS if getattr(one, name) != getattr(other, name))
    setting = next(s for s in reversed(cell.settings) if not s.field or s.field[0] == differs)
    return [
        setting.document.problem(
            setting.path,
            f"this cell is the same job as {first_name}, but differs in `{differs}`,"
            " which is no part of a job's identity",
            "give both the same, or remove one of them",
        )
    ]
