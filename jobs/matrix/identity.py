"""Identities of many jobs whose sections are shared: each section is written to JSON once.

The same as `jobs.spec.job_id`, of which a test holds it to be a faster spelling.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from jobs.names import check_job_name
from jobs.spec import CommandSemantic, JobSpec, Run, Semantic, canonical_json


@dataclass(frozen=True, slots=True)
class _Fields:
    """A kind of semantic part, as canonical JSON writes it."""

    names: tuple[str, ...]  # sorted
    given: set[str]
    defaults: dict[str, Any]

    @classmethod
    def of(cls, kind: type[BaseModel]) -> _Fields:
        fields = kind.model_fields
        defaults = {name: f.default for name, f in fields.items() if not f.is_required()}
        return cls(tuple(sorted(fields)), set(fields), defaults)


_FIELDS = {kind: _Fields.of(kind) for kind in (Semantic, CommandSemantic)}
_SPEC_FIELDS = set(JobSpec.model_fields)


class Identities:
    """Computes job ids; remembers the text of every section that it has seen."""

    def __init__(self) -> None:
        # The section is kept, so that its id stays its own.
        self._texts: dict[tuple[str, int], tuple[object, bytes]] = {}

    def job_id(self, semantic: Semantic | CommandSemantic) -> str:
        """Return the job id of a semantic part."""
        values, fields = semantic.__dict__, _FIELDS[type(semantic)]
        parts = [self._text(name, values[name], fields) for name in fields.names]
        text = b"{" + b",".join(part for part in parts if part) + b"}"
        return hashlib.sha256(text).hexdigest()[:16]

    def _text(self, name: str, value: object, fields: _Fields) -> bytes:
        """Return `"name":value`, or nothing for a default, which is no part of an identity."""
        known = self._texts.get((name, id(value)))
        if known is None:
            known = self._texts[(name, id(value))] = (value, _written(name, value, fields))
        return known[1]


def _written(name: str, value: Any, fields: _Fields) -> bytes:
    if name in fields.defaults and value == fields.defaults[name]:
        return b""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    return b'"%s":%s' % (name.encode(), canonical_json(value))


def with_seed(semantic: Semantic | CommandSemantic, seed: int) -> Semantic | CommandSemantic:
    """Return the same experiment with another seed, which was judged already.

    Nothing in the semantic part depends on the seed, so it is not validated again.
    """
    kind = type(semantic)
    return kind.model_construct(_FIELDS[kind].given, **{**semantic.__dict__, "seed": seed})


def make_spec(identity: str, name: str, semantic: Semantic | CommandSemantic, run: Run) -> JobSpec:
    """Return a spec of validated parts whose id was just computed from them.

    Raises `jobs.names.BadName`.
    """
    return JobSpec.model_construct(
        _SPEC_FIELDS,
        schema_version=1,
        id=identity,
        name=check_job_name(name),
        semantic=semantic,
        run=run,
    )
