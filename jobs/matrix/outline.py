"""The outermost level of a matrix file: which keys it has, and what the simple ones say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import PositiveInt, TypeAdapter, ValidationError

from jobs.matrix.aliases import NameTemplate, read_aliases, read_template
from jobs.matrix.blocks import read_shared_needs
from jobs.matrix.derived import Derived, read_derived
from jobs.matrix.fields import RESERVED, RUN_SECTIONS, SEMANTIC_SECTIONS, children, unknown_part
from jobs.matrix.findings import Finding, Findings, Setting, locate
from jobs.matrix.seeds import CEILING_OF_CELLS, read_seeds
from jobs.matrix.translation import finding_of
from jobs.matrix.wanted import Wanted
from jobs.names import MATRIX_NAME, MATRIX_NAME_RULE, printable
from jobs.spec import RehearsalSpec, SpecModel
from jobs.suggestions import did_you_mean
from jobs.yaml_strict import Document, Node

VERSION = 1
MAX_CELLS = 10_000  # of a matrix that does not set `max_cells`

_Default = TypeVar("_Default", int, None)

KEYS = (
    "version",
    "name",
    "job_name",
    "aliases",
    "defaults",
    "derive",
    "matrix",
    "profiles",
    "seeds",
    *RUN_SECTIONS,
    "rehearsal",
    "needs",
    "max_in_flight",
    "max_cells",
)


class Rehearsal(SpecModel):
    """`rehearsal:` the first `jobs` jobs are preempted once, when they have passed `at_step`."""

    at_step: PositiveInt
    jobs: PositiveInt = 1

    def spec(self) -> RehearsalSpec:
        """Return what one rehearsed job is told."""
        return RehearsalSpec(at_step=self.at_step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What the outermost level says; anything wrong in it went to the findings."""

    name: str
    base: tuple[Setting, ...]  # the settings that all cells share
    blocks: Node  # the value of `matrix`, None without
    seeds: tuple[int, ...]
    rehearsal: Rehearsal | None
    max_cells: int
    needs: tuple[Wanted, ...] = ()  # that all cells have
    derived: tuple[Derived, ...] = ()
    profile: tuple[Setting, ...] = ()  # what wins over all that a cell has
    aliases: Mapping[str, str] = field(default_factory=dict)
    job_name: NameTemplate | None = None
    max_in_flight: int | None = None  # tasks of this matrix at the scheduler, at most


def read_outline(document: Document, findings: Findings) -> Outline:
    """Return the outline of a matrix file."""
    data = document.data
    if not isinstance(data, dict):
        what = "empty" if data is None else "a list" if isinstance(data, list) else "not a mapping"
        findings.add(
            document.problem(
                (), f"the file is {what}", "write keys: version, name, defaults, matrix, seeds"
            )
        )
        data = {}
        document = Document(file=document.file, data=data)
    _refuse_unknown_keys(document, data, findings)
    if findings.problems and not data:
        return Outline(
            name="", base=(), blocks=None, seeds=(0,), rehearsal=None, max_cells=MAX_CELLS
        )
    _check_version(document, data, findings)
    return Outline(
        name=_name(document, data, findings),
        base=_base(document, data, findings),
        blocks=data.get("matrix"),
        seeds=read_seeds(document, data.get("seeds", 1), ("seeds",), findings),
        rehearsal=_simple(Rehearsal, "rehearsal", document, data, findings),
        max_cells=_whole("max_cells", "mean to run", MAX_CELLS, document, findings),
        needs=read_shared_needs(document, data["needs"], findings) if "needs" in data else (),
        derived=read_derived(document, data["derive"], findings) if "derive" in data else (),
        aliases=read_aliases(document, data["aliases"], findings) if "aliases" in data else {},
        job_name=read_template(document, data["job_name"], findings)
        if "job_name" in data
        else None,
        max_in_flight=_whole(
            "max_in_flight", "may be at the scheduler at a time", None, document, findings
        ),
    )


def _refuse_unknown_keys(document: Document, data: dict[str, Node], findings: Findings) -> None:
    for key in data:
        if key not in KEYS:
            fix = did_you_mean(key, KEYS)
            if key in SEMANTIC_SECTIONS:
                fix = f"put `{key}` below `defaults:`"
            elif unknown_part(tuple(key.split("."))) is None:
                fix = f"put `{key}` below `matrix:` (an axis) or its section below `defaults:`"
            message = f"unknown key {printable(key)}"
            findings.add(document.problem((key,), message, fix, key=True))


