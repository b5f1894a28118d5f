"""`profiles:` named sets of values that win over everything a cell has, e.g. for a quick trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.matrix.conditions import ConditionReader
from jobs.matrix.fields import SEED
from jobs.matrix.findings import Findings, Setting
from jobs.matrix.seeds import read_seeds
from jobs.names import MATRIX_NAME, MATRIX_NAME_RULE, printable
from jobs.suggestions import did_you_mean
from jobs.yaml_strict import Document, KeyPath, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a profile says. A matrix under a profile has a name of its own."""

    name: str
    settings: tuple[Setting, ...] = ()
    seeds: tuple[int, ...] | None = None  # instead of the matrix's

    def matrix_name(self, name: str) -> str:
        """Return the name of a matrix under this profile."""
        return f"{name}-{self.name}"


RESERVED = frozenset({"dry", "data"})  # print only; tokenise only


def choose_profile(document: Document, wanted: str | None, findings: Findings) -> Profile | None:
    """Return the wanted profile. All are read, so that a wrong one is found before it is wanted."""
    node = document.data.get("profiles") if isinstance(document.data, dict) else None
    found: dict[str, Profile] = {}
    if isinstance(node, dict) and node:
        found = {name: _profile(document, name, one, findings) for name, one in node.items()}
        for name in RESERVED & node.keys():
            message, fix = f"every matrix has a profile {name}", "choose another name"
            findings.add(document.problem(("profiles", name), message, fix, key=True))
    elif node is not None:
        message = f"must be a mapping, not {printable(node)}"
        fix = "write e.g. `dev: {train.steps: 4}`"
        findings.add(document.problem(("profiles",), message, fix))
    if wanted is None or wanted in found:
        return found.get(wanted or "")
    fix = did_you_mean(wanted, found) if found else "add `profiles:`, or leave --profile out"
    findings.add(document.problem(("profiles",), f"there is no profile {printable(wanted)}", fix))
    return None


def without(profile: Profile, sets: Sequence[Setting]) -> tuple[Setting, ...]:
    """Return the profile's settings but those that `--set` gives another value."""
    given = {setting.field for setting in sets}
    return tuple(setting for setting in profile.settings if setting.field not in given)


def _profile(document: Document, name: str, node: Node, findings: Findings) -> Profile:
    path: KeyPath = ("profiles", name)
    if not MATRIX_NAME.fullmatch(name):
        message = f"{printable(name)} is no name"
        findings.add(document.problem(path, message, f"use {MATRIX_NAME_RULE}", key=True))
    if not isinstance(node, dict) or not node:
        findings.add(document.problem(path, "must be a mapping", "write e.g. `train.steps: 4`"))
        return Profile(name=name)
    reader = ConditionReader(document, findings)
    settings: list[Setting] = []
    seeds = None
    for key, value in node.items():
        where = (*path, key)
        if key == "seeds":
            seeds = read_seeds(document, value, where, findings)
            continue
        field = reader.field(key, where)
        if field == SEED:
            message = "a profile gives all seeds or none"
            findings.add(document.problem(where, message, "write `seeds`", key=True))
        elif field is not None:
            settings.append(Setting(field=field, value=value, document=document, path=where))
    settings.sort(key=lambda setting: len(setting.field))  # a section before the keys inside it
    return Profile(name=name, settings=tuple(settings), seeds=seeds)
