"""Directories, files and command lines of a private cluster's daemons."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
from pathlib import Path

from orchestrator.devcluster.commands import PATH, clean_environment
from orchestrator.devcluster.config import (
    ClusterOptions,
    ClusterPaths,
    Ports,
    database_conf,
    database_init,
    slurm_conf,
    slurmdbd_conf,
)
from orchestrator.devcluster.daemons import DaemonBook
from orchestrator.devcluster.errors import ClusterError

LAST_LINES = 5  # of a log, in a message
MAX_ROOT = 70  # characters: sockets below it must fit into the 108 of a Unix address


def make_root(root: Path) -> None:
    """Create the cluster's directory, or check that it and its parents will do."""
    if len(str(root)) > MAX_ROOT:
        raise ClusterError(f"{root} is too long for socket paths; use a shorter --dir")
    if not all(character.isalnum() or character in "/._-" for character in str(root)):
        raise ClusterError(f"{root} has characters that slurm.conf cannot hold; use another --dir")
    root.mkdir(parents=True, exist_ok=True, mode=0o755)
    entries = {entry.name for entry in root.iterdir()}
    if entries and "cluster.lock" not in entries:
        raise ClusterError(f"{root} holds other things; give --dir a directory of its own")
    for directory in (root, *root.parents):
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            raise ClusterError(
                f"user munge cannot enter {directory}; use a --dir below one that it can, or:"
                f" chmod o+x {directory}"
            )
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
            raise ClusterError(f"munge refuses {directory}: others may write into it")


def write(
    paths: ClusterPaths,
    identity: dict[str, str],
    ports: Ports,
    options: ClusterOptions,
    *,
    host: str,
) -> None:
    """Write all configuration; an existing munge key stays."""
    for directory in (paths.slurm_conf.parent, paths.logs, paths.controller_state, paths.spool):
        directory.mkdir(exist_ok=True, mode=0o755)
    for directory, user, mode in ((paths.munge, "munge", 0o755), (paths.database, "mysql", 0o700)):
        directory.mkdir(exist_ok=True)
        directory.chmod(mode)
        shutil.chown(directory, user, user)
    key = paths.munge / "munge.key"
    if not key.exists():
        _write(key, secrets.token_bytes(128), 0o400, user="munge")
    conf = slurm_conf(name=identity["name"], host=host, ports=ports, paths=paths, options=options)
    _write(paths.slurm_conf, conf.encode(), 0o644)
    password = identity["password"]
    accounting = slurmdbd_conf(host=host, ports=ports, paths=paths, password=password)
    _write(paths.slurmdbd_conf, accounting.encode(), 0o600)
    _write(paths.database / "my.cnf", database_conf(ports=ports, paths=paths).encode(), 0o644)
    _write(paths.database / "init.sql", database_init(password).encode(), 0o400, user="mysql")


def make_database(paths: ClusterPaths) -> None:
    """Create MariaDB's data directory once. Raises ClusterError."""
    data = paths.database / "data"
    if (data / "mysql").is_dir():
        return
    # half made by an `up` that was killed: without `mysql` in it no database ever ran there
    shutil.rmtree(data, ignore_errors=True)
    with (paths.logs / "mysql_install_db.log").open("wb") as log:
        done = subprocess.run(
            [
                "mysql_install_db",
                f"--defaults-file={paths.database}/my.cnf",
                "--user=mysql",
                f"--datadir={data}",
                "--skip-test-db",
                "--auth-root-authentication-method=socket",
                "--skip-name-resolve",
            ],
            env=clean_environment({}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
    if done.returncode != 0:
        # the log goes with a throw-away cluster, so its end is said here
        said = Path(log.name).read_text(errors="replace").splitlines()[-LAST_LINES:]
        raise ClusterError("\n".join([f"mysql_install_db failed; see {log.name}", *said]))


def start_one(book: DaemonBook, paths: ClusterPaths, name: str) -> None:
    """Start the daemon `name` (`munged`, …, `slurmd.n1`). Raises ClusterError."""
    kind, _, node = name.partition(".")
    conf = {"SLURM_CONF": str(paths.slurm_conf)}
    lines: dict[str, tuple[list[str], str | None]] = {
        "munged": (
            [
                "munged",
                "--foreground",
                "--force",  # it warns, as root-owned parents are not munge's
                f"--socket={paths.munge_socket}",
                f"--key-file={paths.munge}/munge.key",
                f"--pid-file={paths.munge}/munged.pid",
                f"--log-file={paths.munge}/munged.log",
                f"--seed-file={paths.munge}/munged.seed",
            ],
            "munge",
        ),
        "mariadbd": (["mariadbd", f"--defaults-file={paths.database}/my.cnf"], "mysql"),
        "slurmdbd": (["slurmdbd", "-D"], None),
        "slurmctld": (["slurmctld", "-D"], None),
        "slurmd": (["slurmd", "-D", "-N", node], None),
    }
    argv, user = lines[kind]
    program = shutil.which(argv[0], path=PATH)
    if program is None:
        raise ClusterError(f"{argv[0]} is not installed")
    env = clean_environment(conf)
    book.start(name, [program, *argv[1:]], env=env, log=paths.logs / f"{name}.out", user=user)


def _write(path: Path, data: bytes, mode: int, *, user: str | None = None) -> None:
    """Write a file that is never, not even briefly, open to more readers than `mode` says."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
    if user is not None:
        shutil.chown(path, user, user)
