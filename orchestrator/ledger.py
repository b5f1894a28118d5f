"""The goodput ledger: what a job's time went into, from its records. Pure (docs/goodput.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.contract.records import Spent
from jobs.lost_time import lost_seconds
from orchestrator.timeline import AttemptRow

# After such an end or decision the job did not wait: a person or a rule had it stopped.
_STOPPING_ENDS = frozenset({"held", "cancelled"})
_STOPPING_STATES = ("FAILED", "HELD", "CANCELLED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Seconds by what they went into. All but `queued` are an attempt's wall time."""

    queued: float = 0.0
    starting: float = 0.0
    useful: float = 0.0  # training, evaluating and testing, each step once
    replayed: float = 0.0  # what an earlier attempt had done already
    saving: float = 0.0
    suspended: float = 0.0
    wasted: float = 0.0  # of no phase: dying, hanging, or dead and not noticed yet

    @property
    def running(self) -> float:
        """The wall time of attempts."""
        return (
            self.starting + self.useful + self.replayed + self.saving + self.suspended + self.wasted
        )

    def __add__(self, other: Account) -> Account:
        """Return both together."""
        # Spelled out: a store may have hundreds of thousands of attempts.
        return Account(
            queued=self.queued + other.queued,
            starting=self.starting + other.starting,
            useful=self.useful + other.useful,
            replayed=self.replayed + other.replayed,
            saving=self.saving + other.saving,
            suspended=self.suspended + other.suspended,
            wasted=self.wasted + other.wasted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """A job's account, or a matrix's."""

    total: Account
    eligible: float  # since the first start: running, or waiting without a person's doing
    lost: float  # in restarts and repetitions, as `retry.max_lost_hours` counts it
    replayed_steps: int
    attempts: tuple[Account, ...] = ()

    @property
    def ettr(self) -> float | None:
        """The effective training time ratio; None before the first start."""
        return self.total.useful / self.eligible if self.eligible > 0 else None

    def summed(self) -> Ledger:
        """Return it without the attempts, for those who keep very many."""
        return Ledger(
            total=self.total,
            eligible=self.eligible,
            lost=self.lost,
            replayed_steps=self.replayed_steps,
        )


def job_ledger(attempts: Sequence[AttemptRow], *, now: float) -> Ledger:
    """Return a job's ledger from its attempts, oldest first."""
    accounts: list[Account] = []
    eligible, started, before = 0.0, False, None
    for attempt in attempts:
        account = attempt_account(attempt, before, now=now)
        eligible += account.running + (account.queued if started else 0.0)
        started = started or attempt.started_at is not None
        accounts.append(account)
        before = attempt
    spent = [attempt.spent for attempt in attempts if attempt.epoch is not None]
    return Ledger(
        total=sum(accounts, Account()),
        eligible=eligible,
        lost=lost_seconds(spent),
        replayed_steps=sum(one.replayed_steps for one in spent if one is not None),
        attempts=tuple(accounts),
    )


def attempt_account(attempt: AttemptRow, before: AttemptRow | None, *, now: float) -> Account:
    """Return one attempt's account; `before`: the one that ended before it began."""
    end = now if attempt.ended_at is None else attempt.ended_at
    start = end if attempt.started_at is None else attempt.started_at
    since = _waiting_since(attempt, before)
    queued = 0.0 if since is None else max(0.0, start - since)
    spent = attempt.spent or Spent()
    useful = spent.training + spent.evaluating + spent.testing
    told = spent.starting + useful + spent.replayed + spent.saving + spent.suspended
    return Account(
        queued=queued,
        starting=spent.starting,
        useful=useful,
        replayed=spent.replayed,
        saving=spent.saving,
        suspended=spent.suspended,
        wasted=max(0.0, end - start - told),
    )


def _waiting_since(attempt: AttemptRow, before: AttemptRow | None) -> float | None:
    """Return from when on the job waited: its last end, or when it was handed over after a stop."""
    if before is None or before.ended_at is None:
        return attempt.queued_at
    stopped = before.end_class in _STOPPING_ENDS or before.decision.startswith(_STOPPING_STATES)
    if stopped and attempt.queued_at is not None:
        return max(before.ended_at, attempt.queued_at)
    return before.ended_at


def together(ledgers: Iterable[Ledger]) -> Ledger:
    """Return the ledger of several jobs, e.g. of a matrix."""
    some = list(ledgers)
    return Ledger(
        total=sum((one.total for one in some), Account()),
        eligible=sum(one.eligible for one in some),
        lost=sum(one.lost for one in some),
        replayed_steps=sum(one.replayed_steps for one in some),
    )
