"""A section's plain data -> the spec's value, or findings. Equal sections are judged once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from jobs.matrix.fields import sections as section_types
from jobs.matrix.findings import Finding
from jobs.matrix.translation import finding_of
from jobs.names import UNSAFE_IN_NAME
from jobs.spec import canonical_json
from jobs.yaml_strict import Node, leaves

MAX_TEXT = 4096  # characters
PROSE = frozenset({("task", "prompt")})  # may have newlines and tabs


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a section is: a value of the spec, or what is wrong with it."""

    text: bytes  # canonical JSON of the raw data
    value: Any = None
    findings: tuple[Finding, ...] = ()


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(annotation) for name, annotation in section_types().items()}


@dataclass(slots=True)
class SectionReader:
    """Judges sections; remembers what it has judged."""

    _seen: dict[tuple[str, bytes], Judged] = field(default_factory=dict)
    # By identity: the cells of a matrix share their sections. The raw value is kept, so that
    # its id stays its own.
    _same: dict[tuple[str, int], tuple[Node, Judged]] = field(default_factory=dict)

    def judge(self, name: str, raw: Node) -> Judged:
        """Return the section's value or findings."""
        same = self._same.get((name, id(raw)))
        if same is not None:
            return same[1]
        text = canonical_json(raw)
        judged = self._seen.get((name, text))
        if judged is None:
            judged = self._seen[(name, text)] = _judge(name, raw, text)
        self._same[(name, id(raw))] = (raw, judged)
        return judged


def _judge(name: str, raw: Node, text: bytes) -> Judged:
    findings = _bad_texts(name, raw)
    value = None
    try:
        # From JSON, so that a list is as good for a tuple as it is in spec.json.
        value = _adapters()[name].validate_json(text)
    except ValidationError as error:
        found = [finding_of(one, name, raw) for one in error.errors(include_url=False)]
        findings += list({f.path: f for f in reversed(found)}.values())[::-1]
    return Judged(text=text, value=None if findings else value, findings=tuple(findings))


def _bad_texts(name: str, raw: Node) -> list[Finding]:
    findings = []
    for path, leaf in leaves(raw, (name,)):
        if not isinstance(leaf, str):
            continue
        if path not in PROSE and UNSAFE_IN_NAME.search(leaf):
            findings.append(Finding(path=path, message="has a control character", fix="remove it"))
        elif len(leaf) > MAX_TEXT:
            message = f"has {len(leaf):,} characters, the limit is {MAX_TEXT:,}"
            findings.append(Finding(path=path, message=message, fix="shorten it"))
    return findings
