"""`scripts/slurm-cluster`: a private Slurm to try things on."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from orchestrator.devcluster.cluster import DEFAULT_ROOT, PrivateCluster
from orchestrator.devcluster.config import ClusterOptions
from orchestrator.devcluster.errors import ClusterError

EXAMPLE = """\
example:
  scripts/slurm-cluster up
  eval "$(scripts/slurm-cluster env)"      # points sbatch, squeue and orch at it
  sinfo
  scripts/slurm-cluster down

partitions: low (default, preempted by high; --preempt-mode, --grace), lowcancel (the same with
PreemptMode=CANCEL), lownograce (GraceTime=0), high. Needs root and the Debian packages slurm-wlm
slurmdbd munge mariadb-server. Several clusters may stand side by side, each with its own --dir.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(
        prog="scripts/slurm-cluster",
        description="A private Slurm on loopback: munge, MariaDB, slurmdbd, slurmctld, slurmds.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", required=True)
    for verb, text in (
        ("up", "start it, or do nothing when it is up"),
        ("down", "end its jobs and daemons; its directory stays"),
        ("status", "say what runs; exit code 1 when it is not up"),
        ("env", "print the shell lines that point Slurm's commands at it"),
    ):
        one = verbs.add_parser(verb, help=text)
        one.add_argument("--dir", type=Path, default=DEFAULT_ROOT, help="default: %(default)s")
        if verb == "up":
            _up_options(one)
        if verb == "down":
            one.add_argument("--purge", action="store_true", help="remove its directory, too")
    return top


def _up_options(up: argparse.ArgumentParser) -> None:
    defaults = ClusterOptions()
    up.add_argument("--nodes", type=int, default=defaults.nodes)
    up.add_argument("--cpus-per-node", type=int, default=defaults.cpus_per_node)
    up.add_argument("--memory-per-node", type=int, default=defaults.memory_per_node, help="MB")
    up.add_argument("--preempt-mode", choices=("REQUEUE", "CANCEL"), default="REQUEUE")
    up.add_argument("--grace", type=int, default=defaults.grace, help="seconds, of low, lowcancel")
    up.add_argument("--kill-wait", type=int, default=defaults.kill_wait)
    up.add_argument("--min-job-age", type=int, default=defaults.min_job_age)
    up.add_argument("--slurmd-timeout", type=int, default=defaults.slurmd_timeout)
    up.add_argument("--max-job-count", type=int, default=defaults.max_job_count)
    up.add_argument(
        "--set", dest="extra", action="append", default=[], metavar="KEY=VALUE", help="slurm.conf"
    )


def options(arguments: argparse.Namespace) -> ClusterOptions:
    """Return the options of `up`. Raises ClusterError."""
    values = vars(arguments)
    if min(arguments.nodes, arguments.cpus_per_node, arguments.memory_per_node) < 1:
        raise ClusterError("--nodes, --cpus-per-node and --memory-per-node must be positive")
    extra = dict(item.partition("=")[::2] for item in arguments.extra)
    for key, value in extra.items():
        if not key.isalnum() or not value or not value.isprintable():
            raise ClusterError(f"--set {key}={value}: write KEY=VALUE of slurm.conf")
    names = {field.name for field in fields(ClusterOptions)} - {"extra"}
    return ClusterOptions(**{name: values[name] for name in names}, extra=extra)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit code."""
    arguments = parser().parse_args(argv)
    cluster = PrivateCluster(arguments.dir, say=_complain)
    try:
        match arguments.verb:
            case "up":
                cluster.up(options(arguments))
            case "down":
                cluster.down(purge=arguments.purge)
            case "env":
                return _env(cluster)
            case _:
                return _status(cluster)
    except ClusterError as error:
        _complain(f"slurm-cluster: {error}")
        return 1
    return 0


def _env(cluster: PrivateCluster) -> int:
    if not cluster.status().answers:
        _complain(f"slurm-cluster: {cluster.root} is not up")
        return 1
    for name, value in cluster.environment.items():
        _print(f"export {name}={shlex.quote(value)}")
    return 0


def _status(cluster: PrivateCluster) -> int:
    status = cluster.status()
    _print(f"{cluster.root}: {'up' if status.answers else 'down'}, cluster {status.name}")
    for line in (*status.daemons, *status.nodes):
        _print(f"  {line}")
    return 0 if status.answers else 1


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def _complain(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
