"""`orch submit --profile data`: tokenise a matrix's data here, once, and submit nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit

if TYPE_CHECKING:
    from jobs.matrix import Matrix
    from orchestrator.cli.session import Chosen

DRY, DATA = "dry", "data"  # profiles that every matrix has
_WORDS = {
    "made": "tokenised and kept",
    "found": "there already",
    "small": "too small to be worth keeping",
    "left": "read by plug-ins, in the jobs themselves",
}


def warm_data(loaded: Sequence[Matrix], chosen: Chosen, *, as_json: bool) -> None:
    """Have the worker tokenise what the jobs will need, where torch lives."""
    import json
    import os
    import subprocess
    import sys

    site = chosen.worker_site.model_dump(mode="json")
    jobs = {spec.id: spec for matrix in loaded for spec in matrix.jobs}
    lines = (
        json.dumps({"spec": spec.model_dump(mode="json"), "site": site}) for spec in jobs.values()
    )
    command = [sys.executable, "-P", "-W", "ignore", "-m", "worker.warm"]
    command += ["--home", str(chosen.home)]
    environment = {"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu", **os.environ}
    done = subprocess.run(
        command,
        check=False,
        env=environment,
        input="\n".join(lines),
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise typer.Exit(int(Exit.FAILED))
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    if as_json:
        streams.show_document({"schema_version": 1, "data": found})
        return
    for outcome, words in _WORDS.items():
        if outcome in found:
            count = found[outcome]
            streams.show(f"{count} data set{'s' if count != 1 else ''} {words}")
    streams.show("nothing was submitted")
