"""What a command finds around it: its code, inputs, working directory, environment and words."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from durable.files import private_dir, publish_file
from jobs import sources
from jobs.command import filled
from jobs.contract import environment as names
from jobs.snapshot import CodeRefused, tree_digest
from jobs.spec import CommandSemantic
from worker.attempt import Attempt
from worker.code_snapshot import code_of
from worker.failures import Misconfigured
from worker.integrations import alone

API = Path(alone.__file__).parent  # orch_job.py and nothing else
FIRST_PORT, PORTS = 20_000, 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Directories of one attempt at a command."""

    attempt: Path
    work: Path  # where the command runs: links to the snapshot's entries, and what it writes
    api: Path  # where orch_job.py and the runner talk
    checkpoint: Path  # where the command puts what it saves
    code: Path | None  # the snapshot

    @property
    def start(self) -> Path:
        """What rank 0 tells the other ranks before they start: where to resume from."""
        return self.api / "start.json"

    def left(self, rank: int) -> Path:
        """Return where a rank says how its process ended."""
        return self.api / f"left.r{rank:05d}.json"


def command_of(attempt: Attempt) -> CommandSemantic:
    """Return what the job runs. Raises TypeError for a training."""
    semantic = attempt.spec.semantic
    if not isinstance(semantic, CommandSemantic):
        raise TypeError(f"job {attempt.spec.id} is a training, not a command")
    return semantic


def make_places(attempt: Attempt, checkpoint: Path) -> Places:
    """Make the directories; every rank may do so. Raises `Misconfigured` for changed code."""
    digest = command_of(attempt).code_digest
    code = code_of(attempt.job, digest)
    places = Places(
        attempt=attempt.directory.path,
        work=private_dir(attempt.directory.path / "work"),
        api=private_dir(attempt.directory.path / "api"),
        checkpoint=checkpoint,
        code=code,
    )
    for entry in sorted(code.iterdir()) if code is not None else ():
        with suppress(FileExistsError):
            (places.work / entry.name).symlink_to(entry)
    return places


def find_inputs(attempt: Attempt) -> dict[str, Path]:
    """Return where the inputs lie, unchanged. Raises `Misconfigured`."""
    command = command_of(attempt).command
    base_dir, data_root = attempt.spec.run.base_dir, attempt.assignment.site.data_root
    found = {}
    for name, path in command.inputs.items():
        where = f"command.inputs.{name} {path!r}"
        try:
            found[name] = sources.find_input(
                path,
                base_dir=Path(base_dir) if base_dir else None,
                data_root=Path(data_root) if data_root else None,
            )
            digest = tree_digest(found[name])
        except sources.SourceMissing as error:
            raise Misconfigured(f"{where}: {error}; {error.fix}") from error
        except (OSError, CodeRefused) as error:
            raise Misconfigured(f"{where}: {error}") from error
        if digest != command.input_digests.get(name):
            raise Misconfigured(
                f"{where} has changed since the job was submitted; submit the matrix again (the"
                " changed data make a new job), or put the old files back"
            )
    return found


def write_params(attempt: Attempt, places: Places, inputs: Mapping[str, Path]) -> Path:
    """Write the JSON file that has params, inputs and seed (rank 0)."""
    semantic = command_of(attempt)
    value = {
        "params": semantic.command.params,
        "inputs": {name: str(path) for name, path in inputs.items()},
        "seed": semantic.seed,
    }
    path = params_path(places)
    publish_file(path, json.dumps(value, sort_keys=True).encode() + b"\n", durable=False)
    return path


def params_path(places: Places) -> Path:
    """Return where the params are."""
    return places.api / "params.json"


def search_path(env: Mapping[str, str] = os.environ) -> str:
    """Return PATH with the directory of this interpreter first: `python` is this one."""
    return os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])


def program_of(semantic: CommandSemantic) -> str | None:
    """Return the absolute path of the program that will run, None for one in the snapshot."""
    word = semantic.command.argv[0]
    if "{" in word or ("/" in word and not word.startswith("/")):
        return None
    return shutil.which(word, path=search_path())


def words(attempt: Attempt, env: Mapping[str, str], inputs: Mapping[str, Path]) -> list[str]:
    """Return the argv to run."""
    given = {
        "seed": env[names.SEED],
        "rank": env[names.RANK],
        "world_size": env[names.WORLD_SIZE],
        "params": env[names.PARAMS],
        "code_dir": env.get(names.CODE_DIR, ""),
        "checkpoint_dir": env[names.CHECKPOINT_DIR],
        "resume_dir": env.get(names.RESUME_DIR, ""),
        "attempt_dir": env[names.ATTEMPT_DIR],
    }
    return filled(
        command_of(attempt).command, given | {name: str(path) for name, path in inputs.items()}
    )


def environment(
    attempt: Attempt,
    places: Places,
    *,
    resume: Path | None,
    resume_step: int,
    grace_seconds: float,
    session: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return the environment of one rank's process."""
    layout, spec = attempt.layout, attempt.spec
    own = {
        names.JOB_ID: spec.id,
        names.JOB_NAME: spec.name,
        names.JOB_DIR: str(attempt.job.path),
        names.ATTEMPT_DIR: str(places.attempt),
        names.EPOCH: str(attempt.epoch),
        names.CHECKPOINT_DIR: str(places.checkpoint),
        names.RESUME_STEP: str(resume_step),
        names.PARAMS: str(params_path(places)),
        names.SEED: str(spec.semantic.seed),
        names.GRACE: f"{grace_seconds:g}",
        names.RANK: str(layout.rank),
        names.WORLD_SIZE: str(layout.world_size),
        names.LOCAL_RANK: str(layout.local_rank),
        names.API_DIR: str(places.api),
        names.RUNNER_PID: str(os.getpid()),
        "PATH": search_path(session),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(API), session.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",  # the log shows what happened until the end
        "PYTHONDONTWRITEBYTECODE": "1",  # a snapshot stays what it is
        **_torch_names(attempt),
    }
    if places.code is not None:
        own[names.CODE_DIR] = str(places.code)
    if resume is not None:
        own[names.RESUME_DIR] = str(resume)
    return {k: v for k, v in session.items() if k != names.RESUME_DIR} | own


def _torch_names(attempt: Attempt) -> dict[str, str]:
    """Return what torch.distributed's `env://` reads; the port is a guess, another each time."""
    layout = attempt.layout
    seed = f"{attempt.spec.id} {attempt.epoch} {attempt.claim.token}".encode()
    number = int.from_bytes(hashlib.sha256(seed).digest()[:4], "big")
    return {
        "RANK": str(layout.rank),
        "WORLD_SIZE": str(layout.world_size),
        "LOCAL_RANK": str(layout.local_rank),
        "MASTER_ADDR": layout.hosts[0] if not layout.one_node else "127.0.0.1",
        "MASTER_PORT": str(FIRST_PORT + number % PORTS),
    }
