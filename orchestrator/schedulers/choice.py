"""Which scheduler serves new work, and why; what needs Slurm is imported only for Slurm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.schedulers.base import Scheduler
from orchestrator.schedulers.local import LocalScheduler
from orchestrator.schedulers.slurm_programs import find_program

if TYPE_CHECKING:
    from orchestrator.site import Site

Backend = Literal["auto", "local", "slurm"]
PING_SECONDS = 10.0
_COMMANDS = ("sbatch", "squeue", "scontrol")


class BackendUnavailable(RuntimeError):
    """The backend that was asked for cannot be used here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The scheduler for new work, the reason, and the others that old work may live on."""

    scheduler: Scheduler
    reason: str
    others: Mapping[str, Scheduler] = field(default_factory=dict)


def choose(
    backend: Backend,
    *,
    home: Path,
    site: Site | None = None,
    slots: int | None = None,
    ask: bool = True,
) -> Choice:
    """Return the scheduler for `backend`. Raises `BackendUnavailable` for an explicit slurm.

    `ask`: whether to ping the controller of an explicit slurm; who looks at it next need not.
    `slots`: CPUs that the local scheduler may use; default: all that this process may use.
    """
    local = LocalScheduler(home, cpus=slots)
    if backend == "local":
        others = {"slurm": _slurm(home, site)} if slurm_missing() is None else {}
        return Choice(scheduler=local, reason="asked for: this machine", others=others)
    why_not = slurm_missing()
    if why_not is None and (ask or backend == "auto"):
        why_not = controller_silent()
    if why_not is None:
        reason = "asked for" if backend == "slurm" else "sbatch is here and its controller answers"
        slurm = _slurm(home, site)
        return Choice(scheduler=slurm, reason=f"Slurm: {reason}", others={"local": local})
    if backend == "slurm":
        raise BackendUnavailable(f"no Slurm to use: {why_not}")
    return Choice(scheduler=local, reason=f"this machine, since {why_not}")


def slurm_missing() -> str | None:
    """Return which of Slurm's commands is not on PATH, None when all are."""
    missing = [command for command in _COMMANDS if find_program(command) is None]
    return f"{', '.join(missing)} not on PATH" if missing else None


def controller_silent() -> str | None:
    """Return why Slurm's controller does not answer, None when it does."""
    from orchestrator.schedulers.slurm_commands import Broken, run

    answer = run(["scontrol", "ping"], seconds=PING_SECONDS)
    if isinstance(answer, Broken):
        return f"its controller did not answer: {answer.reason}"
    if answer.code == 0 and " UP" in answer.out:
        return None
    said = (answer.out + answer.err).strip().splitlines()
    return f"its controller does not answer ({said[0][:200] if said else 'no words'})"


def _slurm(home: Path, site: Site | None) -> Scheduler:
    from orchestrator.schedulers.slurm import SlurmScheduler

    return SlurmScheduler(home, site=site)
