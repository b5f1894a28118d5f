"""Slurm's words for why a job waits: what each means, and what a person can do. Data.

The words are those of squeue's REASON column; a word may carry more in parentheses or after a
comma, which `explain_reason` leaves away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """A sentence, and what helps; an empty `fix` means that only time does."""

    says: str
    fix: str = ""


_QUEUE = "squeue --start -j {id} shows when Slurm expects to start it"
_ASK = "ask the site's support"
_LESS = "lower resources in the matrix, or ask for another partition in site.yaml"

REASONS: dict[str, Meaning] = {
    "None": Meaning("Slurm has not looked at it yet; it does so within a minute"),
    "Priority": Meaning("other jobs in the queue go first", _QUEUE),
    "Resources": Meaning("it is among the next, and its nodes are still taken", _QUEUE),
    "BeginTime": Meaning(
        "it was requeued, and Slurm waits two minutes before it starts again",
        "a watcher removes that wait: orch watch",
    ),
    "Cleaning": Meaning("Slurm still cleans up after its last run"),
    "Dependency": Meaning("another Slurm job must end first", "scontrol show job {id}"),
    "DependencyNeverSatisfied": Meaning(
        "the Slurm job that it waits for has failed: it will never start",
        "orch hold and orch release hand it over anew",
    ),
    "Licenses": Meaning("a licence that it asks for is in use", "scontrol show licenses"),
    "Reservation": Meaning(
        "its reservation has not begun, or is full", "scontrol show reservation"
    ),
    "ReservationDeleted": Meaning(
        "its reservation is gone", "change `reservation` in site.yaml, then hold and release it"
    ),
    "ReqNodeNotAvail": Meaning(
        "a node that it needs is down, drained or reserved for maintenance",
        "sinfo -R shows why; a shorter time limit may let it run before a maintenance",
    ),
    "NodeDown": Meaning("a node that it needs is down", "sinfo -R shows why"),
    "BadConstraints": Meaning(
        "no node can ever satisfy what it asks for", "check `constraint` and gres in site.yaml"
    ),
    "PartitionDown": Meaning("its partition is down", _ASK),
    "PartitionInactive": Meaning("its partition takes no jobs now", _ASK),
    "PartitionNodeLimit": Meaning("it asks for more nodes than its partition allows", _LESS),
    "PartitionTimeLimit": Meaning(
        "it asks for more time than its partition allows",
        "lower resources.time_limit_minutes: it comes back by itself after a time limit",
    ),
    "PartitionConfig": Meaning("its partition does not admit what it asks for", _LESS),
    "AccountNotAllowed": Meaning("its account may not use the partition", "`account` in site.yaml"),
    "InvalidAccount": Meaning("Slurm does not know its account", "`account` in site.yaml"),
    "InvalidQOS": Meaning("Slurm does not know its QOS", "`qos` in site.yaml"),
    "QOSNotAllowed": Meaning("its QOS may not be used there", "`qos` in site.yaml"),
    "JobHeldUser": Meaning("somebody holds it at Slurm", "orch release {job}"),
    "JobHeldAdmin": Meaning(
        "an administrator (or root) holds it at Slurm", "ask the site's support, then release it"
    ),
    "JobHoldMaxRequeue": Meaning(
        "Slurm has requeued it so often that it holds it", "orch release {job}"
    ),
    "launch failed requeued held": Meaning(
        "its launch failed on a node and Slurm holds it", "orch release {job}"
    ),
    "JobArrayTaskLimit": Meaning("its array runs as many tasks at once as it may"),
    "MaxMemPerLimit": Meaning("it asks for more memory than a job may have", _LESS),
    "Prolog": Meaning("its node's prolog runs"),
    "FrontEndDown": Meaning("a front-end node is down", _ASK),
    "SystemFailure": Meaning("Slurm had a failure", _ASK),
    "FedJobLock": Meaning("another cluster of the federation may start it"),
}

# Families of words: QOSMax…PerUserLimit, AssocGrp…Limit and the like.
_FAMILIES: tuple[tuple[re.Pattern[str], Meaning], ...] = (
    (
        re.compile(r"QOS(Max|Min|Grp).*|MaxJobsPerUser"),
        Meaning(
            "a limit of its QOS is reached ({word}): it starts when others of yours or your"
            " group's end",
            "sacctmgr show qos shows the limits",
        ),
    ),
    (
        re.compile(r"Assoc(Grp|Max).*|MaxJobsPerAccount"),
        Meaning(
            "a limit of your account is reached ({word}): it starts when others of it end",
            "sacctmgr show assoc user=$USER shows the limits",
        ),
    ),
    (
        re.compile(r"Max.*Per(User|Account|Job|Node).*"),
        Meaning("a limit of the site is reached ({word})", "scontrol show partition"),
    ),
    (
        re.compile(r"(Burst|Stage).*"),
        Meaning("its burst buffer is being prepared ({word})", "scontrol show burst"),
    ),
)


def explain_reason(words: str) -> Meaning | None:
    """Return what Slurm's reason means; None for a word that is not known."""
    word = re.split(r"[,(]", words.strip(), maxsplit=1)[0].strip()
    found = REASONS.get(word)
    if found is not None:
        return found
    for pattern, meaning in _FAMILIES:
        if pattern.fullmatch(word):
            return Meaning(meaning.says.replace("{word}", word), meaning.fix)
    return None
