"""Two hosts that share a state directory, as namespaces: own host name, own boot id, own flock.

    enter(state, name="login2", boot_id=…, lock=FILE)  -> the argv prefix

`lock` is bound over the writer's lock, so that flock is granted on both: a shared file system
without working locks. Needs root, as the private Slurm does.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

_SCRIPT = """
set -eu
hostname "$1"; mount --bind "$2" /proc/sys/kernel/random/boot_id
[ -z "$3" ] || mount --bind "$3" "$4"
shift 4
exec "$@"
"""


@cache
def why_not() -> str | None:
    """Return why there can be no second host here, None when there can."""
    probe = ["unshare", "--uts", "--mount", "hostname", "probe"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=10)
    except OSError as error:
        return f"unshare cannot be run: {error.strerror}"
    return None if done.returncode == 0 else f"no namespaces here: {done.stderr.strip()}"


class Host:
    """One made-up host."""

    def __init__(self, folder: Path, name: str, *, own_locks: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._name = name
        self._boot_id = folder / f"{name}.boot_id"
        self._boot_id.write_text(f"00000000-0000-0000-0000-{abs(hash(name)) % 10**12:012d}\n")
        self._lock = self._lock_file = ""
        if own_locks is not None:
            mine = folder / f"{name}.lock"
            mine.touch(mode=0o600)
            own_locks.touch(mode=0o600)
            self._lock, self._lock_file = str(mine), str(own_locks)

    def argv(self, *command: str) -> list[str]:
        """Return the command as this host runs it; its process is that of `command`."""
        inside = ["sh", "-c", _SCRIPT, "host", self._name, str(self._boot_id)]
        return [
            "unshare", "--uts", "--mount", *inside, self._lock, self._lock_file, *command
        ]  # fmt: skip

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end."""
        return subprocess.run(
            self.argv(*command),
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, *command: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command here; its words go to `log`."""
        with log.open("ab") as words:
            return subprocess.Popen(
                self.argv(*command),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )
