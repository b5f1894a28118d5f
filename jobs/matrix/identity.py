"""Identities of many jobs whose sections are shared: each section is written to JSON once.

The same as `jobs.spec.job_id`, of which a test holds it to be a faster spelling.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeVar

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

ModelT = TypeVar("ModelT", bound=BaseModel)


class Identities:
    """Computes job ids; remembers the text of every section that it has seen."""

    def __init__(self) -> None:
        # The section is kept, so that its id stays its own.
        self._texts: dict[tuple[str, int], tuple[object, bytes]] = {}

    def job_id(self, semantic: Semantic | CommandSemantic) -> str:
        """Return the job id of a semantic part."""
        head, tail = self.around_seed(semantic)
        return _digest(head + str(semantic.seed).encode() + tail)

    def around_seed(self, semantic: Semantic | CommandSemantic) -> tuple[bytes, bytes]:
        """Return the canonical text before and after the seed's number."""
        values, fields = semantic.__dict__, _FIELDS[type(semantic)]
        place = fields.names.index("seed")
        before = [self._text(name, values[name], fields) for name in fields.names[:place]]
        after = [self._text(name, values[name], fields) for name in fields.names[place + 1 :]]
        head = b"".join(part + b"," for part in before if part)
        tail = b"".join(b"," + part for part in after if part)
        return b'{%s"seed":' % head, tail + b"}"

    def _text(self, name: str, value: object, fields: _Fields) -> bytes:
        """Return `"name":value`, or nothing for a default, which is no part of an identity."""
        known = self._texts.get((name, id(value)))
        if known is None:
            known = self._texts[(name, id(value))] = (value, _written(name, value, fields))
        return known[1]


class Siblings:
    """An experiment with any seed: nothing else in the semantic part depends on it."""

    def __init__(self, semantic: Semantic | CommandSemantic, identities: Identities) -> None:
        self._semantic = semantic
        self._head, self._tail = identities.around_seed(semantic)

    def member(self, seed: int) -> tuple[Semantic | CommandSemantic, str]:
        """Return the experiment with a seed that was judged already, and its job id."""
        identity = _digest(self._head + str(seed).encode() + self._tail)
        kind = type(self._semantic)
        values = {**self._semantic.__dict__, "seed": seed}
        return _made(kind, _FIELDS[kind].given, values), identity


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _written(name: str, value: Any, fields: _Fields) -> bytes:
    if name in fields.defaults and value == fields.defaults[name]:
        return b""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    return b'"%s":%s' % (name.encode(), canonical_json(value))


def make_spec(identity: str, name: str, semantic: Semantic | CommandSemantic, run: Run) -> JobSpec:
    """Return a spec of validated parts whose id was just computed from them.

    Raises `jobs.names.BadName`.
    """
    values = {
        "schema_version": 1,
        "id": identity,
        "name": check_job_name(name),
        "semantic": semantic,
        "run": run,
    }
    return _made(JobSpec, _SPEC_FIELDS, values)


def _made(kind: type[ModelT], given: set[str], values: dict[str, Any]) -> ModelT:
    """Return a model of all its values, which were validated already.

    What `model_construct` does for such values in a quarter of the time: a matrix may have 100,000.
    """
    model = kind.__new__(kind)
    set_slot = object.__setattr__
    set_slot(model, "__dict__", values)
    set_slot(model, "__pydantic_fields_set__", given)
    set_slot(model, "__pydantic_extra__", None)
    set_slot(model, "__pydantic_private__", None)
    return model
