"""Is less grace time given than a matrix counts with? Said at submission. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.spec import JobSpec
from orchestrator.site_schema import PreemptionFacts


def grace_warning(specs: Iterable[JobSpec], facts: PreemptionFacts) -> str | None:
    """Return what a person should know before the first preemption; None: all is well.

    With a grace time of 0 the ranks have what Slurm's KillWait leaves.
    """
    given = facts.grace_seconds
    if given is None or facts.mode in ("SUSPEND", "OFF"):
        return None
    if given == 0 and facts.kill_wait_seconds is not None:
        given = facts.kill_wait_seconds
    wanted = max((spec.run.grace_seconds for spec in specs), default=0.0)
    if wanted <= given:
        return None
    return (
        f"grace_seconds is {wanted:g}, but site.yaml says that preemption leaves {given:g} s: saves"
        f" would be cut off; set grace_seconds to {given:g}"
    )
