"""`orch doctor`."""

from __future__ import annotations

import typer

from orchestrator.cli import streams
from orchestrator.cli.exits import Exit
from orchestrator.cli.options import Json, SiteFile
from orchestrator.cli.session import state_home


def doctor(as_json: Json = False, site: SiteFile = None) -> None:
    """Check packages, backend, site and state directory.

    Looks only. Leaves with 1 when a check failed; warnings do not fail.

    Examples:
      orch doctor
      orch doctor --json | jq '.checks[] | select(.ok | not)'
    """
    from orchestrator.doctor import examine
    from orchestrator.views import doctor as view

    checks = examine(state_home(site), site_file=site)
    if as_json:
        streams.show_document(view.doctor_document(checks))
    else:
        streams.show_table(view.doctor_table(checks))
        streams.say(view.verdict_line(checks))
    if not all(check.ok for check in checks):
        raise typer.Exit(int(Exit.FAILED))
