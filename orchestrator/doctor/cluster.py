"""Slurm, the backend that would be used, and the site file."""

from __future__ import annotations

from pathlib import Path

from orchestrator.doctor.check import Check, failed, passed, warned
from orchestrator.schedulers.slurm_commands import Broken, run
from orchestrator.schedulers.slurm_programs import find_program

_VERSION_SECONDS = 10.0


def cluster_checks(home: Path, site_file: Path | None) -> list[Check]:
    """Return the checks of Slurm, backend and site."""
    from orchestrator.schedulers.choice import controller_silent, slurm_missing

    missing = slurm_missing()
    silent = None if missing else controller_silent()
    site = site_check(site_file, home)
    return [slurm_check(missing, silent), backend_check(home, site), site]


def slurm_check(missing: str | None, silent: str | None) -> Check:
    """Return whether Slurm is there and answers; without Slurm the local backend works."""
    if missing is not None:
        return passed("slurm", f"not installed here: {missing}")
    if silent is not None:
        return warned(
            "slurm", silent, "ask the site, or try one of your own: scripts/slurm-cluster up"
        )
    accounting = "" if find_program("sacct") else "; without sacct"
    return passed("slurm", f"{_version()}, its controller answers{accounting}")


def _version() -> str:
    said = run(["sbatch", "--version"], seconds=_VERSION_SECONDS)
    if isinstance(said, Broken):
        return "a version that it does not say"
    return said.out.strip() or "a version that it does not say"


def site_check(site_file: Path | None, home: Path) -> Check:
    """Return which site.yaml counts and what it changes."""
    from orchestrator.site import SiteInvalid, load_site

    try:
        site = load_site(site_file, home=home)
    except SiteInvalid as error:
        first = error.problems[0]
        return failed("site", str(error), first.fix or f"correct {first.file}")
    return passed("site", "; ".join(site.describe()))


def backend_check(home: Path, site: Check) -> Check:
    """Return which backend `orch submit` would use without --backend, and why."""
    from orchestrator.schedulers.choice import BackendUnavailable, choose

    if not site.ok:
        return failed("backend", "not known while site.yaml cannot be used", site.fix)
    try:
        choice = choose("auto", home=home)
    except BackendUnavailable as error:
        return failed("backend", str(error), "--backend local runs on this machine")
    return passed("backend", f"{choice.scheduler.name} ({choice.reason})")