def _check_version(document: Document, data: dict[str, Node], findings: Findings) -> None:
    if "version" not in data:
        findings.add(document.problem(("version",), "is required", f"add `version: {VERSION}`"))
    elif data["version"] is True or data["version"] != VERSION:
        message = f"must be {VERSION}, not {printable(data['version'])}"
        fix = f"write `version: {VERSION}`, or use the orch that this file was written for"
        findings.add(document.problem(("version",), message, fix))


def _name(document: Document, data: dict[str, Node], findings: Findings) -> str:
    name = data.get("name")
    if isinstance(name, str) and MATRIX_NAME.fullmatch(name):
        return name
    if "name" not in data:
        findings.add(document.problem(("name",), "is required", "add `name:`"))
    elif isinstance(name, str):
        message = f"{printable(name)} is no name"
        findings.add(document.problem(("name",), message, f"use {MATRIX_NAME_RULE}"))
    else:
        message = f"must be text, not {printable(name)}"
        findings.add(document.problem(("name",), message, 'quote it, e.g. "2024"'))
    return "unnamed"


def _base(document: Document, data: dict[str, Node], findings: Findings) -> tuple[Setting, ...]:
    """Return the settings that all cells share; the first covers everything."""
    root = Setting(field=(), value=None, document=document, path=("defaults",))
    defaults = data.get("defaults")
    if not isinstance(defaults, dict):
        if "defaults" in data:
            fix = f"write sections: {', '.join(SEMANTIC_SECTIONS)}"
            findings.add(document.problem(("defaults",), "must be a mapping", fix))
        defaults = {}
    settings = [root]
    for name, value in defaults.items():
        if name not in SEMANTIC_SECTIONS:
            findings.add(_misplaced(document, name))
        else:
            settings.append(
                Setting(field=(name,), value=value, document=document, path=("defaults", name))
            )
            findings.extend(_reserved(document, name, value))
    settings += [
        Setting(field=(name,), value=data[name], document=document, path=(name,))
        for name in RUN_SECTIONS
        if name in data
    ]
    return tuple(settings)


def _misplaced(document: Document, name: str) -> Any:
    path = ("defaults", name)
    if name in (*RUN_SECTIONS, "seeds", "rehearsal"):
        message, fix = f"`{name}` is no default", "move it to the outermost level"
    else:
        message, fix = f"unknown key {printable(name)}", did_you_mean(name, SEMANTIC_SECTIONS)
        field = tuple(name.split("."))
        if len(field) > 1 and unknown_part(field) is None:
            fix = f"write it nested: `{field[0]}:` with `{field[-1]}:` inside"
    return document.problem(path, message, fix, key=True)


def _reserved(document: Document, section: str, value: Node) -> list[Any]:
    keys = value if isinstance(value, dict) else {}
    return [
        document.problem(
            ("defaults", section, key),
            f"unknown key {printable(key)}",
            did_you_mean(key, children((section,)) or []),
            key=True,
        )
        for key in keys
        if (section, key) in RESERVED
    ]


def _whole(
    key: str, words: str, default: _Default, document: Document, findings: Findings
) -> int | _Default:
    """Return a count of cells or jobs; the default where the key is missing or wrong."""
    data = document.data if isinstance(document.data, dict) else {}
    given = data.get(key)
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= CEILING_OF_CELLS:
        return given
    if key in data:
        bounds = f"from 1 to {CEILING_OF_CELLS:,}"
        message = f"must be a whole number {bounds}, not {printable(given)}"
        findings.add(document.problem((key,), message, f"write how many {words}"))
    return default


def _simple(
    kind: type[Rehearsal], key: str, document: Document, data: dict[str, Node], findings: Findings
) -> Rehearsal | None:
    if data.get(key) is None and key not in data:
        return None
    root = Setting(field=(), value=None, document=document, path=())
    try:
        return TypeAdapter(kind).validate_python(data[key])
    except ValidationError as error:
        for one in error.errors(include_url=False):
            finding = finding_of(one, key, data[key])
            if finding.message.startswith("unknown key"):
                names = list(kind.model_fields)
                finding = Finding(
                    path=finding.path,
                    message=finding.message,
                    fix=did_you_mean(str(finding.path[-1]), names),
                    at_key=True,
                )
            findings.add(locate(finding, [root]))
        return None
