"""Whose state directory this is: what lies in it runs as whoever carries it out.

Every verb may tick, and a tick submits what the directory holds. A `.orch` that somebody else put
where one happens to work, or that others may write, would be a way to run code as us.
"""

from __future__ import annotations

import os
import stat

from jobs.contract.environment import FOREIGN_STATE
from jobs.contract.paths import StateDir
from orchestrator.instance import StateRefused


def require_own(state: StateDir) -> None:
    """Raise `StateRefused` for a directory, or a database in it, that is not ours alone to write.

    One that does not exist is nobody's. ORCH_FOREIGN_STATE=accept believes another owner, e.g. in
    a container whose user has another number.
    """
    for path in (state.path, state.database):
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return
        owner, me = status.st_uid, os.geteuid()
        if owner != me and os.environ.get(FOREIGN_STATE) != "accept":
            raise StateRefused(
                f"{path} belongs to user {owner}, you are {me}: what lies in it would run as you",
                fix=f"set ORCH_HOME to a directory of yours; or, if you trust it,"
                f" {FOREIGN_STATE}=accept",
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StateRefused(
                f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o}): what"
                " they put there would run as you",
                fix=f"look whether all in it is yours, then: chmod go-w {path}",
            )
