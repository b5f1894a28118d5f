"""Again or stop: the one rule for a job without a result. Pure.

Both the reconciler and the batch script ask it, so a job stops for the same reason with and
without a watcher. Preemptions and time limits cost nothing while the job durably grows; what
never grows stops. `orchestrator/policy.py` adds what only the scheduler knows (nodes, memory).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.budgets import backoff, spent
from jobs.contract.records import RESUME_REFUSED, ExitRecord, Outcome, Overrides
from jobs.history import AttemptHistory, JobHistory, ran_out_of_memory
from jobs.lost_time import lost_seconds
from jobs.names import printable
from jobs.poison import Death, find_poison
from jobs.spec import RetrySpec

# What comes after the last step has no growing step, so phases are ordered.
PHASE_ORDER = {"evaluating": 1, "testing": 2, "testing_traditional": 3, "finished": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Run the job again after `delay` seconds."""

    reason: str
    delay: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """No further attempt; the reason is for people."""

    reason: str


Decision = Again | Stop


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Position:
    """How far a job has come, in a total order: committed step, phase, examples scored in it."""

    step: int = 0
    phase: int = 0
    evaluated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where all attempts together have come, and how many restarts in a row added nothing."""

    best: Position
    fruitless: int  # consecutive restarts at the end in which nothing grew
    phase: str | None = None  # of the newest attempt


def decide(history: JobHistory, retry: RetrySpec, *, unattended: bool = False) -> Decision:
    """Return whether a job whose newest launch has ended runs again.

    `unattended`: nobody can change the next attempt (the batch script asks), so what would
    only end the same way stops.
    """
    if history.completed:
        return Stop(reason="it has its result")
    attempts = _telling(history.attempts)
    if not attempts and not history.unclaimed:
        return Again(reason="nothing has run yet")
    end = attempts[-1].exit if attempts and not history.unclaimed else None
    refused = _over_budget(end, attempts, retry, unattended=unattended)
    if refused is None and unattended:
        refused = _poisoned(attempts, retry)
    refused = refused or _too_much_lost(attempts, retry)
    if refused is not None:
        return refused
    standing = progress(history)
    if standing.fruitless >= retry.restarts_without_progress:
        return Stop(reason=_no_progress(standing, end, unclaimed=history.unclaimed))
    delay = backoff(standing.fruitless, retry, job=history.job, attempt=len(attempts))
    return Again(reason=_end_in_words(end, unclaimed=history.unclaimed), delay=delay)


def _too_much_lost(attempts: Sequence[AttemptHistory], retry: RetrySpec) -> Stop | None:
    if retry.max_lost_hours is None:
        return None
    lost = lost_seconds([attempt.spent for attempt in attempts]) / 3600
    if lost <= retry.max_lost_hours:
        return None
    return Stop(
        reason=f"{lost:.2g} hours went into restarts and repeated steps; retry.max_lost_hours"
        f" allows {retry.max_lost_hours:g}: save more often (save.every_steps), or raise it"
    )


def progress(history: JobHistory) -> Standing:
    """Return how far the job is and how many restarts in a row brought it no further.

    The first launch is no restart, and neither is one under other conditions (more memory, a
    smaller micro-batch, an older checkpoint): those have bounds of their own. After a fall back to
    an older checkpoint (a newer one was broken) growth counts from there, once: two levels that
    only grow, so a checkpoint that breaks again and again cannot pass for progress.
    """
    peak = Position()
    fallback: Position | None = None
    fruitless, newest_phase = 0, None
    attempts = _telling(history.attempts)
    for index, attempt in enumerate(attempts):
        end = _position(attempt)
        if end > peak:
            peak, fallback, grew = end, None, True
        else:
            start = attempt.resumed_step
            if fallback is None and start is not None and start < peak.step:
                fallback = Position(step=start)
            grew = fallback is not None and end > fallback
            if grew:
                fallback = end
        anew = index == 0 or _conditions(attempt) != _conditions(attempts[index - 1])
        fruitless = 0 if grew or anew else fruitless + 1
        newest_phase = attempt.phase
    launches = history.unclaimed if attempts else max(0, history.unclaimed - 1)
    return Standing(best=peak, fruitless=fruitless + launches, phase=newest_phase)


def _conditions(attempt: AttemptHistory) -> object:
    """Return what the orchestrator changed for an attempt; a torn claim changes nothing."""
    return attempt.claim.overrides if attempt.claim else Overrides()


def _telling(attempts: Sequence[AttemptHistory]) -> list[AttemptHistory]:
    """Leave out fenced attempts: they ended because another one held the job."""
    return [a for a in attempts if a.exit is None or a.exit.outcome is not Outcome.FENCED]


def _position(attempt: AttemptHistory) -> Position:
    step = attempt.committed_step or 0
    trained = attempt.total_steps is not None and step >= attempt.total_steps
    phase = PHASE_ORDER.get(attempt.phase or "", 0)
    # What an evaluation of a step that is not committed has scored shows only when it is reached.
    evaluated = attempt.evaluated if phase and attempt.last_step == step else 0
    return Position(step=step, phase=phase if trained else 0, evaluated=evaluated)


def _over_budget(
    end: ExitRecord | None,
    attempts: Sequence[AttemptHistory],
    retry: RetrySpec,
    *,
    unattended: bool,
) -> Stop | None:
    if end is None:
        return None
    count = spent((_same_cause(a.exit, end), a.committed_step) for a in attempts)
    what = _error_in_words(end)
    match end.outcome:
        case Outcome.CONFIGURATION:
            return Stop(reason=_configuration_in_words(end))
        case Outcome.DEVICE_OOM if unattended:
            return Stop(
                reason=f"device out of memory: {what}; `orch watch` can run it again with half"
                " the micro-batch"
            )
        case Outcome.EXCEPTION if count > retry.exceptions and not ran_out_of_memory(end):
            return Stop(
                reason=f"exception: {what} (time {count}; retry.exceptions allows"
                f" {retry.exceptions} more)"
            )
        case Outcome.COMPLETED if count > retry.incomplete:
            return Stop(
                reason=f"it said completed {count} times, but there is no valid result"
                f" (retry.incomplete allows {retry.incomplete} more)"
            )
    return None


def _configuration_in_words(end: ExitRecord) -> str:
    if end.error is not None and end.error.type == RESUME_REFUSED:  # it says itself what helps
        return f"resume refused: {printable(end.error.message, limit=2000).strip('`')}"
    return f"configuration: {_error_in_words(end)}; no retry can help"


def _same_cause(one: ExitRecord | None, end: ExitRecord) -> bool:
    return (
        one is not None
        and one.outcome is end.outcome
        and ran_out_of_memory(one) == ran_out_of_memory(end)
    )


_DEATHS = frozenset({None, Outcome.EXCEPTION, Outcome.PEER_LOST})  # None: without a word


def _poisoned(attempts: Sequence[AttemptHistory], retry: RetrySpec) -> Stop | None:
    """Stop where only the next attempt of an orchestrator can take another checkpoint."""
    outcomes = [attempt.exit.outcome if attempt.exit else None for attempt in attempts]
    if outcomes[-1:] and outcomes[-1] not in _DEATHS:
        return None
    deaths = [
        Death(resumed_from=attempt.resumed_from, step=attempt.last_step)
        for attempt, outcome in zip(attempts, outcomes, strict=True)
        if outcome in _DEATHS
    ]
    found = find_poison(deaths, attempts=retry.poison_attempts)
    if found is None:
        return None
    return Stop(
        reason=f"{found.deaths} attempts died at step {found.step} after resuming from"
        f" {found.checkpoint}; `orch watch` can go back to the checkpoint before"
    )


def _no_progress(standing: Standing, end: ExitRecord | None, *, unclaimed: int) -> str:
    step = standing.best.step
    where = f"the committed step stayed at {step}" if step else "no step was ever committed"
    if standing.best.phase and standing.phase:
        where += f", phase {standing.phase}"
    if standing.best.evaluated:
        where += f", {standing.best.evaluated} examples of an evaluation scored"
    return (
        f"no progress: {standing.fruitless} restarts in a row in which {where}"
        f" (the last one: {_end_in_words(end, unclaimed=unclaimed)}); see `orch logs`, then save"
        " more often (save.every_steps), ask for more time, or raise"
        " retry.restarts_without_progress"
    )


def _end_in_words(end: ExitRecord | None, *, unclaimed: int) -> str:
    if unclaimed:
        return "the launch ended before an attempt began"
    if end is None:
        return "the attempt ended without a word"
    cause = f" ({end.cause})" if end.cause else ""
    words = {
        Outcome.SAVED: f"saved at step {end.committed_step}{cause}",
        Outcome.NO_PROGRESS: f"stopped with nothing new to save{cause}",
        Outcome.PEER_LOST: f"a rank was lost at step {end.last_step}",
        Outcome.COMPLETED: "it said completed, but there is no valid result",
    }
    return words.get(end.outcome) or f"{end.outcome}: {_error_in_words(end)}"


def _error_in_words(end: ExitRecord) -> str:
    if end.error is None:
        return f"rank {end.rank} left with {end.exit_code}"
    lines = end.error.message.strip().splitlines()
    message = printable(lines[0], limit=200).strip("`") if lines else ""
    return f"rank {end.rank}: {end.error.type}: {message}"
