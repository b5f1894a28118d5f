"""A store in any order of saves, failures, damage, crashes and pruning (searched by hypothesis)."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from checkpoints.fault_points import FAULT_POINTS
from checkpoints.retention import newest_first
from durable import faults
from jobs.contract.paths import checkpoint_name
from tests.unit.checkpoints.fake_attempt import assert_loads, open_store, save, stage_rank

POINTS = sorted({*FAULT_POINTS, "files.before_fsync", "publish_dir.after_rename"})


class StoreMachine(RuleBasedStateMachine):
    """The model: which names are committed and not damaged."""

    @initialize()
    def start(self) -> None:
        """Begin with an empty store at epoch 1."""
        self.directory = Path(tempfile.mkdtemp())
        self.root = self.directory / "checkpoints"
        self.store = open_store(self.root)
        self.good: set[str] = set()
        self.damaged: set[str] = set()
        self.epoch = 1
        self.step = 0

    def teardown(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.directory, ignore_errors=True)

    @rule()
    def commit(self) -> None:
        """Save a later step."""
        self.step += 1
        self.good.add(save(self.store, step=self.step, epoch=self.epoch).name)

    @rule(point=st.sampled_from(POINTS), number=st.sampled_from(["ENOSPC", "EIO"]))
    def commit_with_a_failure(self, point: str, number: str) -> None:
        """Save a later step on a disk that fails somewhere; raised means not committed."""
        self.step += 1
        os.environ["ORCH_FAULT"] = f"{point}:errno={number}"
        faults.reset()
        with suppress(OSError):
            self.good.add(save(self.store, step=self.step, epoch=self.epoch).name)
        del os.environ["ORCH_FAULT"]
        faults.reset()

    @rule(step_back=st.integers(0, 2))
    def next_attempt(self, step_back: int) -> None:
        """A new epoch begins in a new process, perhaps at an earlier step, and sweeps."""
        with suppress(OSError):  # the old one was in the middle of a save
            stage_rank(self.store, step=self.step + 1, epoch=self.epoch, rank=0)
        self.epoch += 1
        self.step = max(0, self.step - step_back)
        self.store = open_store(self.root)
        self.store.sweep(epoch=self.epoch)
        staging = self.root / "staging"
        assert not staging.exists() or not list(staging.iterdir())

    @rule(seed=st.integers(0, 1 << 20))
    def damage(self, seed: int) -> None:
        """Flip a bit of some file of some checkpoint that is not damaged yet."""
        if not self.good:
            return
        source = random.Random(seed)
        name = source.choice(sorted(self.good))
        path = source.choice(sorted(p for p in (self.root / name).rglob("*") if p.is_file()))
        data = bytearray(path.read_bytes())
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        path.write_bytes(data)
        self.good.remove(name)
        self.damaged.add(name)

    @rule()
    def load(self) -> None:
        """The newest undamaged one loads; what is newer goes to quarantine, nothing else does."""
        reports: list[str] = []
        loaded = self.store.latest_verified(reports.append)
        order = newest_first(self.good)
        assert (loaded.name if loaded else None) == (order[0] if order else None)
        newer = {
            name for name in self.damaged if not order or newest_first([name, order[0]])[0] == name
        }
        assert {report.split()[1] for report in reports} == newer
        self.damaged -= newer
        if loaded is not None:
            assert_loads(loaded)

    @rule(keep=st.integers(2, 3), fresh=st.booleans())
    def prune(self, keep: int, *, fresh: bool) -> None:
        """The newest undamaged ones stay: all that a fresh look at the disk can tell."""
        store = open_store(self.root) if fresh else self.store
        order = newest_first(self.good)
        deleted = set(store.prune(keep=keep))
        if fresh:
            assert not deleted & set(order[:keep])
        # A store that verified a checkpoint before it was damaged may still count it as one.
        assert len(set(store.candidates())) >= min(keep, len(self.good | self.damaged))
        self.good -= deleted
        self.damaged -= deleted

    @invariant()
    def the_names_are_those_of_the_model(self) -> None:
        """Nothing appears, vanishes or is overwritten by itself."""
        assert set(self.store.candidates()) == self.good | self.damaged
        assert checkpoint_name(step=0, epoch=self.epoch) not in self.good


StoreMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, derandomize=True
)
TestStore = StoreMachine.TestCase
