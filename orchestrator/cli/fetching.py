"""Loading matrices whose hub models may still have to be fetched."""

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
    from jobs.errors import HubModel, Problem
    from jobs.matrix import Matrix
    from orchestrator.hub import Fetched


def load_here(paths: Sequence[Path], overrides: Sequence[str], site: WorkerSite) -> list[Matrix]:
    """Return the matrices; hub models are looked for where the jobs will look.

    Raises `MatrixInvalid`.
    """
    from jobs.sources import hub_cache

    if site.hub_cache is not None and Path(site.hub_cache) != hub_cache():
        os.environ["HF_HUB_CACHE"] = site.hub_cache
    return load_matrices(paths, overrides, site)


def load_fetched(
    paths: Sequence[Path], overrides: Sequence[str], site: WorkerSite, *, offline: bool = False
) -> tuple[list[Matrix], list[Fetched]]:
    """Return the matrices and what was fetched for them, each model once, and say it.

    Raises `MatrixInvalid`; nothing is fetched while anything else is wrong with the matrices.
    """
    from jobs.errors import MatrixInvalid
    from orchestrator.hub import is_offline

    try:
        return load_here(paths, overrides, site), []
    except MatrixInvalid as error:
        if offline or is_offline() or any(problem.fetchable is None for problem in error.problems):
            raise
        fetched = _fetch_all(error.problems)
    _say(fetched)
    return load_matrices(paths, overrides, site), fetched


def _fetch_all(problems: Sequence[Problem]) -> list[Fetched]:
    """Fetch what the problems lack. Raises `MatrixInvalid` with those that stay."""
    from jobs.errors import MatrixInvalid
    from orchestrator.hub import NotFetched, fetch

    fetched: dict[HubModel, Fetched] = {}
    failed: dict[HubModel, NotFetched] = {}
    left = []
    for problem in problems:
        model = problem.fetchable
        if model is None:
            continue
        if model not in fetched and model not in failed:
            streams.say(f"fetching {model.repo} {model.revision or 'main'}")
            try:
                fetched[model] = fetch(model, say=streams.say)
            except NotFetched as error:
                failed[model] = error
        if model in failed:
            why = failed[model]
            left.append(replace(problem, message=f"{problem.message}; {why}", fix=why.fix))
    if left:
        raise MatrixInvalid(left)
    return list(fetched.values())


def _say(fetched: Sequence[Fetched]) -> None:
    """Say what is there now, and which commit a moving name stands for."""
    from orchestrator.views.text import clean

    for one in fetched:
        name = clean(one.model.repo)
        line = f"{'fetched' if one.downloaded else 'has'} {name}: commit {clean(one.commit)}"
        if one.model.revision is None and one.model.weights:
            line += f" (`revision: {clean(one.commit)}` in the matrix pins it)"
        streams.say(line)
