"""From a submission and a site to sbatch options and the batch script's text. Pure.

Every value is checked here once more, whatever checked it before: behind an `#SBATCH` a newline
runs as shell, and `%` in a path means something else.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources

from orchestrator.schedulers.base import SubmitRequest
from orchestrator.schedulers.slurm_parse import compress_ranges
from orchestrator.site_schema import Site

MARK = "orch:"
# Before the site's own lines: loading modules takes seconds, and SIGTERM may come meanwhile.
TRAP = "orch_heard=0; trap 'orch_heard=1' TERM"
_TOKEN = re.compile(r"[A-Za-z0-9]{8,64}")
_MATRIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VALUE = re.compile(r"[\x20-\x7e]+")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_OPTION = re.compile(r"[a-z][a-z-]*")
_PATH = re.compile(r"/[A-Za-z0-9/._+@=,: ~-]+")
# The time-limit signal fires up to a minute early (measured: at the start of a 1-minute job), so
# it is asked for only where that leaves most of the limit to work in.
SIGNAL_EARLY_SECONDS = 60
MIN_LIMIT_IN_LEADS = 3


class Unfit(ValueError):
    """A submission has a value that cannot stand in a batch script; the message names it."""


Options = Mapping[str, str | int | bool]


def job_name(token: str) -> str:
    """Return the Slurm job name of a submission; with the comment it makes a job ours."""
    if not _TOKEN.fullmatch(token):
        raise Unfit(f"token {token!a} is not 8 to 64 letters and digits")
    return f"{MARK}{token}"


def carries(token: str, *, name: str, comment: str) -> bool:
    """Return whether a job's name or comment says that it is this submission's."""
    wanted = f"{MARK}{token}"
    return name == wanted or comment.partition(" ")[0] == wanted


def sbatch_options(request: SubmitRequest, site: Site) -> dict[str, str | int | bool]:
    """Return all sbatch options by their long names. Raises Unfit."""
    name = job_name(request.token)
    if not _MATRIX.fullmatch(request.matrix_name):
        raise Unfit(f"matrix name {request.matrix_name!a} has characters that Slurm would not keep")
    if not request.tasks.tasks:
        raise Unfit("there is no task to submit")
    need, pack = request.resources, request.tasks.pack
    options: dict[str, str | int | bool] = {
        **{key: value for key, value in site.extra.items() if value is not False},
        "job-name": name,
        "comment": f"{name} {request.matrix_name}",
        # always an array: one form of id for everything
        "array": compress_ranges(request.tasks.allocations()),
        "chdir": _path(request.directory, "the state directory"),
        "output": _path(request.directory, "the state directory") + "/%A_%a.out",
        "open-mode": "append",  # a requeued task goes on in the same file
        "requeue": True,
        "export": "NONE",  # the submitter's environment, secrets too, would be kept by slurmctld
        "ntasks": request.ranks * pack,
        "cpus-per-task": site.cpus_per_rank or request.threads_per_rank,
        "mem": f"{_memory_mb(request) * pack}M",
        "time": need.time_limit_minutes,
        **_nodes(request),
        **_gpus(request, site),
        **site_options(site),
    }
    if words := excluded_nodes(site, request.exclude_nodes):
        options["exclude"] = words
    signal = _signal(need.time_limit_minutes * 60, request.grace_seconds)
    if signal is not None:
        options["signal"] = signal
    return checked_options(options)


def checked_options(options: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
    """Return the options if each can stand in a batch script. Raises Unfit."""
    _path(str(options["chdir"]), "the state directory")
    for key, value in options.items():
        _check(key, value)
    return options


# What tells submissions of one resource group apart; it cannot decide whether Slurm takes them.
_OF_ONE_SUBMISSION = frozenset({"job-name", "comment", "array", "chdir", "output", "open-mode"})


def words_of_group(options: Options) -> list[str]:
    """Return the options that a resource group shares, as words of a command line."""
    return [
        f"--{key}" if value is True else f"--{key}={value}"
        for key, value in options.items()
        if key not in _OF_ONE_SUBMISSION
    ]


def _memory_mb(request: SubmitRequest) -> int:
    """Return what each node of one task's ranks needs."""
    need = request.resources
    return math.ceil(need.memory_gb * 1024 / (need.nodes or 1))


def _nodes(request: SubmitRequest) -> Options:
    nodes = request.resources.nodes
    if request.tasks.pack > 1:
        if (nodes or 1) > 1:
            raise Unfit(f"resources.pack: cells of {nodes} nodes cannot share an allocation")
        return {"nodes": 1}
    if nodes is None:
        return {}
    if request.ranks < nodes:
        raise Unfit(f"resources.nodes {nodes} is more than engine.ranks {request.ranks}")
    return {"nodes": nodes, "ntasks-per-node": math.ceil(request.ranks / nodes)}


