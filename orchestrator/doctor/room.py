"""Whether the checkpoints of the open jobs fit where they go."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from jobs.contract.paths import StateDir
from jobs.spec import JobSpec
from orchestrator.doctor.check import Check, passed, warned
from orchestrator.views.status import is_open

_LOOKED_AT = 2000  # specs that are read


def room_checks(home: Path, site_file: Path | None) -> list[Check]:
    """Return the check, or nothing where no size can be told."""
    from orchestrator.checkpoint_space import predict
    from orchestrator.site import SiteInvalid, load_site

    if not StateDir(home).database.exists():
        return []
    try:
        site = load_site(site_file, home=home).site.worker_site()
        space = predict(_open_specs(home), site=site, home=home)
    except (SiteInvalid, OSError):
        return []  # other checks say it
    if space is None:
        return []
    if space.scarce:
        fix = "lower save.keep, or set scratch_root in site.yaml to a larger file system"
        return [warned("checkpoints", space.words(), fix)]
    return [passed("checkpoints", space.words())]


def _open_specs(home: Path) -> Iterator[JobSpec]:
    from orchestrator.reader import Reader

    state = StateDir(home.absolute())
    rows = (row for row in Reader(home).rows() if is_open(row))
    for row in islice(rows, _LOOKED_AT):
        try:
            yield JobSpec.model_validate_json(state.job(row.id).spec.read_bytes())
        except (OSError, ValueError):
            continue
