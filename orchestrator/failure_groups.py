"""Failed jobs grouped by what they failed with. Pure.

Equal tracebacks have equal digests (`worker.failures`), whatever numbers and paths they name.
What left no traceback is grouped by the class of its end and its reason without numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")
_PLACE = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)
ID_DIGITS = 8
MIN_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    """One failed job and its last end."""

    id: str
    name: str
    reason: str
    epoch: int | None
    end_class: str | None
    error_type: str | None
    error_message: str | None
    error_digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Jobs that failed with the same. `number` counts from 1, the largest group first."""

    number: int
    id: str  # stays the same while jobs come and go
    what: str  # the type of the error, or the class of the end
    message: str
    jobs: tuple[FailedJob, ...]

    @property
    def example(self) -> FailedJob:
        """The job whose traceback stands for all."""
        return self.jobs[0]


def group_failures(jobs: Iterable[FailedJob]) -> tuple[FailureGroup, ...]:
    """Return the groups, the largest first; equal sizes in the order of the jobs."""
    found: dict[str, list[FailedJob]] = {}
    for job in jobs:
        found.setdefault(_key(job), []).append(job)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return tuple(
        FailureGroup(
            number=number,
            id=key,
            what=_what(members[0]),
            message=_message(members[0]),
            jobs=tuple(members),
        )
        for number, (key, members) in enumerate(ordered, start=1)
    )


def choose_group(groups: Iterable[FailureGroup], wanted: str) -> FailureGroup | None:
    """Return the group with this number, or with this beginning of its id; None: no such."""
    for group in groups:
        if wanted == str(group.number):
            return group
    near = [g for g in groups if len(wanted) >= MIN_PREFIX and g.id.startswith(wanted.lower())]
    return near[0] if len(near) == 1 else None


def place_of(traceback: str) -> str:
    """Return `file:line` of the innermost frame of a traceback; empty without one."""
    frames = list(_PLACE.finditer(traceback))
    if not frames:
        return ""
    name = frames[-1]["file"].rsplit("/", 1)[-1]
    return f"{name}:{frames[-1]['line']}"


def _key(job: FailedJob) -> str:
    if job.error_digest:
        return job.error_digest.rpartition(":")[2][:ID_DIGITS]
    text = f"{job.end_class}\n{_NUMBERS.sub('#', job.reason)}"
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def _what(job: FailedJob) -> str:
    return job.error_type or job.end_class or "failed"


def _message(job: FailedJob) -> str:
    lines = (job.error_message or "").strip().splitlines()
    return lines[0] if lines else job.reason