def _gpus(request: SubmitRequest, site: Site, *, share: bool = False) -> Options:
    """Return how GPUs are asked for: for an allocation, or for one cell's `share` of it."""
    per_rank = request.resources.gpus_per_rank
    if per_rank == 0:
        return {}
    kind = f"{site.gpus.type}:" if site.gpus.type else ""
    if site.gpus.style == "gpus-per-task":
        return {"gpus-per-task": f"{kind}{per_rank}"}
    nodes = request.resources.nodes or 1  # these styles count by node, so the nodes must be fixed
    count = per_rank * math.ceil(request.ranks / nodes) * (1 if share else request.tasks.pack)
    where = {"nodes": nodes}
    if site.gpus.style == "gpus-per-node":
        return {"gpus-per-node": f"{kind}{count}", **where}
    return {"gres": f"gpu:{kind}{count}", **where}


def cell_share(request: SubmitRequest, site: Site) -> list[str]:
    """Return the options of srun that give one cell its share of a packed allocation."""
    if request.tasks.pack == 1:
        return []
    share: Options = {
        "ntasks": request.ranks,
        "mem": f"{_memory_mb(request)}M",
        **_gpus(request, site, share=True),
        "nodes": 1,
    }
    for key, value in share.items():
        _check(key, value)
    return ["--exact", *(f"--{key}={value}" for key, value in share.items())]


def site_options(site: Site) -> Options:
    """Return what every job of this site asks for."""
    words = {
        "account": site.account,
        "qos": site.qos,
        "partition": ",".join(site.partition) or None,
        "reservation": site.reservation,
        "constraint": site.constraint,
        "nice": site.nice,
        "mail-user": site.mail.user if site.mail else None,
        "mail-type": ",".join(site.mail.types) if site.mail else None,
    }
    return {key: value for key, value in words.items() if value is not None}


def excluded_nodes(site: Site, nodes: Sequence[str]) -> str:
    """Return the node list to keep off: the site's own and these. Raises Unfit."""
    for node in nodes:
        if not _NODE.fullmatch(node):
            raise Unfit(f"{node!a} is not the name of a node")
    return ",".join([*([site.exclude] if site.exclude else []), *sorted(nodes)])


def _signal(limit_seconds: int, grace_seconds: float) -> str | None:
    """Return the signal before the time limit; None where the limit is too short for one.

    Then the ranks hear SIGTERM at the limit and have the site's KillWait to save.
    """
    lead = math.ceil(grace_seconds)
    if limit_seconds < MIN_LIMIT_IN_LEADS * (lead + SIGNAL_EARLY_SECONDS):
        return None
    return f"USR2@{lead}"


def script_body(request: SubmitRequest, site: Site, *, python: str, template: str) -> str:
    """Return what follows the directives: this submission's values, then the constant script.

    Raises Unfit.
    """
    words = [*site.container_prefix, site.python or python]
    for word in (*words, *site.setup, site.scratch_root or "/"):
        if not word.isprintable():
            raise Unfit(f"site.yaml: {word!a} holds a control character")
    if not (site.python or python).startswith("/"):
        raise Unfit(
            f"the interpreter {python!a} is not an absolute path; set `python` in site.yaml"
        )
    values = {
        "orch_submission": shlex.quote(_path(request.directory, "the state directory")),
        "orch_python": f"({shlex.join(words)})",
        "orch_pack": str(request.tasks.pack),
        "orch_share": f"({shlex.join(cell_share(request, site))})",
        "orch_threads": str(request.threads_per_rank),
        "orch_cpus": str(site.cpus_per_rank or request.threads_per_rank),
        # a backstop only: the workers bound a lost rank themselves
        "orch_wait": str(math.ceil(2 * site.rank_timeout_seconds + request.grace_seconds + 60)),
        "orch_caches": shlex.quote(site.scratch_root or ""),
    }
    lines = [TRAP, *site.setup, *(f"{name}={value}" for name, value in values.items())]
    return "\n".join(lines) + "\n" + template


def batch_template() -> str:
    """Return the constant part of every batch script."""
    return resources.files("orchestrator.schedulers").joinpath("batch.sh").read_text("utf-8")


def _path(text: str, what: str) -> str:
    if not _PATH.fullmatch(text):
        raise Unfit(
            f"{what} {text!a} has characters that a batch script cannot hold;"
            " use one of letters, digits and /._+@=,:~- (ORCH_HOME)"
        )
    return text


def _check(key: str, value: str | int | bool) -> None:
    if not _OPTION.fullmatch(key) or (isinstance(value, str) and not _VALUE.fullmatch(value)):
        raise Unfit(f"sbatch --{key}: {value!a} holds a character that is not allowed")
