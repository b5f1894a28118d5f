"""`orch hold` and `orch release`: a person lets jobs wait, and go on."""

from __future__ import annotations

from orchestrator.cli import streams
from orchestrator.cli.naming import meant, some
from orchestrator.cli.options import Json, Selectors
from orchestrator.cli.session import open_acting, require_state, state_home


def hold(selectors: Selectors, as_json: Json = False) -> None:
    """Let jobs wait until you release them.

    A waiting job leaves the scheduler's queue; a running one saves, leaves and then waits.

    Examples:
      orch hold quickstart
      orch hold 3f2a9c1e 77aa01bc
    """
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import count

    home = state_home()
    require_state(home, selectors[0])
    held = open_acting(home).hold(*selectors)
    if as_json:
        streams.show_document(outcome_document("hold", held=held))
        return
    if not held:
        streams.say(f"nothing to hold: every job of {meant(selectors)} is over or held")
        return
    streams.show(f"{count(len(held), 'job')} held: {some(held)}")
    streams.hint(f"orch release {meant(selectors)}", "let them go on")


def release(selectors: Selectors, as_json: Json = False) -> None:
    """Let held jobs go on, from their last verified checkpoint.

    Also those that somebody holds at the scheduler (JobHeldUser).

    Examples:
      orch release quickstart
      orch release 3f2a9c1e 77aa01bc
    """
    from orchestrator.views.documents import outcome_document
    from orchestrator.views.text import count

    home = state_home()
    require_state(home, selectors[0])
    released = open_acting(home).release(*selectors)
    if as_json:
        streams.show_document(outcome_document("release", released=released))
        return
    if not released:
        streams.say(f"nothing to release: no job of {meant(selectors)} is held")
        return
    streams.show(f"{count(len(released), 'job')} released: {some(released)}")
    streams.hint("orch status --watch", "see them run")
