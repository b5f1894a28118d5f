"""`aliases:` short words for paths and hub ids of models; `job_name:` what jobs are called."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jobs.matrix.fields import SEED, unknown_part
from jobs.matrix.findings import FieldPath, Findings
from jobs.names import printable
from jobs.yaml_strict import Document, Node

_EXAMPLE = 'write e.g. `job_name: "{model.path}-{method.name}-{seed}"`'


def read_aliases(document: Document, node: Node, findings: Findings) -> dict[str, str]:
    """Return word -> path; what is wrong goes to the findings."""
    if not isinstance(node, dict):
        message = f"must be a mapping, not {printable(node)}"
        fix = "write e.g. `t5: google/t5-v1_1-base`"
        findings.add(document.problem(("aliases",), message, fix))
        return {}
    for word, path in node.items():
        if not isinstance(path, str) or not path:
            message = f"must be a path or hub id, not {printable(path)}"
            findings.add(document.problem(("aliases", word), message, "quote it"))
        elif path in node:
            message = f"{printable(path)} is itself an alias"
            findings.add(document.problem(("aliases", word), message, "write what it stands for"))
    return {word: path for word, path in node.items() if isinstance(path, str)}


@dataclass(slots=True)
class Aliases:
    """Puts paths in the place of words in `model` sections.

    Names, conditions and formulas see the words; jobs have the paths. Equal sections stay one
    object: what they have in common is done once.
    """

    words: Mapping[str, str]
    _known: dict[int, tuple[Node, Node]] = field(default_factory=dict)

    def replaced(self, section: str, raw: Node) -> Node:
        """Return the section with the paths."""
        if section != "model" or not self.words or not isinstance(raw, dict):
            return raw
        known = self._known.get(id(raw))
        if known is None:
            known = self._known[id(raw)] = (raw, self._replaced(raw))
        return known[1]

    def _replaced(self, raw: dict[str, Node]) -> Node:
        made = {**raw, "path": self._path(raw["path"])} if "path" in raw else raw
        tokenizer = made.get("tokenizer")
        if isinstance(tokenizer, dict) and "path" in tokenizer:
            made = {**made, "tokenizer": {**tokenizer, "path": self._path(tokenizer["path"])}}
        return made

    def _path(self, path: Node) -> Node:
        return self.words.get(path, path) if isinstance(path, str) else path


@dataclass(frozen=True, slots=True)
class NameTemplate:
    """Text and fields in turn, e.g. of `{method.name}-{seed}`."""

    parts: tuple[tuple[str, FieldPath | None], ...]

    def text(self, word: Callable[[FieldPath], str]) -> str:
        """Return the name; `word` says a field's value."""
        return "".join(text + (word(name) if name is not None else "") for text, name in self.parts)


def read_template(document: Document, node: Node, findings: Findings) -> NameTemplate | None:
    """Return the template of `job_name:`, None where it is wrong."""
    path = ("job_name",)
    if not isinstance(node, str) or not node:
        message = f"must be text with fields, not {printable(node)}"
        findings.add(document.problem(path, message, _EXAMPLE))
        return None
    try:
        parsed = list(string.Formatter().parse(node))
    except ValueError as error:
        findings.add(document.problem(path, str(error), "write {{ and }} for braces"))
        return None
    parts: list[tuple[str, FieldPath | None]] = []
    for text, name, spec, conversion in parsed:
        if spec or conversion:
            message = f"`{printable(name)}` has a format, which is not understood"
            findings.add(document.problem(path, message, _EXAMPLE))
            return None
        names = tuple(name.split(".")) if name is not None else None
        if names is not None and names != SEED and unknown_part(names) is not None:
            message = f"`{printable(name)}` names no field"
            findings.add(document.problem(path, message, _EXAMPLE))
            return None
        parts.append((text, names))
    return NameTemplate(tuple(parts))
