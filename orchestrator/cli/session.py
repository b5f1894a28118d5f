"""Opening the service for a verb: which state directory, which scheduler, which site."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.contract.environment import SITE_FILE, STATE_HOME
from jobs.contract.paths import StateDir
from orchestrator.cli.backend import Backend
from orchestrator.cli.exits import Exit, Stop
from orchestrator.cli.streams import hint, say

if TYPE_CHECKING:
    from jobs.contract.records import WorkerSite
    from jobs.matrix import Matrix
    from orchestrator.reader import Reader
    from orchestrator.rows import Plan
    from orchestrator.schedulers.choice import Choice
    from orchestrator.service import Service
    from orchestrator.site import FoundSite

DEFAULT_HOME = ".orch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Where jobs go, and how it came to that."""

    choice: Choice
    home: Path
    site: FoundSite
    site_file: Path | None  # only where one was named
    slots: int | None

    @property
    def name(self) -> str:
        """`local` or `slurm`."""
        return self.choice.scheduler.name

    @property
    def reason(self) -> str:
        """Why this one."""
        return self.choice.reason

    @property
    def worker_site(self) -> WorkerSite:
        """What of the site concerns workers."""
        return self.site.site.worker_site()

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        return "Slurm" if self.name == "slurm" else "the local scheduler"


def state_home(site_file: Path | None = None) -> Path:
    """Return the absolute path of the state directory.

    $ORCH_HOME, else the site's `state_root`, else `.orch` in the working directory.
    """
    named = os.environ.get(STATE_HOME)
    if named:
        return Path(named).absolute()
    here = Path(DEFAULT_HOME).absolute()
    if site_file is None and not _may_have_site(here):
        return here
    from orchestrator.site import find_site, read_site

    found = find_site(site_file, home=here)
    state_root = read_site(found[0]).state_root if found else None
    return Path(state_root) if state_root else here


def _may_have_site(home: Path) -> bool:
    """Return whether a site.yaml may exist; reading one costs an import that status need not pay.

    A superset of the places of `orchestrator.site.find_site`.
    """
    if os.environ.get(SITE_FILE):
        return True
    config = [os.environ.get("XDG_CONFIG_HOME", ""), f"{os.environ.get('HOME', '')}/.config"]
    places = [home / "site.yaml", *(Path(place, "orch", "site.yaml") for place in config)]
    places.append(Path("/etc/orch/site.yaml"))
    return any(os.path.lexists(place) for place in places)


def has_state(home: Path) -> bool:
    """Return whether anything was ever submitted here; reading verbs create nothing.

    Raises `orchestrator.instance.StateRefused` where the database of what was submitted is gone,
    and where others could have put there what we would run.
    """
    from orchestrator.instance import require_database
    from orchestrator.ownership import require_own

    require_own(StateDir(home))
    require_database(StateDir(home))
    return StateDir(home).database.exists()


def open_reading(home: Path) -> Reader:
    """Return the state directory for looking only; it must exist."""
    from orchestrator.reader import Reader

    return Reader(home)


def require_state(home: Path, selector: str) -> None:
    """Raise `Stop` where nothing was ever submitted, so that no selector can match."""
    if not has_state(home):
        raise Stop(
            Exit.NOT_FOUND,
            f"{selector}: not found; nothing has been submitted in {home}",
            fix="orch submit matrix.yaml, or set ORCH_HOME to the state directory that you mean",
        )


def say_empty(home: Path) -> None:
    """Tell what to do where nothing was submitted yet."""
    say(f"nothing has been submitted in {home}")
    hint("orch submit matrix.yaml", "submit a matrix")


def plan_only(home: Path, matrices: Sequence[Matrix]) -> Plan:
    """Return what a submission would do; creates nothing where nothing is."""
    import tempfile

    from orchestrator.service import Service

    if has_state(home):
        return Service.open(home).plan(matrices)
    with tempfile.TemporaryDirectory(prefix="orch-plan-") as folder:
        service = Service.open(Path(folder) / "state")
        try:
            return service.plan(matrices)
        finally:
            service.close()


def choose_backend(
    home: Path,
    backend: Backend,
    site_file: Path | None,
    *,
    slots: int | None = None,
    ask: bool = True,
) -> Chosen:
    """Return where new work goes. Raises `Stop` when an explicit Slurm cannot be used.

    `auto` never falls back from Slurm to this machine once a state directory has used Slurm: a
    controller that is silent for a minute must not fill the login node with training runs.
    """
    from orchestrator.cli.remembered import remembered_choice
    from orchestrator.schedulers.choice import BackendUnavailable, choose
    from orchestrator.site import load_site

    remembered = remembered_choice(home)
    if backend is Backend.AUTO and remembered.backend == "slurm":
        backend = Backend.SLURM
    if site_file is None and remembered.site is not None:
        site_file = Path(remembered.site)
    slots = slots or remembered.slots
    site = load_site(site_file, home=home)
    try:
        choice = choose(backend.value, home=home, site=site.site, slots=slots, ask=ask)
    except BackendUnavailable as error:
        raise Stop(
            Exit.UNREACHABLE,
            str(error),
            fix="orch doctor says more; --backend local runs on this machine",
        ) from error
    return Chosen(choice=choice, home=home, site=site, site_file=site_file, slots=slots)


def load_matrices(
    paths: Sequence[Path],
    overrides: Sequence[str],
    site: WorkerSite,
    *,
    profile: str | None = None,
    absent_ok: bool = False,
) -> list[Matrix]:
    """Return the matrices. Raises `MatrixInvalid` with the problems of all files together.

    `absent_ok`: for a plan only, as `jobs.matrix.load_matrix` has it.
    """
    from jobs.errors import MatrixInvalid, Problem
    from jobs.matrix import load_matrix

    matrices, problems = [], list[Problem]()
    models_root = Path(site.models_root) if site.models_root else None
    data_root = Path(site.data_root) if site.data_root else None
    for path in paths:
        try:
            matrix = load_matrix(
                path,
                models_root=models_root,
                data_root=data_root,
                sets=overrides,
                profile=profile,
                absent_ok=absent_ok,
            )
            matrices.append(matrix)
        except MatrixInvalid as error:
            problems += error.problems
    if problems:
        raise MatrixInvalid(problems)
    return matrices


def open_with(chosen: Chosen) -> Service:
    """Return the service with the chosen scheduler."""
    from orchestrator.service import Service

    return Service.open(
        chosen.home,
        scheduler=chosen.choice.scheduler,
        schedulers=chosen.choice.others,
        site=chosen.worker_site,
        max_in_flight=chosen.site.site.max_in_flight,
        node_rules=chosen.site.site.node_strikes.rules(),
    )


def open_acting(
    home: Path,
    *,
    backend: Backend | None = None,
    site: Path | None = None,
    slots: int | None = None,
) -> Service:
    """Return the service for a verb that acts on jobs that exist: with their backend.

    Its first look tells whether the controller answers: no ping comes before it.
    """
    from orchestrator.cli.remembered import remembered_choice

    asked = backend or Backend(remembered_choice(home).backend)
    return open_with(choose_backend(home, asked, site, slots=slots, ask=False))


def remember(chosen: Chosen) -> None:
    """Keep the choice for the verbs that act on these jobs later."""
    from orchestrator.cli.remembered import RememberedChoice, remember_choice

    site = None if chosen.site_file is None else str(chosen.site_file.absolute())
    choice = RememberedChoice.model_validate(
        {"backend": chosen.name, "site": site, "slots": chosen.slots}
    )
    remember_choice(chosen.home, choice)
