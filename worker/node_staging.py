"""Saves by way of the node's own disk: put down there at once, then copied to the shared directory.

Only for saves behind the training, and only where site.yaml says where (`node_scratch_root`). The
copy on the node proves nothing: a checkpoint exists once it is committed in the shared directory,
and what a lost node had is the save in flight. The digest is of the bytes in memory; what
is read back from the node's disk must have it. A disk that fails costs a report: the save, and all
later ones of this attempt, go straight to the shared directory.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from checkpoints.errors import StagingFailed
from checkpoints.manifest import digest_of
from checkpoints.staging import ShardWriter
from durable.faults import hit
from durable.files import private_dir
from worker.attempt import Attempt

_OWNER = re.compile(r"e(\d{4,})\.r\d{5,}")
Parts = Sequence[bytes | memoryview]


class NodeStaging:
    """One rank's place on its node's disk."""

    def __init__(self, attempt: Attempt, root: Path, say: Callable[[str], None]) -> None:
        """Sweep what older attempts of the job have left on this node."""
        job = attempt.job.path
        state = hashlib.sha256(str(job.parent.parent.absolute()).encode()).hexdigest()[:12]
        place = root / f"orch-{os.getuid()}" / state / job.name
        self._directory = place / f"e{attempt.epoch:04d}.r{attempt.layout.rank:05d}"
        self._say = say
        self._usable = True
        try:
            private_dir(place)
            for path in place.iterdir():
                match = _OWNER.fullmatch(path.name)
                if match and int(match[1]) < attempt.epoch:
                    shutil.rmtree(path, ignore_errors=True)
        except OSError as error:
            self._give_up(error)

    def write(self, files: Mapping[str, Parts], writer: ShardWriter) -> None:
        """Give `writer` all files, by way of the node's disk where that works.

        Raises `StagingFailed`, OSError like `writer`.
        """
        digests = self._put_down(files) if self._usable else None
        if digests is None:
            writer.write_all(files)
            return
        try:
            for name, digest in digests.items():
                hit("node.before_copy")
                writer.copy(name, self._directory / name, digest=digest)
            hit("node.after_copy")
        except StagingFailed as error:  # an OSError is of the shared directory
            self._give_up(error)
            raise
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _put_down(self, files: Mapping[str, Parts]) -> dict[str, str] | None:
        """Write all files to the node's disk; return their digests, None where it refuses."""
        try:
            shutil.rmtree(self._directory, ignore_errors=True)
            private_dir(self._directory)
            digests = {}
            for name, parts in sorted(files.items()):
                digests[name] = digest_of(*parts)
                with (self._directory / name).open("xb") as file:
                    for part in parts:
                        file.write(part)
                hit("node.after_write")
        except OSError as error:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._give_up(error)
            return None
        return digests

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        self._say(f"the node's disk is not used for saves any more: {error}")
