"""Lost hours as a stop rule: pure, and the same with and without a watcher."""

from __future__ import annotations

import pytest

from jobs.contract.records import ExitRecord, Outcome, Spent
from jobs.history import AttemptHistory, JobHistory
from jobs.lost_time import lost_seconds
from jobs.retry import Again, Stop, decide
from jobs.spec import RetrySpec


def history(*accounts: Spent | None) -> JobHistory:
    """Return attempts that each committed more, with these accounts."""
    return JobHistory(
        attempts=tuple(
            AttemptHistory(
                epoch=number,
                committed_step=10 * number,
                spent=spent,
                exits=(
                    ExitRecord(
                        epoch=number, rank=0, outcome=Outcome.SAVED, exit_code=75, last_step=1
                    ),
                ),
            )
            for number, spent in enumerate(accounts, start=1)
        )
    )


def test_the_first_start_is_no_loss_and_a_missing_account_is_none() -> None:
    """Every job must start once."""
    accounts = [Spent(starting=100), None, Spent(starting=30, replayed=50, training=7)]

    assert lost_seconds(accounts) == 80
    assert lost_seconds([]) == 0


@pytest.mark.parametrize("unattended", [False, True])
def test_a_job_that_loses_more_than_it_may_stops_and_says_why(unattended: bool) -> None:
    """Although each attempt made progress."""
    lossy = history(Spent(starting=60), Spent(starting=1800, replayed=2160))

    allowed = decide(lossy, RetrySpec(max_lost_hours=1.2), unattended=unattended)
    refused = decide(lossy, RetrySpec(max_lost_hours=1.0), unattended=unattended)

    assert isinstance(allowed, Again)
    assert isinstance(refused, Stop)
    assert "1.1 hours" in refused.reason
    assert "retry.max_lost_hours" in refused.reason


def test_without_the_rule_nothing_is_lost_too_much() -> None:
    """It is off by default."""
    assert isinstance(decide(history(Spent(), Spent(replayed=1e9)), RetrySpec()), Again)


def test_a_retry_begins_the_count_anew() -> None:
    """Budgets are whole after `orch retry`."""
    lossy = history(Spent(), Spent(replayed=7200), Spent(starting=5))

    assert isinstance(decide(lossy.since(2), RetrySpec(max_lost_hours=1)), Again)
