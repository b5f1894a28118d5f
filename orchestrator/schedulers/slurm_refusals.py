"""Slurm's words when it refuses a job, whether repeating can help, and what to change. Data.

The texts are those of Slurm's own error table (`slurm_errno.c`); what is not here is not a
refusal but an uncertain outcome.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.schedulers.base import Refused


@dataclass(frozen=True, slots=True)
class _Rule:
    words: str
    permanent: bool
    hint: str
    # `sbatch --test-only` may be believed, too. Not so where nodes are counted: with every node
    # drained it calls impossible what sbatch would take and queue (measured).
    named: bool = False


_RULES = (
    _Rule(
        "Invalid partition name specified", True, "set `partition` in site.yaml (see sinfo)", True
    ),
    _Rule(
        "Invalid account or account/partition combination specified",
        True,
        "set `account` (and `partition`) in site.yaml; sacctmgr show assoc user=$USER lists yours",
        True,
    ),
    _Rule("Invalid qos specification", True, "set `qos` in site.yaml", True),
    _Rule("Invalid wckey specification", True, "set `extra: {wckey: …}` in site.yaml", True),
    _Rule("Requested reservation is invalid", True, "set `reservation` in site.yaml", True),
    _Rule("Access denied to requested reservation", True, "set `reservation` in site.yaml", True),
    _Rule("Requested reservation not usable now", False, "`reservation` in site.yaml"),
    _Rule("Invalid feature specification", True, "set `constraint` in site.yaml", True),
    _Rule(
        "Invalid generic resource (gres) specification",
        True,
        "set `gpus` in site.yaml, or resources.gpus_per_rank in the matrix",
        True,
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
        True,
    ),
    _Rule("Access/permission denied", True, "ask the site; `account` and `partition` in site.yaml"),
    _Rule("Invalid node name specified", True, "correct `exclude` (or nodelist) in site.yaml"),
    _Rule("Requested nodes not in this partition", True, "correct `partition` in site.yaml"),
    _Rule("unrecognized option", True, "this Slurm does not know an option: see `extra`"),
    _Rule("Invalid user id", False, "the site does not know your account yet"),
    _Rule("Requested partition configuration not available now", False, "the partition is down"),
    _Rule("Required partition not available (inactive or drain)", False, "the partition is down"),
    _Rule("Required node not available (down, drained or reserved)", False, "nodes are down"),
    _Rule("Requested nodes are busy", False, "nodes are busy"),
    _Rule("Resource temporarily unavailable", False, "the controller is busy"),
)


# Slurm says "Job violates accounting/QOS policy" of limits on how much may be submitted, and of
# jobs that are too big for ever; the word before it tells which (22.05; elsewhere it may lack).
_POLICY = "Job violates accounting/QOS policy"
_POLICY_WORD = re.compile(r"\b(?:Assoc|QOS)[A-Za-z]{1,60}\b")
_COUNTS_SUBMITTED = re.compile(r"SubmitJob|GrpSubmit")
_ARRAY = "Invalid job array specification"


def refusal(stderr: str, *, tasks: int = 1) -> Refused | None:
    """Return the refusal of so many tasks that sbatch's stderr states.

    None for words that prove nothing.
    """
    if _POLICY in stderr:
        return _policy(stderr)
    if _ARRAY in stderr:
        return Refused(
            reason=_line(stderr, _ARRAY),
            permanent=tasks == 1,
            hint="arrays are switched off: the site's MaxArraySize" if tasks == 1 else "",
            limit=tasks > 1,
        )
    rule = next((rule for rule in _RULES if rule.words in stderr), None)
    if rule is None:
        return None
    return Refused(reason=_line(stderr, rule.words), permanent=rule.permanent, hint=rule.hint)


def named_refusal(stderr: str) -> Refused | None:
    """Return the refusal of a name (account, partition, …) that stderr states, else None."""
    rule = next((rule for rule in _RULES if rule.named and rule.words in stderr), None)
    if rule is None:
        return None
    return Refused(reason=_line(stderr, rule.words), permanent=True, hint=rule.hint)


def _policy(stderr: str) -> Refused:
    word = _POLICY_WORD.search(stderr)
    if word is None or _COUNTS_SUBMITTED.search(word[0]):
        return Refused(
            reason=word[0] if word else _line(stderr, _POLICY),
            permanent=False,
            hint="more is submitted as jobs end; another `qos` or `account` in site.yaml has"
            " other limits",
            limit=True,
        )
    return Refused(
        reason=f"{word[0]}: {_line(stderr, _POLICY)}",
        permanent=True,
        hint="lower time_limit_minutes, memory_gb or ranks, or set another `qos` in site.yaml",
    )


def _line(stderr: str, words: str) -> str:
    line = next(line for line in stderr.splitlines() if words in line)
    return line.strip()[:300].encode("ascii", "replace").decode()
