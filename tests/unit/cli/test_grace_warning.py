"""A matrix that counts with more grace time than the site gives is warned of at submission."""

from __future__ import annotations

import pytest

from jobs.spec import JobSpec
from orchestrator.grace_warning import grace_warning
from orchestrator.site_schema import PreemptionFacts
from tests.unit.cli.test_checkpoint_space import spec


def asking(seconds: float) -> JobSpec:
    """Return a job that counts with so many seconds."""
    plain = spec()
    run = plain.run.model_copy(update={"grace_seconds": seconds})
    return plain.model_copy(update={"run": run})


@pytest.mark.parametrize(
    ("facts", "warned"),
    [
        ({}, False),  # nothing is known
        ({"grace_seconds": 30.0}, False),
        ({"grace_seconds": 20.0}, True),
        ({"grace_seconds": 20.0, "mode": "REQUEUE"}, True),
        ({"grace_seconds": 20.0, "mode": "SUSPEND"}, False),  # nobody is killed
        ({"grace_seconds": 20.0, "mode": "OFF"}, False),
        ({"grace_seconds": 0.0}, True),
        ({"grace_seconds": 0.0, "kill_wait_seconds": 30.0}, False),
        ({"grace_seconds": 0.0, "kill_wait_seconds": 5.0}, True),
    ],
)
def test_only_a_shorter_grace_is_worth_a_word(facts: dict[str, object], warned: bool) -> None:
    """The words have both figures and the fix."""
    said = grace_warning([asking(10.0), asking(30.0)], PreemptionFacts.model_validate(facts))
    assert (said is not None) is warned
    if said is not None:
        assert "grace_seconds is 30" in said
        assert "set grace_seconds to" in said


def test_no_jobs_no_warning() -> None:
    """Nothing new is submitted: nothing can be cut off."""
    assert grace_warning([], PreemptionFacts(grace_seconds=1.0)) is None
