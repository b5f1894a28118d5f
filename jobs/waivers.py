"""What may be let pass at a resume, by name.

A checkpoint says what it was made under. Where an attempt finds something else, it refuses to go
on, unless the difference was waived by name: in the matrix (`resume.waive`), or for one job with
`orch retry JOB --waive NAME`. What belongs to a job's identity (its data, base weights, tokenizer,
spec) and what nothing could replace (weights, optimizer state) has no name here.
"""

from __future__ import annotations

from enum import StrEnum


class Waiver(StrEnum):
    """The name of an entry of a checkpoint that may differ where somebody said so."""

    LIBRARY_VERSIONS = "library_versions"
    PACKAGES = "packages"
    DEVICE_MODEL = "device_model"
    THREADS = "threads"
    WORLD_SIZE = "world_size"
    BATCH_GEOMETRY = "batch_geometry"
    RNG = "rng"
    SCHEDULER = "scheduler"
    SCALER = "scaler"


MEANINGS: dict[Waiver, str] = {
    Waiver.LIBRARY_VERSIONS: "other versions of Python, torch and the libraries that compute",
    Waiver.PACKAGES: "other installed packages, where `packages: strict` refuses them",
    Waiver.DEVICE_MODEL: "another model of GPU or CPU",
    Waiver.THREADS: "another number of CPU threads of a rank",
    Waiver.WORLD_SIZE: "another number of ranks",
    Waiver.BATCH_GEOMETRY: "another micro-batch, with the same global batch",
    Waiver.RNG: "a random state that is missing or does not fit: drawn anew from seed and step",
    Waiver.SCHEDULER: "other settings of the optimizer: those of the spec are taken",
    Waiver.SCALER: "another loss scaler: it begins anew",
}
# A cluster of mixed machines would otherwise end jobs at their first move. It is still on record.
WAIVED_BY_DEFAULT = (Waiver.DEVICE_MODEL,)


def parse_waivers(names: list[str]) -> tuple[Waiver, ...]:
    """Return the waivers of these names, each once. Raises ValueError naming the known ones."""
    found: dict[Waiver, None] = {}
    for name in names:
        try:
            found[Waiver(name)] = None
        except ValueError:
            known = ", ".join(Waiver)
            raise ValueError(f"nothing called {name!r} can be waived; known are {known}") from None
    return tuple(found)
