"""Where Slurm's commands are: by an absolute path, never in whatever directory one happens to be.

PATH may hold an empty or a relative entry; a file called `squeue` in a directory that somebody
else filled would then run as us, every few seconds. Only absolute entries count.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path


def find_program(name: str) -> str | None:
    """Return the absolute path of a command; None when no absolute entry of PATH has it.

    Resolved once for each PATH, and anew when the file has gone since.
    """
    path = os.environ.get("PATH", os.defpath)
    found = _find(name, path)
    if found is None or not _runs(found):
        _find.cache_clear()
        found = _find(name, path)
    return found


@lru_cache(maxsize=64)
def _find(name: str, path: str) -> str | None:
    if "/" in name:
        return name if Path(name).is_absolute() and _runs(name) else None
    folders = (Path(folder) for folder in path.split(os.pathsep))
    places = (str(folder / name) for folder in folders if folder.is_absolute())
    return next((place for place in places if _runs(place)), None)


def _runs(place: str) -> bool:
    return Path(place).is_file() and os.access(place, os.X_OK)
