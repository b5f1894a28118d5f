"""May this attempt go on from that checkpoint, and is the chain still unbroken? Pure.

`exact: true` claims that an uninterrupted run would have given the same bits. What may change
bits without changing meaning (a library version, the number of threads, a halved micro-batch)
is a reason recorded; what changes meaning (other data, another base model) is refused.
"""

from __future__ import annotations

from checkpoints.manifest import Environment, Manifest
from worker.failures import Misconfigured
from worker.standing import StandingRecord

FORBIDDEN = {
    "data_digest": "the task's files differ from those that the run began with: restore them",
    "vocabulary_digest": "the tokenizer differs from the one that the run began with: restore it",
}


def check_inputs(
    saved: StandingRecord,
    *,
    data_digest: str,
    vocabulary_digest: str,
    saved_base: str | None,
    base_digest: str | None,
    name: str,
) -> None:
    """Raise `Misconfigured` when the run would go on with other inputs than it began with."""
    now = {"data_digest": data_digest, "vocabulary_digest": vocabulary_digest}
    for field, why in FORBIDDEN.items():
        if getattr(saved, field) != now[field]:
            raise Misconfigured(f"checkpoint {name}: {why}, or submit the changed one as a new job")
    if saved_base != base_digest:
        raise Misconfigured(
            f"checkpoint {name}: the base model's weights differ from those that the run began"
            f" with ({saved_base} then, {base_digest} now): restore model.path"
        )


def inexact_reasons(
    manifest: Manifest, saved: StandingRecord, *, now: Environment, micro_batch: int
) -> list[str]:
    """Return what differs between the attempt that saved and this one."""
    then, reasons = manifest.environment, []
    for library in sorted(set(then.versions) | set(now.versions)):
        before, after = then.versions.get(library), now.versions.get(library)
        if before != after:
            reasons.append(f"{library} {before} -> {after} at step {manifest.step}")
    for field in ("device_model", "threads"):
        before, after = getattr(then, field), getattr(now, field)
        if before != after:
            reasons.append(f"{field} {before} -> {after} at step {manifest.step}")
    if not reasons:  # named libraries say it better; this is about all the others
        reasons = packages_reasons(then, now, step=manifest.step)
    if saved.micro_batch != micro_batch:
        reasons.append(f"micro_batch {saved.micro_batch} -> {micro_batch} at step {manifest.step}")
    return reasons


def packages_reasons(then: Environment, now: Environment, *, step: int) -> list[str]:
    """Return a reason when the lock digests of two attempts differ; an unknown one is none."""
    if None in (then.packages, now.packages) or then.packages == now.packages:
        return []
    return [f"other installed packages than before at step {step}"]
