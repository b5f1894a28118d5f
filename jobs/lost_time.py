"""What interruptions have cost a job, by its attempts' own accounts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.contract.records import Spent


def lost_seconds(accounts: Sequence[Spent | None]) -> float:
    """Return the seconds that an uninterrupted job would not have needed.

    `accounts`, oldest attempt first: the starting of every attempt but the first, and what was done
    a second time. None: the attempt left no account.
    """
    replayed = sum(one.replayed for one in accounts if one is not None)
    return replayed + sum(one.starting for one in accounts[1:] if one is not None)
