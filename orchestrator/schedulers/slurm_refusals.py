"""Slurm's words when it refuses a job, whether repeating can help, and what to change. Data.

The texts are those of Slurm's own error table (`slurm_errno.c`); what is not here is not a
refusal but an uncertain outcome.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.schedulers.base import Refused


@dataclass(frozen=True, slots=True)
class _Rule:
    words: str
    permanent: bool
    hint: str


_RULES = (
    _Rule("Invalid partition name specified", True, "set `partition` in site.yaml (see sinfo)"),
    _Rule(
        "Invalid account or account/partition combination specified",
        True,
        "set `account` (and `partition`) in site.yaml; sacctmgr show assoc user=$USER lists yours",
    ),
    _Rule("Invalid qos specification", True, "set `qos` in site.yaml"),
    _Rule("Invalid wckey specification", True, "set `extra: {wckey: …}` in site.yaml"),
    _Rule("Requested reservation is invalid", True, "set `reservation` in site.yaml"),
    _Rule("Access denied to requested reservation", True, "set `reservation` in site.yaml"),
    _Rule("Requested reservation not usable now", False, "`reservation` in site.yaml"),
    _Rule("Invalid feature specification", True, "set `constraint` in site.yaml"),
    _Rule(
        "Invalid generic resource (gres) specification",
        True,
        "set `gpus` in site.yaml, or resources.gpus_per_rank in the matrix",
    ),
    _Rule("Invalid Trackable RESource (TRES) specification", True, "set `gpus` in site.yaml"),
    _Rule(
        "Requested node configuration is not available",
        True,
        "no node of the partition has what is asked for: look at `partition`, `constraint` and"
        " `gpus` in site.yaml and at ranks, resources.memory_gb and resources.nodes",
    ),
    _Rule("Memory required by task is not available", True, "lower resources.memory_gb"),
    _Rule("Memory specification can not be satisfied", True, "lower resources.memory_gb"),
    _Rule("CPU count specification invalid", True, "lower engine.ranks or threads_per_rank"),
    _Rule("CPU count per node can not be satisfied", True, "lower engine.ranks or resources.nodes"),
    _Rule("Node count specification invalid", True, "lower resources.nodes"),
    _Rule("More processors requested than permitted", True, "lower engine.ranks"),
    _Rule(
        "Requested time limit is invalid (missing or exceeds some limit)",
        True,
        "lower resources.time_limit_minutes, or choose another `partition` in site.yaml",
    ),
    _Rule("Invalid time limit specification", True, "lower resources.time_limit_minutes"),
    _Rule(
        "User's group not permitted to use this partition",
        True,
        "choose another `partition` in site.yaml",
    ),
    _Rule("Access/permission denied", True, "ask the site; `account` and `partition` in site.yaml"),
    _Rule("Invalid node name specified", True, "correct `exclude` (or nodelist) in site.yaml"),
    _Rule("Requested nodes not in this partition", True, "correct `partition` in site.yaml"),
    _Rule("Invalid job array specification", True, "the array is above the site's MaxArraySize"),
    _Rule("unrecognized option", True, "this Slurm does not know an option: see `extra`"),
    _Rule("Invalid user id", False, "the site does not know your account yet"),
    _Rule(
        "Job violates accounting/QOS policy",
        False,
        "a submit limit of account or QOS: more is submitted as jobs end; else `qos` in site.yaml",
    ),
    _Rule("Requested partition configuration not available now", False, "the partition is down"),
    _Rule("Required partition not available (inactive or drain)", False, "the partition is down"),
    _Rule("Required node not available (down, drained or reserved)", False, "nodes are down"),
    _Rule("Requested nodes are busy", False, "nodes are busy"),
    _Rule("Resource temporarily unavailable", False, "the controller is busy"),
)


def refusal(stderr: str) -> Refused | None:
    """Return the refusal that sbatch's stderr states, None for words that prove nothing."""
    for rule in _RULES:
        if rule.words in stderr:
            line = next(line for line in stderr.splitlines() if rule.words in line)
            return Refused(
                reason=line.strip()[:300].encode("ascii", "replace").decode(),
                permanent=rule.permanent,
                hint=rule.hint,
            )
    return None
