"""What must hold of a store of checkpoints after anything: as sentences about what does not."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from checkpoints.errors import BrokenCheckpoint
from checkpoints.store import CheckpointStore
from checkpoints.verification import canonical_name
from tests.crash.two_ranks import open_store
from tests.unit.checkpoints.fake_attempt import shard


def broken_names(store: CheckpointStore) -> dict[str, str]:
    """Return which committed checkpoints are not whole, and why. Changes nothing."""
    found = {}
    for name in store.candidates():
        try:
            store.verify(name)
        except BrokenCheckpoint as problem:
            found[name] = str(problem)
    return found


def problems(
    root: Path, *, allowed: Collection[str], damaged: Collection[str] = (), at_least: int = 2
) -> list[str]:
    """Return what is wrong; nothing is if all is well.

    Right is: `latest_verified` gives one of `allowed`, every byte as it was saved (a fact known
    from outside); every other name is whole, but for those of `damaged`, which are never given and
    end in quarantine with their reason; there are `at_least` so many good ones.
    """
    store = open_store(root)
    found = [
        f"{name} has its name and is broken: {why}"
        for name, why in broken_names(store).items()
        if name not in damaged
    ]
    good = set(store.candidates()) - set(damaged)
    if len(good) < at_least:
        found.append(f"only {sorted(good)} are left, {at_least} must be")
    loaded = store.latest_verified(lambda report: None)
    if loaded is None:
        return found if at_least == 0 else [*found, "there is no verified checkpoint"]
    if loaded.name not in allowed:
        found.append(f"{loaded.name} is given, right are {sorted(allowed)}")
    found += [
        f"{loaded.name} holds other bytes than rank {rank} saved"
        for rank in range(loaded.manifest.world_size)
        if loaded.read_rank(rank) != shard(step=loaded.manifest.step, rank=rank)
    ]
    return found + _quarantine(root, loaded.name, damaged)


def quarantined(root: Path) -> dict[str, Path]:
    """Return which checkpoints lie in quarantine, and in which cell (of several, one)."""
    cells = (root / "quarantine").iterdir() if (root / "quarantine").exists() else ()
    return {
        path.name: cell for cell in cells for path in cell.iterdir() if canonical_name(path.name)
    }


def _quarantine(root: Path, loaded: str, damaged: Collection[str]) -> list[str]:
    """Check that what was put away had to be, and that the reason stands beside it."""
    away = quarantined(root)
    found = [f"{name} was put into quarantine" for name in away if name not in damaged]
    for name, cell in away.items():
        if not json.loads((cell / "QUARANTINE.json").read_bytes())["reason"]:
            found.append(f"{name} was put away without a reason")
    newer = [name for name in damaged if _key(name) > _key(loaded)]
    found += [f"{name} is damaged and gone" for name in newer if name not in away]
    return found


def _key(name: str) -> tuple[int, int]:
    key = canonical_name(name)
    assert key is not None
    return key


def newest(names: Collection[str]) -> str:
    """Return the newest of some names."""
    return max(names, key=_key)
