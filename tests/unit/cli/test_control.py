"""The verbs by which a person holds, releases and restarts jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.cli.remembered import RememberedChoice, remember_choice
from tests.contract.stub import make_spec
from tests.unit.cli.state import job_id, write_state

Orch = Callable[..., Any]


def local_state(home: Path, states: dict[int, str], **columns: Any) -> None:
    """Make up jobs of the local backend."""
    write_state(home, states, **columns)
    remember_choice(home, RememberedChoice.model_validate({"backend": "local"}))


def state_of(orch: Orch, number: int) -> str:
    """Return a job's state."""
    (job,) = orch("status", job_id(number), "--json").document["jobs"]
    return str(job["state"])


def test_several_jobs_are_held_and_released_by_one_command(orch: Orch, home: Path) -> None:
    """Names of one command may overlap; each job is meant once."""
    later = time.time() + 300  # nothing is handed over meanwhile: made-up specs are none
    local_state(home, {1: "NEW", 2: "RETRYING", 3: "NEW"}, due_at=later)

    held = orch("hold", job_id(1), job_id(2), job_id(1), "--json")

    assert held.code == 0
    assert held.document["held"] == ["quickstart-0001", "quickstart-0002"]
    assert [state_of(orch, n) for n in (1, 2, 3)] == ["HELD", "HELD", "NEW"]
    again = orch("hold", job_id(1))
    assert again.code == 0
    assert "nothing to hold" in again.err


def test_failed_picks_the_failed_jobs_of_all_matrices(orch: Orch, home: Path) -> None:
    """Cancelled and held ones were stopped on purpose."""
    local_state(home, {1: "COMPLETED", 2: "CANCELLED", 3: "HELD"})

    nothing = orch("retry", "--failed")

    assert nothing.code == 0
    assert "no job is failed" in nothing.err
    assert [state_of(orch, n) for n in (2, 3)] == ["CANCELLED", "HELD"]


def test_retry_without_a_word_of_which_jobs_is_wrong_usage(orch: Orch, home: Path) -> None:
    """It must not mean all."""
    local_state(home, {1: "FAILED"})

    outcome = orch("retry")

    assert outcome.code == 2
    assert "--failed" in outcome.err
    assert state_of(orch, 1) == "FAILED"


def test_ranks_that_do_not_divide_the_batch_are_refused_with_those_that_do(
    orch: Orch, home: Path
) -> None:
    """Before anything is asked for."""
    local_state(home, {1: "FAILED"}, spec=make_spec(1).model_dump_json())

    outcome = orch("retry", job_id(1), "--ranks", "3")

    assert outcome.code == 2
    assert "cannot be dealt out to 3 ranks; possible are 1, 2, 4\n" in outcome.err
    assert state_of(orch, 1) == "FAILED"


def test_an_unknown_name_among_several_changes_nothing(orch: Orch, home: Path) -> None:
    """All names are looked up before anything is asked for."""
    local_state(home, {1: "NEW"}, due_at=time.time() + 300)

    outcome = orch("hold", job_id(1), "no-such-thing")

    assert outcome.code == 3
    assert state_of(orch, 1) == "NEW"


def test_why_answers_in_words_and_as_a_document(orch: Orch, home: Path) -> None:
    """The answer first; what to do about it is a command."""
    write_state(home, {1: "FAILED"}, reason="exception: rank 0: KeyError: 'label'")

    shown = orch("why", job_id(1))
    document = orch("why", job_id(1), "--json").document

    assert shown.code == 0
    assert "it failed: exception: rank 0: KeyError" in shown.out
    assert "orch retry" in shown.err
    assert document["job"]["state"] == "FAILED"
    assert {"do": "orch failures", "purpose": document["next"][1]["purpose"]} in document["next"]


def test_history_of_a_job_that_never_ran_is_empty_not_an_error(orch: Orch, home: Path) -> None:
    """It has no attempts yet."""
    write_state(home, {1: "NEW"}, due_at=4e9)

    assert orch("history", job_id(1), "--json").document["attempts"] == []
    assert "0 attempts" in orch("history", job_id(1)).out


def test_failures_without_any_say_so(orch: Orch, home: Path) -> None:
    """Nothing failed is an answer."""
    write_state(home, {1: "COMPLETED", 2: "COMPLETED"})

    assert "no job has failed (2 jobs)" in orch("failures").out
    assert orch("failures", "--json").document["groups"] == []


def test_failures_are_grouped_and_an_unknown_group_is_not_found(orch: Orch, home: Path) -> None:
    """A typing error must not start other jobs."""
    local_state(home, {1: "FAILED", 2: "FAILED", 3: "COMPLETED"}, reason="no progress at step 4")

    shown = orch("failures", "quickstart")

    assert "group 1: 2 of 3 jobs failed with the same" in shown.out
    assert orch("retry", "--group", "7").code == 3
    assert [state_of(orch, n) for n in (1, 2)] == ["FAILED", "FAILED"]
