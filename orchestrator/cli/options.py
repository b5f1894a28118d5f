"""Arguments and options that several verbs share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.backend import Backend

_SELECTOR = "A matrix name, a job name, or at least 4 digits of a job id."

Selector = Annotated[
    str | None, typer.Argument(metavar="NAME|JOB", help=_SELECTOR, show_default=False)
]
Selectors = Annotated[
    list[str], typer.Argument(metavar="NAME|JOB...", help=_SELECTOR, show_default=False)
]
OptionalSelectors = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME|JOB]...", help=_SELECTOR, show_default=False)
]
JobSelector = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="A job name, or at least 4 digits of a job id.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
BackendOfJobs = Annotated[
    Backend | None,
    typer.Option(
        "--backend",
        help="Where jobs that are due go; default: where the last submission went.",
        show_default=False,
    ),
]
Slots = Annotated[
    int | None,
    typer.Option(
        "--slots",
        min=1,
        metavar="N",
        help="CPUs that the local backend may use; default: all of this process.",
        show_default=False,
    ),
]
SiteFile = Annotated[
    Path | None,
    typer.Option(
        "--site",
        metavar="FILE",
        help="site.yaml; default: $ORCH_SITE, then .orch/, user and system locations.",
        show_default=False,
    ),
]
Matrices = Annotated[
    list[Path], typer.Argument(metavar="MATRIX.yaml", help="One or several matrix files.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a default of the matrices, e.g. train.steps=20; may be repeated.",
        show_default=False,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="What the matrices' `profiles:` say under this name wins over all else in them."
        " `dry`: as --dry-run. `data`: tokenise the data here, submit nothing.",
        show_default=False,
    ),
]
