"""The goodput ledger: parts that add up, each loss charged once, and a ratio with a meaning."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.contract.records import Spent
from orchestrator.ledger import Account, job_ledger, together
from orchestrator.timeline import AttemptRow
from orchestrator.views.goodput import percent, span


def attempt(epoch: int | None = 1, **fields: Any) -> AttemptRow:
    """Return an attempt of 100 s that was queued for 10 s and accounts for 98 s."""
    values: dict[str, Any] = {
        "epoch": epoch, "scheduler": "slurm", "scheduler_id": "7_0", "nodes": "n1",
        "queued_at": 0.0, "started_at": 10.0, "ended_at": 110.0, "first_step": 0, "last_step": 50,
        "committed_step": 40, "end_class": "preempted", "decision": "RETRYING: x",
        "spent": Spent(starting=8, training=70, evaluating=10, saving=10),
    }  # fmt: skip
    return AttemptRow(**{**values, **fields})


SECOND = attempt(
    2, queued_at=115.0, started_at=130.0, ended_at=200.0, end_class="completed",
    decision="COMPLETED: ",
    spent=Spent(
        starting=8, replayed=14, training=30, testing=8, saving=3, suspended=5, replayed_steps=10
    ),
)  # fmt: skip


def test_the_parts_of_an_attempt_add_up_to_its_wall_time() -> None:
    """What no phase accounts for is wasted."""
    (account,) = job_ledger([attempt()], now=500.0).attempts

    assert account == Account(queued=10, starting=8, useful=80, saving=10, wasted=2)
    assert account.running == pytest.approx(100.0)


def test_the_ratio_is_of_all_time_since_the_first_start() -> None:
    """The wait before the first start says nothing of interruptions; the later one does."""
    ledger = job_ledger([attempt(), SECOND], now=500.0)

    assert ledger.eligible == pytest.approx(100 + 20 + 70)  # queued since the end of the first
    assert ledger.total.useful == pytest.approx(80 + 38)
    assert ledger.ettr == pytest.approx(118 / 190)
    assert ledger.replayed_steps == 10
    assert ledger.lost == pytest.approx(14 + 8)  # the first starting is no loss


@pytest.mark.parametrize(
    "stopped", [{"end_class": "held"}, {"end_class": "exception", "decision": "FAILED: x"}]
)
def test_time_in_which_a_person_or_a_rule_had_it_stopped_is_in_neither(
    stopped: dict[str, str],
) -> None:
    """Only from its new handing over does it wait again."""
    later = attempt(2, queued_at=1000.0, started_at=1010.0, ended_at=1110.0)

    ledger = job_ledger([attempt(**stopped), later], now=5000.0)

    assert ledger.attempts[1].queued == pytest.approx(10.0)
    assert ledger.eligible == pytest.approx(210.0)


def test_an_attempt_without_an_account_is_wasted_and_one_that_runs_counts_up_to_now() -> None:
    """It left nothing that says otherwise."""
    dead = attempt(spent=None)
    running = attempt(2, started_at=130.0, ended_at=None, spent=Spent(starting=5, training=10))

    first, second = job_ledger([dead, running], now=150.0).attempts

    assert (first.wasted, first.useful) == (100.0, 0.0)
    assert second.running == pytest.approx(20.0)


def test_a_launch_that_never_became_an_attempt_is_time_in_the_queue() -> None:
    """And no account is expected of it."""
    launch = attempt(None, started_at=None, spent=None)

    ledger = job_ledger([launch], now=500.0)

    assert ledger.total == Account(queued=110.0)
    assert ledger.ettr is None


def test_a_clock_that_disagrees_makes_nothing_negative() -> None:
    """Nodes' clocks are not ours."""
    (account,) = job_ledger([attempt(started_at=200.0, queued_at=500.0)], now=0.0).attempts

    assert account.queued == 0.0
    assert account.wasted == 0.0


def test_a_matrix_is_its_jobs_together() -> None:
    """Long jobs weigh more than short ones."""
    both = together([job_ledger([attempt()], now=0.0), job_ledger([attempt(), SECOND], now=0.0)])

    assert both.total.useful == pytest.approx(80 + 118)
    assert both.ettr == pytest.approx(198 / 290)
    assert together([]).ettr is None


def test_spans_and_ratios_are_short() -> None:
    """Eight columns must fit on 80."""
    assert [span(s) for s in (0.0, 3.21, 45, 600, 12_600)] == ["", "3.2s", "45s", "10m", "3.5h"]
    assert [percent(r) for r in (None, 0.974)] == ["-", "97%"]
