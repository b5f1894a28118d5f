"""May this attempt go on from that checkpoint, and is the chain still unbroken? Pure.

Every entry of the manifest is compared with what this attempt has. What is missing or differs is
refused by name with both values, or was waived by name; then the result says `exact: false` and
why (`jobs.waivers`). Nothing is made up for silently.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from checkpoints.manifest import Environment, Manifest
from jobs.contract.records import Overrides
from jobs.waivers import Waiver
from worker.standing import StandingRecord

_NAMES = frozenset(Waiver)
NEEDED_STATES = ("model", "optimizer", "rng", "position")
_IDENTITY = "restore it, or submit the changed one as a new job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An entry of a checkpoint that is not what this attempt has, or that is missing."""

    entry: str
    words: str  # both values
    fix: str = ""  # where no waiver helps
    reason: str = ""  # of a result, when it was waived; empty: `words` will do

    @property
    def waiver(self) -> Waiver | None:
        """By which name it may be let pass; None: by none."""
        return Waiver(self.entry) if self.entry in _NAMES else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What the attempt that resumes has."""

    environment: Environment
    engine: Mapping[str, Any]
    world_size: int
    micro_batch: int
    global_batch: int
    data_digest: str
    vocabulary_digest: str
    order_digest: str
    base_digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to become of the differences."""

    refused: tuple[Difference, ...] = ()
    waived: tuple[Difference, ...] = field(default=())

    def refusal(self, *, checkpoint: str, job: str) -> str | None:
        """Return why there is no going on, and what helps; None: nothing is refused."""
        if not self.refused:
            return None
        said = "; ".join(f"{d.entry}: {d.words}" for d in self.refused)
        text = f"checkpoint {checkpoint} is not what this attempt would go on with: {said}."
        fixes = dict.fromkeys(d.fix for d in self.refused if d.waiver is None and d.fix)
        if fixes:
            return f"{text} {'; '.join(fixes)}"
        names = dict.fromkeys(str(d.entry) for d in self.refused if d.waiver is not None)
        options = "".join(f" --waive {name}" for name in names)
        return f"{text} Restore what differs, or let it pass: orch retry {job[:8]}{options}"


def judge(differences: Collection[Difference], waived: Collection[str]) -> Verdict:
    """Return which differences are refused and which were waived."""
    return Verdict(
        refused=tuple(d for d in differences if d.waiver is None or d.waiver not in waived),
        waived=tuple(d for d in differences if d.waiver is not None and d.waiver in waived),
    )


def effective_waivers(waivers: Collection[str], overrides: Overrides) -> frozenset[str]:
    """Return what is waived: by name, and by what this submission changes on purpose."""
    names = set(waivers)
    if overrides.micro_batch is not None or overrides.ranks is not None:
        names.add(Waiver.BATCH_GEOMETRY)
    if overrides.ranks is not None:
        names.add(Waiver.WORLD_SIZE)
    return frozenset(names)


def differences(manifest: Manifest, saved: StandingRecord, now: Present) -> list[Difference]:
    """Return every entry of a checkpoint that is missing or is not what this attempt has."""
    return [
        *_missing_states(manifest),
        *_inputs(manifest, saved, now),
        *_engine(manifest, now),
        *_environment(manifest, now.environment),
        *_batch(manifest, saved, now),
    ]


def _missing_states(manifest: Manifest) -> Iterator[Difference]:
    for state in NEEDED_STATES:
        if state not in manifest.states:
            yield Difference(
                entry=state,
                words=f"not among the saved states ({', '.join(manifest.states)})",
                fix="take it away with `orch checkpoints`, so that an older one is used",
            )


def _inputs(manifest: Manifest, saved: StandingRecord, now: Present) -> Iterator[Difference]:
    base = manifest.base.digest if manifest.base is not None else None
    for entry, what, then, value in (
        ("data", "the task's files", saved.data_digest, now.data_digest),
        ("data", "the order of the data", manifest.position.order_digest, now.order_digest),
        ("tokenizer", "the vocabulary", saved.vocabulary_digest, now.vocabulary_digest),
        ("base", "the base model's weights (model.path)", base, now.base_digest),
    ):
        if then != value:
            yield Difference(
                entry=entry, words=f"{what}: {_both(then, value)}", fix=f"{entry}: {_IDENTITY}"
            )
    samples, step = manifest.position.samples, manifest.step
    if samples != step * now.global_batch:
        words = f"{samples} samples after {step} steps of {now.global_batch}"
        yield Difference(entry="position", words=words, fix=f"position: {_IDENTITY}")


def _engine(manifest: Manifest, now: Present) -> Iterator[Difference]:
    for key in sorted({*manifest.engine, *now.engine} - {"ranks", "threads_per_rank"}):
        then, value = manifest.engine.get(key), now.engine.get(key)
        if then != value:
            words = f"{key} {_both(then, value)}"
            yield Difference(entry="engine", words=words, fix=f"engine: {_IDENTITY}")


def _environment(manifest: Manifest, now: Environment) -> Iterator[Difference]:
    then, at = manifest.environment, f"at step {manifest.step}"
    for library in sorted({*then.versions, *now.versions}):
        before, after = then.versions.get(library), now.versions.get(library)
        if before != after:
            yield Difference(
                entry=Waiver.LIBRARY_VERSIONS,
                words=f"{library} {_both(before, after)}",
                reason=f"{library} {before} -> {after} {at}",
            )
    for entry in (Waiver.DEVICE_MODEL, Waiver.THREADS):
        before, after = getattr(then, entry), getattr(now, entry)
        if before != after:
            yield Difference(
                entry=entry,
                words=_both(before, after),
                reason=f"{entry} {before} -> {after} {at}",
            )


def _batch(manifest: Manifest, saved: StandingRecord, now: Present) -> Iterator[Difference]:
    at = f"at step {manifest.step}"
    if manifest.world_size != now.world_size:
        yield Difference(
            entry=Waiver.WORLD_SIZE,
            words=_both(manifest.world_size, now.world_size),
            reason=f"world_size {manifest.world_size} -> {now.world_size} {at}:"
            " sums round by rank, and the ranks' random states are drawn anew",
        )
    if saved.micro_batch != now.micro_batch:
        yield Difference(
            entry=Waiver.BATCH_GEOMETRY,
            words=f"micro_batch {_both(saved.micro_batch, now.micro_batch)}",
            reason=f"micro_batch {saved.micro_batch} -> {now.micro_batch} {at}",
        )


def _both(then: object, now: object) -> str:
    """Return both values in words; digests by their beginning, where that tells them apart."""
    one, other = (_short(value) for value in (then, now))
    if one == other:
        one, other = str(then), str(now)
    return f"{one} when saved, {other} now"


def _short(value: object) -> str:
    text = "not on record" if value is None else str(value)
    return text[:19] if text.startswith("sha256:") else text


def packages_reasons(then: Environment, now: Environment, *, step: int) -> list[str]:
    """Return a reason when the lock digests of two attempts differ; an unknown one is none."""
    if None in (then.packages, now.packages) or then.packages == now.packages:
        return []
    return [f"other installed packages than before at step {step}"]


def inexact_reasons(waived: Collection[Difference], manifest: Manifest, now: Present) -> list[str]:
    """Return why what comes of this resume cannot be called exact."""
    reasons = [d.reason or f"{d.entry}: {d.words} at step {manifest.step}" for d in waived]
    if not any(d.entry == Waiver.LIBRARY_VERSIONS for d in waived):
        # Named libraries say it better; this is about all the others.
        reasons += packages_reasons(manifest.environment, now.environment, step=manifest.step)
    return reasons
