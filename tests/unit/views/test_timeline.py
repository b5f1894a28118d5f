"""`orch history` on screens: nothing twice, nothing that a terminal obeys."""

from __future__ import annotations

from typing import Any

from orchestrator.timeline import AttemptRow, what_followed
from orchestrator.views.table import plain_lines
from orchestrator.views.timeline import summary_line, timeline_table
from tests.unit.views.made_up import job

NOW = 100_000.0


def attempt(**fields: Any) -> AttemptRow:
    """Return an attempt that was preempted."""
    values: dict[str, Any] = {
        "epoch": 2, "scheduler": "slurm", "scheduler_id": "77_3", "nodes": "n[1-2]",
        "queued_at": NOW - 900, "started_at": NOW - 800, "ended_at": NOW - 300, "first_step": 20,
        "last_step": 45, "committed_step": 40, "end_class": "preempted", "cause": "saved",
        "decision": "RETRYING: saved",
    }  # fmt: skip
    return AttemptRow(**{**values, **fields})


def lines(width: int | None, **fields: Any) -> list[str]:
    """Return the plain table of one attempt."""
    return list(plain_lines(timeline_table([attempt(**fields)], width=width, now=NOW)))


def test_a_wide_screen_has_places_and_a_narrow_one_only_what_happened() -> None:
    """Steps, losses and the end are never left out."""
    wide, narrow = lines(120)[1], lines(80)[1]

    assert "77_3" in wide
    assert "n[1-2]" in wide
    assert "n[1-2]" not in narrow
    for row in (wide, narrow):
        assert "20-45" in row
        assert "8 min" in row
        assert "saved -> RETRYING" in row


def test_what_followed_is_told_only_where_it_says_more() -> None:
    """A reason that repeats the cause takes room from others."""
    assert lines(80)[1].endswith("saved -> RETRYING")
    assert lines(80, decision="FAILED: time 2")[1].endswith("saved -> FAILED: time 2")
    assert lines(80, decision="COMPLETED: ")[1].endswith("saved")


def test_hostile_words_are_cleaned() -> None:
    """P11: causes and nodes come from outside."""
    assert "\x1b" not in "".join(lines(None, cause="\x1b[2Jx", nodes="\x1b]0;t\x07n", decision=""))


def test_the_next_change_of_state_is_what_followed_an_end() -> None:
    """Two ends at once (a replaced attempt and the last one): the change follows the second."""
    events = [
        ("end", "attempt 1: preempted"),
        ("end", "attempt 2: node"),
        ("state", "RUNNING -> RETRYING: x"),
        ("state", "RETRYING -> SUBMITTED: y"),
    ]
    assert what_followed(events) == ["", "RETRYING: x"]


def test_a_job_that_says_no_total_is_not_said_to_have_one() -> None:
    """`0 steps of 0 safe` would read as if there were nothing to do."""
    assert "20 steps safe" in summary_line(job(total_steps=0), [attempt()])
    assert "20 steps of 60 safe" in summary_line(job(), [attempt()])
