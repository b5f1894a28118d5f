"""What a private cluster is made of, and the configuration files that say so. Pure.

Every line below was found necessary on a real machine (Slurm 22.05, no systemd, no cgroups);
where the reason is not obvious it stands beside the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PARTITIONS = ("low", "lowcancel", "lownograce", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What the user may choose. Times are seconds, memory is MB."""

    nodes: int = 4
    cpus_per_node: int = 4  # may exceed the machine's: the nodes are virtual
    memory_per_node: int = 4000
    preempt_mode: str = "REQUEUE"  # of partition `low`
    grace: int = 20  # of partition `low` and `lowcancel`
    kill_wait: int = 5
    min_job_age: int = 300
    slurmd_timeout: int = 15
    max_job_count: int = 50_000
    extra: Mapping[str, str] = field(default_factory=dict)  # further slurm.conf lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Loopback ports; one slurmd port a node."""

    controller: int
    accounting: int
    database: int
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """Where a cluster keeps its things, all below one directory of its own."""

    root: Path

    @property
    def marker(self) -> Path:
        """Says that the directory is ours; holds the cluster's name and a password."""
        return self.root / "cluster.json"

    @property
    def daemons(self) -> Path:
        """Identities of the daemons that `up` started."""
        return self.root / "daemons.json"

    @property
    def lock(self) -> Path:
        """Taken by `up` and `down`."""
        return self.root / "cluster.lock"

    @property
    def slurm_conf(self) -> Path:
        """What SLURM_CONF points at."""
        return self.root / "etc" / "slurm.conf"

    @property
    def slurmdbd_conf(self) -> Path:
        """slurmdbd looks for it beside SLURM_CONF."""
        return self.root / "etc" / "slurmdbd.conf"

    @property
    def logs(self) -> Path:
        """One log a daemon."""
        return self.root / "log"

    @property
    def munge(self) -> Path:
        """Directory of user munge: key, socket, seed."""
        return self.root / "munge"

    @property
    def munge_socket(self) -> Path:
        """The cluster's own munge."""
        return self.munge / "munge.socket"

    @property
    def database(self) -> Path:
        """Directory of user mysql."""
        return self.root / "database"

    @property
    def controller_state(self) -> Path:
        """slurmctld's state; it survives `down` and `up`."""
        return self.root / "state"

    @property
    def spool(self) -> Path:
        """Directory of the slurmds."""
        return self.root / "spool"


def node_names(options: ClusterOptions) -> tuple[str, ...]:
    """Return n1, n2, …"""
    return tuple(f"n{number}" for number in range(1, options.nodes + 1))


def partitions(options: ClusterOptions) -> tuple[str, ...]:
    """Return the partition lines: three preemptible ones and `high`, which preempts them."""
    every = f"Nodes=n[1-{options.nodes}] MaxTime=INFINITE State=UP OverSubscribe=NO"
    low, high = "PriorityTier=1", "PriorityTier=10 PreemptMode=OFF"
    mode, grace = f"PreemptMode={options.preempt_mode}", f"GraceTime={options.grace}"
    return (
        f"PartitionName=low {every} Default=YES {low} {mode} {grace}",
        f"PartitionName=lowcancel {every} {low} PreemptMode=CANCEL {grace}",
        f"PartitionName=lownograce {every} {low} PreemptMode=REQUEUE GraceTime=0",
        f"PartitionName=high {every} {high}",
    )


def slurm_conf(
    *, name: str, host: str, ports: Ports, paths: ClusterPaths, options: ClusterOptions
) -> str:
    """Return slurm.conf; `options.extra` replaces or adds settings."""
    settings = {
        "ClusterName": name,
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": str(ports.controller),
        "SlurmctldAddr": "127.0.0.1",
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={paths.munge_socket}",
        "CredType": "cred/munge",
        "StateSaveLocation": str(paths.controller_state),
        "SlurmdSpoolDir": f"{paths.spool}/%n",
        "SlurmctldPidFile": f"{paths.root}/slurmctld.pid",
        "SlurmdPidFile": f"{paths.spool}/%n.pid",
        "SlurmctldLogFile": f"{paths.logs}/slurmctld.log",
        "SlurmdLogFile": f"{paths.logs}/slurmd.%n.log",
        # no cgroups and no systemd are needed with these
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/linux",
        "SwitchType": "switch/none",
        "MpiDefault": "none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        # virtual nodes have more CPUs than the machine; without this they are set to INVALID
        "SlurmdParameters": "config_overrides",
        "DefMemPerCPU": "500",
        "ReturnToService": "2",
        "SlurmdTimeout": str(options.slurmd_timeout),
        "SlurmctldTimeout": "30",
        "KillWait": str(options.kill_wait),
        "MinJobAge": str(options.min_job_age),
        "MaxJobCount": str(options.max_job_count),
        "MaxArraySize": "10001",
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "sched_interval=5,bf_interval=5,batch_sched_delay=1",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": str(ports.accounting),
        # without it accounting tries the default munge socket and slurmctld dies
        "AccountingStoragePass": str(paths.munge_socket),
    }
    settings.update(options.extra)
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        f" CPUs={options.cpus_per_node} RealMemory={options.memory_per_node} State=UNKNOWN"
        for node, port in zip(node_names(options), ports.nodes, strict=True)
    ]
    lines = [f"{key}={value}" for key, value in settings.items()]
    return "\n".join([*lines, *nodes, *partitions(options)]) + "\n"


def slurmdbd_conf(*, host: str, ports: Ports, paths: ClusterPaths, password: str) -> str:
    """Return slurmdbd.conf; it holds the database password, so its mode is 0600."""
    settings = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={paths.munge_socket}",
        "DbdHost": host,  # 127.0.0.1 is refused here: "This host not configured to run SlurmDBD"
        "DbdAddr": "127.0.0.1",
        "DbdPort": str(ports.accounting),
        "SlurmUser": "root",
        "LogFile": f"{paths.logs}/slurmdbd.log",
        "PidFile": f"{paths.root}/slurmdbd.pid",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "127.0.0.1",
        "StoragePort": str(ports.database),
        "StorageUser": "slurm",
        "StoragePass": password,
        "StorageLoc": "slurm_acct",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def database_conf(*, ports: Ports, paths: ClusterPaths) -> str:
    """Return my.cnf: small, loopback only, no system defaults."""
    here = paths.database
    return f"""[mysqld]
datadir={here}/data
socket={here}/mysql.socket
pid-file={here}/mysql.pid
log-error={here}/mariadbd.log
port={ports.database}
bind-address=127.0.0.1
skip-name-resolve
skip-log-bin
innodb_buffer_pool_size=64M
innodb_log_file_size=16M
innodb_lock_wait_timeout=900
# the accounting of a throw-away cluster need not survive a power cut
innodb_flush_log_at_trx_commit=0
init-file={here}/init.sql
"""


def database_init(password: str) -> str:
    """Return the SQL that MariaDB runs at each start; it may be repeated."""
    return (
        "CREATE DATABASE IF NOT EXISTS slurm_acct;\n"
        f"CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON slurm_acct.* TO 'slurm'@'127.0.0.1';\n"
    )
