"""What follows an end without a result. Pure.

Every cause has a budget, counted by `jobs.budgets`; what changes the next attempt (memory,
micro-batch, checkpoint) is bounded by itself; everything else also needs progress, which is
`jobs.retry`'s question. docs/policy.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.budgets import backoff, spent
from jobs.contract.records import Distrusted, Overrides
from jobs.geometry import batch_geometry
from jobs.history import JobHistory
from jobs.poison import Death, find_poison
from jobs.retry import Again, decide
from jobs.spec import JobSpec, Semantic
from orchestrator.classification import Meaning
from orchestrator.facts import NO_OVERRIDES, Blame, EndClass, EndFacts

MEMORY_FACTOR = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAgain:
    """Hand the job over again after `delay` seconds, with these overrides."""

    reason: str
    delay: float = 0.0
    overrides: Overrides = NO_OVERRIDES


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """No further attempt; the reason names the rule and what a person can do."""

    reason: str


# Preempted, timed out, held by a person: free, as long as there is progress.
FREE = frozenset({EndClass.PREEMPTED, EndClass.TIME_LIMIT, EndClass.HELD})

# The budget of each other cause, a key of `retry`. Causes with one key share it.
BUDGETS = {
    EndClass.EXCEPTION: "exceptions",
    EndClass.INCOMPLETE: "incomplete",
    EndClass.LAUNCH: "launch_failures",
    EndClass.STALLED: "stalls",
    EndClass.NODE: "node_failures",
    EndClass.LOST: "node_failures",
    EndClass.FENCED: "node_failures",
}

# Ends that what was resumed from may have caused.
DEADLY = frozenset({EndClass.EXCEPTION, EndClass.NODE, EndClass.LOST, EndClass.STALLED})


def next_step(
    end: Meaning,
    *,
    ends: Sequence[EndFacts],
    spec: JobSpec,
    overrides: Overrides,
    history: JobHistory,
) -> RunAgain | GiveUp:
    """Return what follows an end without result.

    `ends`: all recorded ones, this one last. `history`: what the job directory says.
    """
    changed = _changed_course(end, ends, spec, overrides)
    if changed is not None:
        return changed  # other conditions have bounds of their own
    if end.end_class is EndClass.CONFIGURATION:
        return GiveUp(reason=f"configuration: {end.cause}")
    if end.end_class is EndClass.RESUME_REFUSED:
        return GiveUp(reason=f"resume refused: {end.cause}")
    if end.end_class in FREE:
        step: RunAgain | GiveUp = RunAgain(reason=end.cause, overrides=overrides)
    else:
        step = _within_budget(end, ends, spec, overrides)
    return step if isinstance(step, GiveUp) else _with_progress(step, spec, history)


def _changed_course(
    end: Meaning, ends: Sequence[EndFacts], spec: JobSpec, overrides: Overrides
) -> RunAgain | GiveUp | None:
    """Return what follows where the next attempt must be another one; None: it need not."""
    if end.end_class is EndClass.HOST_OOM:
        return _more_memory(end, spec, overrides)
    if end.end_class is EndClass.DEVICE_OOM:
        return _smaller_micro_batch(end, spec, overrides)
    if end.end_class in DEADLY and end.blame is not Blame.CERTAIN:
        return _other_checkpoint(end, ends, spec, overrides)
    return None


def _within_budget(
    end: Meaning, ends: Sequence[EndFacts], spec: JobSpec, overrides: Overrides
) -> RunAgain | GiveUp:
    retry, key = spec.run.retry, BUDGETS[end.end_class]
    budget: int = getattr(retry, key)
    count = spent((BUDGETS.get(e.end_class) == key, e.committed_step) for e in ends)
    if count > budget:
        return GiveUp(reason=f"{_said(end)} (time {count}; retry.{key} allows {budget} more)")
    return RunAgain(
        reason=_said(end),
        delay=backoff(count, retry, job=spec.id, attempt=len(ends)),
        overrides=overrides,
    )


def _said(end: Meaning) -> str:
    """Return the class and the cause, once where the cause says the class already."""
    named = str(end.end_class) in end.cause.split(": ")
    return end.cause if named else f"{end.end_class}: {end.cause}"


def _with_progress(step: RunAgain, spec: JobSpec, history: JobHistory) -> RunAgain | GiveUp:
    verdict = decide(history, spec.run.retry)
    if not isinstance(verdict, Again):
        return GiveUp(reason=verdict.reason)
    return replace(step, delay=max(step.delay, verdict.delay))


def _other_checkpoint(
    end: Meaning, ends: Sequence[EndFacts], spec: JobSpec, overrides: Overrides
) -> RunAgain | GiveUp | None:
    """Go back one checkpoint, once, when attempts keep dying at one step; None: they do not."""
    deaths = [e for e in ends if e.end_class in DEADLY and e.blame is not Blame.CERTAIN]
    last = deaths[-1] if deaths else None
    if last is None or last.last_step is None:
        return None
    peak = max((e.committed_step or 0 for e in ends), default=0)
    for earlier in overrides.distrusted:
        if earlier.died_at == last.last_step and peak <= earlier.died_at:
            began = f"from {last.resumed_from}" if last.resumed_from else "from the beginning"
            return GiveUp(
                reason=f"poison: attempts died at step {earlier.died_at} after resuming from"
                f" {earlier.checkpoint}, and again {began}: {end.cause}. The step is to blame, not"
                " the checkpoint, which is kept in checkpoints/quarantine; see `orch logs`"
            )
    found = find_poison(
        [Death(resumed_from=e.resumed_from, step=e.last_step) for e in deaths],
        attempts=spec.run.retry.poison_attempts,
    )
    if found is None or any(peak <= earlier.died_at for earlier in overrides.distrusted):
        return None  # a second way back needs progress beyond the step of the first
    why = f"{found.deaths} attempts died at step {found.step} after resuming from it"
    put_away = Distrusted(checkpoint=found.checkpoint, died_at=found.step, reason=why)
    return RunAgain(
        reason=f"poison: {why} ({found.checkpoint}): {end.cause}; now from the one before",
        overrides=overrides.model_copy(update={"distrusted": (*overrides.distrusted, put_away)}),
    )


def _more_memory(end: Meaning, spec: JobSpec, overrides: Overrides) -> RunAgain | GiveUp:
    current = overrides.memory_gb or spec.run.resources.memory_gb
    cap = spec.run.retry.max_memory_gb
    if cap is None or current >= cap:
        fix = (
            "raise resources.memory_gb, or set retry.max_memory_gb"
            if cap is None
            else f"retry.max_memory_gb is {cap:g}"
        )
        return GiveUp(reason=f"out of memory with {current:g} GB: {fix}")
    memory = min(cap, current * MEMORY_FACTOR)
    return RunAgain(
        reason=f"{end.cause}; now with {memory:g} GB instead of {current:g}",
        overrides=overrides.model_copy(update={"memory_gb": memory}),
    )


def _smaller_micro_batch(end: Meaning, spec: JobSpec, overrides: Overrides) -> RunAgain | GiveUp:
    if not isinstance(spec.semantic, Semantic):  # only a training has a micro-batch to halve
        return GiveUp(reason=f"device out of memory: {end.cause}")
    current = batch_geometry(spec.semantic, overrides).micro_batch
    least = spec.semantic.micro_batch / 2**spec.run.retry.micro_batch_halvings
    if current % 2 or current // 2 < least:
        return GiveUp(
            reason=f"device out of memory with micro_batch {current}: lower train.micro_batch"
            f" or the model's size (retry.micro_batch_halvings allows"
            f" {spec.run.retry.micro_batch_halvings}; {end.cause})"
        )
    return RunAgain(
        reason=f"{end.cause}; now with micro_batch {current // 2}, same global batch",
        overrides=overrides.model_copy(update={"micro_batch": current // 2}),
    )
