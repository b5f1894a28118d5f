"""`--set train.steps=40`: one-off values for what all cells share."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.errors import MatrixInvalid, Problem
from jobs.matrix.blocks import Block
from jobs.matrix.fields import RESERVED, fix_for, unknown_part
from jobs.matrix.findings import Findings, Setting
from jobs.names import printable
from jobs.yaml_strict import parse_yaml


def read_sets(sets: Sequence[str], blocks: Sequence[Block], findings: Findings) -> list[Setting]:
    """Return the settings of `KEY=VALUE` texts; the value is YAML. Problems name `--set`."""
    settings = []
    for text in sets:
        setting = _read_set(text, findings)
        if setting is None:
            continue
        axis = _axis_over(setting, blocks)
        if axis is not None:
            message = f"the matrix itself sets `{axis}`, which would win"
            findings.add(_problem(text, message, f"remove `{axis}` from `matrix:`"))
        settings.append(setting)
    return settings


def _read_set(text: str, findings: Findings) -> Setting | None:
    key, equals, value = text.partition("=")
    field = tuple(key.strip().split("."))
    if not equals or not value.strip():
        findings.add(_problem(text, "has no value", "write KEY=VALUE, e.g. train.steps=40"))
        return None
    if unknown_part(field) is not None or field[:2] in RESERVED:
        findings.add(_problem(text, f"{printable(key)} names no field", fix_for(field)))
        return None
    if field == ("seed",):
        findings.add(_problem(text, "seeds are not shared by cells", "change `seeds:` in the file"))
        return None
    try:
        document = parse_yaml(value.encode(errors="surrogateescape"), file=_label(text))
    except MatrixInvalid as error:
        findings.extend(error.problems)
        return None
    return Setting(field=field, value=document.data, document=document, path=())


def _axis_over(setting: Setting, blocks: Sequence[Block]) -> str | None:
    for block in blocks:
        fields = [axis.field for axis in (*block.grid, *block.rows)]
        for field in (*fields, *(constant.field for constant in block.constants)):
            if setting.field[: len(field)] == field:
                return ".".join(field)
    return None


def _problem(text: str, message: str, fix: str) -> Problem:
    return Problem(file=_label(text), line=1, column=1, key="", message=message, fix=fix)


def _label(text: str) -> str:
    return f"--set {printable(text).strip('`')}"
