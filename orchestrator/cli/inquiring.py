"""Opening the store for verbs that ask about jobs: brought up to date where nobody watches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.cli.catching_up import PATIENT_SECONDS, catch_up, is_stale
from orchestrator.cli.session import require_state, state_home

if TYPE_CHECKING:
    from orchestrator.inquiry import Inquiry


def open_inquiry(selector: str) -> Inquiry:
    """Return the store, no staler than what one look of our own makes it. Raises `NotFound`."""
    from orchestrator.inquiry import Inquiry

    home = state_home()
    require_state(home, selector)
    inquiry = Inquiry(home)
    if is_stale(inquiry.watcher(), now=time.time()):
        catching = catch_up(home, unsettled=inquiry.unsettled())
        if catching is not None:
            catching.done(within=PATIENT_SECONDS)
    return inquiry


ALL = "any job"
