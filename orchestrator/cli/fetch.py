"""`orch fetch`."""

from __future__ import annotations

from orchestrator.cli import streams
from orchestrator.cli.options import Json, Matrices, Overrides, Profile, SiteFile
from orchestrator.cli.session import state_home


def fetch(
    *,
    matrices: Matrices,
    site: SiteFile = None,
    overrides: Overrides = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Download the hub models and data sets that matrices name, once, so that jobs can run offline.

    `orch submit` does it by itself where the hub can be reached; nothing is submitted here.

    Examples:
      orch fetch matrix.yaml
      HF_ENDPOINT=https://mirror.example orch fetch matrix.yaml
    """
    from jobs.sources import hub_cache
    from orchestrator.cli.fetching import load_fetched
    from orchestrator.site import load_site
    from orchestrator.views.documents import outcome_document

    found = load_site(site, home=state_home(site))
    _, fetched = load_fetched(matrices, overrides or (), found.site.worker_site(), profile=profile)
    where = str(hub_cache())
    if not as_json:
        if not fetched:
            streams.show(f"nothing to fetch: every hub model and data set is in {where}")
        return
    rows = [
        {
            "kind": one.source.kind,
            one.source.kind: one.source.repo,
            "revision": one.source.revision,
            "commit": one.commit,
            "directory": str(one.directory),
            "downloaded": one.downloaded,
        }
        for one in fetched
    ]
    streams.show_document(outcome_document("fetch", cache=where, fetched=rows))
