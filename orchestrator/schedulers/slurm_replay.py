"""Recorded words of squeue and sacct, made into answers again by what reads the live ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from orchestrator.recordings import TEXT_CHARS, HeardText
from orchestrator.schedulers.base import Answer, TaskKey, Unreachable
from orchestrator.schedulers.slurm_answers import answer, by_task
from orchestrator.schedulers.slurm_commands import Broken, Ran
from orchestrator.schedulers.slurm_parse import Marks
from orchestrator.schedulers.slurm_queries import (
    Accounts,
    Heard,
    NoAnswer,
    understand_accounts,
    understand_queue,
)

# The marks of a call are random; recordings have these instead, so that equal answers are equal.
RECORDED = Marks(separator="~separator~", end="~end!")


def recorded(heard: Sequence[Heard]) -> tuple[HeardText, ...]:
    """Return what was heard, as recordings keep it."""
    return tuple(_recorded(one) for one in heard)


def _recorded(heard: Heard) -> HeardText:
    said, marks = heard.said, heard.marks

    def plain(text: str) -> str:
        return text.replace(marks.separator, RECORDED.separator).replace(marks.end, RECORDED.end)

    out, err = plain(said.out), plain(said.err)
    return HeardText(
        argv=tuple(plain(word) for word in heard.argv),
        code=said.code if isinstance(said, Ran) else None,
        broken=said.reason if isinstance(said, Broken) else None,
        out=out[:TEXT_CHARS],
        err=err[:TEXT_CHARS],
        cut=len(out) > TEXT_CHARS,
        digest=hashlib.sha256(f"{out}\0{err}".encode("utf-8", "surrogatepass")).hexdigest(),
    )


def answers_of(
    heard: Sequence[HeardText],
    keys: Sequence[TaskKey],
    *,
    site_uids: frozenset[int] = frozenset({0}),
) -> Mapping[TaskKey, Answer]:
    """Return the answers that these words gave, or would give now. Pure.

    `site_uids`: whose cancels are the site's, as for `answer`.
    """
    said = {one.argv[0]: one for one in heard}
    try:
        queue = by_task(understand_queue(_said(said["squeue"]), RECORDED))
    except NoAnswer as error:
        return dict.fromkeys(keys, Unreachable(reason=str(error)))
    accounts: Accounts | str | None = None
    if "sacct" in said:
        try:
            accounts = understand_accounts(_said(said["sacct"]), RECORDED)
        except NoAnswer as error:
            accounts = str(error)
    return {key: answer(queue, key, accounts, site_uids=site_uids) for key in keys}


def _said(heard: HeardText) -> Ran | Broken:
    if heard.code is None or heard.cut:
        reason = heard.broken or f"{heard.argv[0]}: the recording is not whole"
        return Broken(reason=reason, started=True, out=heard.out, err=heard.err)
    return Ran(code=heard.code, out=heard.out, err=heard.err)
