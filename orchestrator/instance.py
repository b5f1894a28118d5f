"""Which state directory this is: `instance.json` beside the database, and what it must agree on.

The file says how far the database had come (the lease's epoch, the journal's last event) and where
the directory lay. It is written after the database, so a database that is behind the file was
restored from a backup, and one without the file's id belongs to another directory. Tasks that are
at a scheduler hold absolute paths, so a directory must not move under them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from durable.files import publish_file
from jobs.contract.paths import StateDir

MAX_BYTES = 64 << 10


class StateRefused(Exception):
    """This state directory must not be written as it is; `fix` says what to do. Reading works."""

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a directory lies. Device numbers differ between hosts and are not asked."""

    path: str
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """instance.json."""

    id: str
    lease: int  # the newest lease epoch that wrote here
    journal: int  # id of the newest event that is surely in the database
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseMark:
    """How far the database is. `live`: some scheduler has, or may have, tasks."""

    id: str | None  # None: it was never written under an instance.json
    lease: int
    journal: int
    live: bool


def instance_file(state: StateDir) -> Path:
    """Return where `instance.json` lies."""
    return state.path / "instance.json"


def read_instance(state: StateDir) -> Instance | None:
    """Return what the file says, None where there is none that can be read."""
    try:
        with instance_file(state).open("rb") as file:
            values = json.loads(file.read(MAX_BYTES))
        place = Place(path=str(values["place"]["path"]), inode=int(values["place"]["inode"]))
        return Instance(
            id=str(values["id"]),
            lease=int(values["lease"]),
            journal=int(values["journal"]),
            place=place,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def publish_instance(state: StateDir, instance: Instance, *, durable: bool) -> None:
    """Replace `instance.json`. Raises OSError."""
    text = json.dumps({"schema_version": 1, **asdict(instance)}, sort_keys=True)
    publish_file(instance_file(state), text.encode() + b"\n", durable=durable)


def place_of(state: StateDir) -> Place:
    """Return where the directory lies now."""
    return Place(path=str(state.path), inode=state.path.stat().st_ino)


def require_database(state: StateDir) -> None:
    """Raise `StateRefused` where jobs are, and their database is gone."""
    if not state.database.exists() and read_instance(state) is not None:
        raise StateRefused(
            f"{state.database} is missing, and {state.path} has been in use: nothing is begun anew"
            " over the jobs that it had",
            fix="orch rebuild",
        )


def settled_place(
    instance: Instance, here: Place, mark: DatabaseMark, *, there: Instance | None, inode: int
) -> Place:
    """Return the place to record for a directory that its file may know at another place. Pure.

    `there`: what `instance.json` at the recorded path says now; `inode`: of the directory at the
    recorded path, 0 where there is none. Raises `StateRefused` for an older database, a copy, and
    a move under live tasks.
    """
    _require_newest(instance, mark)
    recorded = instance.place
    if recorded.path == here.path:
        return here
    if inode == here.inode and there is not None and there.id == instance.id:
        return recorded  # one directory with two names (a link, a second mount): paths hold
    if there is not None and there.id == instance.id:
        raise StateRefused(
            f"{here.path} is a copy of {recorded.path}, which is still there: two copies would run"
            " the same jobs twice",
            fix=f"ORCH_HOME={recorded.path}; or move that one away and run: orch rebuild --moved",
        )
    if mark.live:
        raise StateRefused(
            f"{recorded.path} was moved to {here.path}, and tasks that a scheduler has still point"
            " to the old place",
            fix=f"ln -s {here.path} {recorded.path} lets them go on; orch rebuild --moved ends"
            " them and runs their jobs again from here",
        )
    return here


def _require_newest(instance: Instance, mark: DatabaseMark) -> None:
    if mark.id is not None and mark.id != instance.id:
        raise StateRefused(
            "the database belongs to another state directory than the jobs beside it",
            fix="orch rebuild (the database is kept aside)",
        )
    if mark.lease < instance.lease or mark.journal < instance.journal:
        raise StateRefused(
            f"the database is older than what was written: lease {mark.lease}, event"
            f" {mark.journal}; instance.json saw lease {instance.lease}, event {instance.journal}."
            " It was lost, or restored from a backup",
            fix="orch rebuild (from the job directories; the database is kept aside)",
        )


def look_at(state: StateDir) -> tuple[Instance | None, int]:
    """Return the instance and the inode at a path, (None, 0) where there is no directory."""
    try:
        return read_instance(state), state.path.stat().st_ino
    except OSError:
        return None, 0


def checked(state: StateDir, mark: DatabaseMark, *, new_id: str) -> tuple[Instance, str | None]:
    """Return what to record once the lease is taken, and where the directory lay if it moved.

    Raises `StateRefused`.
    """
    here = place_of(state)
    known = read_instance(state)
    if known is None:
        first = mark.id or new_id
        return Instance(id=first, lease=mark.lease, journal=mark.journal, place=here), None
    there, inode = look_at(StateDir(Path(known.place.path)))
    place = settled_place(known, here, mark, there=there, inode=inode)
    moved = known.place.path if place.path != known.place.path else None
    return replace(known, place=place), moved
