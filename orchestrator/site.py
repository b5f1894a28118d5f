"""Finding and reading site.yaml: which file, is it safe to believe, what does it say.

Looked for in this order; the first that exists counts alone: `--site`, `$ORCH_SITE`,
`<state directory>/site.yaml`, `~/.config/orch/site.yaml`, `/etc/orch/site.yaml`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from jobs.contract.environment import SITE_FILE
from jobs.errors import MatrixInvalid, Problem
from jobs.yaml_strict import MAX_BYTES, Document, parse_yaml
from orchestrator.site_schema import Site

SYSTEM_FILE = Path("/etc/orch/site.yaml")

__all__ = ["FoundSite", "Site", "SiteInvalid", "find_site", "load_site", "read_site"]


class SiteInvalid(MatrixInvalid):
    """site.yaml cannot be used; nothing was changed. Lists every problem, in file order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSite:
    """A site, the file that says so (None: defaults), and by which rule it was found."""

    site: Site
    path: Path | None
    found_by: str

    def describe(self) -> tuple[str, ...]:
        """Return lines for people: which file, and what it changes."""
        if self.path is None:
            return ("no site.yaml: Slurm's own defaults",)
        effects = tuple(self.site.effects())
        return (f"{self.path} ({self.found_by})", *(effects or ("it changes nothing",)))


def load_site(
    explicit: Path | None,
    *,
    home: Path,
    environment: Mapping[str, str] = os.environ,
    system: Path = SYSTEM_FILE,
) -> FoundSite:
    """Find and read the site for the state directory `home`. Raises SiteInvalid."""
    found = find_site(explicit, home=home, environment=environment, system=system)
    if found is None:
        return FoundSite(site=Site(), path=None, found_by="none of the places has one")
    path, found_by = found
    return FoundSite(site=read_site(path), path=path, found_by=found_by)


def find_site(
    explicit: Path | None,
    *,
    home: Path,
    environment: Mapping[str, str] = os.environ,
    system: Path = SYSTEM_FILE,
) -> tuple[Path, str] | None:
    """Return the file that counts and the rule; a named file that is missing still counts."""
    if explicit is not None:
        return explicit.absolute(), "--site"
    named = environment.get(SITE_FILE)
    if named:
        return Path(named).absolute(), f"${SITE_FILE}"
    for path, found_by in _places(home, environment, system):
        if path.exists() or path.is_symlink():
            return path, found_by
    return None


def _places(home: Path, environment: Mapping[str, str], system: Path) -> Iterator[tuple[Path, str]]:
    yield home / "site.yaml", "the state directory"
    config = environment.get("XDG_CONFIG_HOME", "")
    if config.startswith("/"):
        yield Path(config) / "orch" / "site.yaml", "the user's"
    elif environment.get("HOME", "").startswith("/"):
        yield Path(environment["HOME"]) / ".config" / "orch" / "site.yaml", "the user's"
    yield system, "the system's"


def read_site(path: Path) -> Site:
    """Return what a site.yaml says. Raises SiteInvalid with every problem found."""
    try:
        document = parse_yaml(_read_safely(path), file=str(path))
    except SiteInvalid:
        raise
    except MatrixInvalid as error:
        raise SiteInvalid(error.problems) from None
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        raise SiteInvalid([document.problem((), "not a mapping", "write `key: value` lines")])
    try:
        return Site.model_validate(data)
    except ValidationError as error:
        raise SiteInvalid(_problems(error, document)) from None


def _read_safely(path: Path) -> bytes:
    """Return the file's bytes if only its owner, who is us or root, could have written them."""
    try:
        with path.open("rb") as file:
            _check_owner(path, os.fstat(file.fileno()))
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refused(path, error.strerror or str(error), "check --site and $ORCH_SITE") from error


def _check_owner(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "not a regular file", "name a file")
    if status.st_uid not in (os.geteuid(), 0):
        raise _refused(
            path,
            f"belongs to user {status.st_uid}; its shell lines would run as you",
            "use a copy of your own",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(path, "others may write it, and it may hold shell", f"chmod go-w {path}")
    directory = path.parent.stat()
    if directory.st_mode & stat.S_IWOTH and not directory.st_mode & stat.S_ISVTX:
        raise _refused(
            path, f"everybody may replace it in {path.parent}", f"chmod o-w {path.parent}"
        )


def _refused(path: Path, message: str, fix: str) -> SiteInvalid:
    return SiteInvalid(
        [Problem(file=str(path), line=1, column=1, key="", message=message, fix=fix)]
    )


def _problems(error: ValidationError, document: Document) -> Iterator[Problem]:
    for one in error.errors(include_url=False):
        # pydantic adds names of union members to the location: keep what the file has
        where: tuple[str | int, ...] = ()
        for part in one["loc"]:
            if (*where, part) not in document.values and (*where, part) not in document.keys:
                break
            where = (*where, part)
        unknown = one["type"] == "extra_forbidden"
        message = "unknown key" if unknown else one["msg"].removeprefix("Value error, ")
        fix = f"one of: {', '.join(sorted(Site.model_fields))}" if unknown else "correct the value"
        yield document.problem(where, message, fix, key=unknown)
