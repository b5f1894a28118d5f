"""Loading matrices whose hub models and data sets may still have to be fetched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli import streams
from orchestrator.cli.session import load_matrices

if TYPE_CHECKING:
    from jobs.contract.records import WorkerSite
    from jobs.errors import HubRepo, Problem
    from jobs.matrix import Matrix
    from orchestrator.hub import Fetched


def load_here(
    paths: Sequence[Path],
    overrides: Sequence[str],
    site: WorkerSite,
    *,
    profile: str | None = None,
    absent_ok: bool = False,
) -> list[Matrix]:
    """Return the matrices; hub models and data are looked for where the jobs will look.

    `absent_ok`: for a plan only; what is not here is `missing`. Raises `MatrixInvalid`.
    """
    from jobs.sources import hub_cache

    if site.hub_cache is not None and Path(site.hub_cache) != hub_cache():
        os.environ["HF_HUB_CACHE"] = site.hub_cache
    return load_matrices(paths, overrides, site, profile=profile, absent_ok=absent_ok)


def load_fetched(
    paths: Sequence[Path],
    overrides: Sequence[str],
    site: WorkerSite,
    *,
    profile: str | None = None,
    offline: bool = False,
) -> tuple[list[Matrix], list[Fetched]]:
    """Return the matrices and what was fetched for them, each once, and say it.

    Raises `MatrixInvalid`; nothing is fetched while anything else is wrong with the matrices.
    """
    from jobs.errors import MatrixInvalid
    from orchestrator.hub import is_offline

    try:
        return load_here(paths, overrides, site, profile=profile), []
    except MatrixInvalid as error:
        if offline or is_offline() or any(problem.fetchable is None for problem in error.problems):
            raise
        fetched = _fetch_all(error.problems)
    _say(fetched)
    return load_matrices(paths, overrides, site, profile=profile), fetched


def _fetch_all(problems: Sequence[Problem]) -> list[Fetched]:
    """Fetch what the problems lack. Raises `MatrixInvalid` with those that stay."""
    from jobs.errors import MatrixInvalid
    from orchestrator.hub import NotFetched, fetch

    fetched: dict[HubRepo, Fetched] = {}
    failed: dict[HubRepo, NotFetched] = {}
    left = []
    for problem in problems:
        source = problem.fetchable
        if source is None:
            continue
        if source not in fetched and source not in failed:
            streams.say(f"fetching {source.repo} {source.revision or 'main'}")
            try:
                fetched[source] = fetch(source, say=streams.say)
            except NotFetched as error:
                failed[source] = error
        if source in failed:
            why = failed[source]
            left.append(replace(problem, message=f"{problem.message}; {why}", fix=why.fix))
    if left:
        raise MatrixInvalid(left)
    return list(fetched.values())


def _say(fetched: Sequence[Fetched]) -> None:
    """Say what is there now, and which commit a moving name stands for."""
    from orchestrator.views.text import clean

    for one in fetched:
        name = clean(one.source.repo)
        line = f"{'fetched' if one.downloaded else 'has'} {name}: commit {clean(one.commit)}"
        if one.source.revision is None and one.source.weights:
            line += f" (`revision: {clean(one.commit)}` in the matrix pins it)"
        streams.say(line)
