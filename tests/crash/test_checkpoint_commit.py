"""Killed, out of space, or with failing I/O at every fault point: the previous checkpoint loads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoints.fault_points import FAULT_POINTS
from tests.crash.crash_sweep import workshop
from tests.crash.warm_child import FAILED, KILLED, WarmChild
from tests.unit.checkpoints.fake_attempt import (
    RANKS,
    assert_loads,
    open_store,
    save,
    stage_rank,
)

pytestmark = pytest.mark.crash
ACTIONS = {"kill": KILLED, "errno=ENOSPC": FAILED, "errno=EIO": FAILED}
# Passed by rank 0 and by the other ranks, and by rank 0 alone.
STAGE_POINTS = sorted(point for point in FAULT_POINTS if point.startswith("stage."))
STAGE_POINTS.append("files.before_fsync")
QUARANTINE_POINTS = sorted(point for point in FAULT_POINTS if point.startswith("quarantine."))
VERIFY_POINTS = sorted(point for point in FAULT_POINTS if point.startswith("verify."))
COMMIT_POINTS = sorted({*FAULT_POINTS} - {*STAGE_POINTS} - {*QUARANTINE_POINTS} - {*VERIFY_POINTS})
COMMIT_POINTS += ["publish_dir.before_rename", "publish_dir.after_rename"]
OLDEST, OLDER, PREVIOUS = (f"step-000000{step}.e0001" for step in (10, 20, 30))
NEXT = "step-00000040.e0002"


@pytest.fixture(scope="module")
def child() -> Iterator[WarmChild]:
    """A process that forks attempts."""
    with WarmChild("tests.crash.checkpoint_attempt") as warm:
        yield warm


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after epoch 1 was killed in a save, and once in a prune."""
    root = tmp_path_factory.mktemp("template") / "checkpoints"
    store = open_store(root)
    for step in (10, 20, 30):
        save(store, step=step)
    stage_rank(store, step=40, epoch=1, rank=0)
    shutil.copytree(root / OLDEST, root / "trash" / f"{OLDEST}.0badcafe")
    return root


@pytest.fixture
def root(template: Path) -> Iterator[Path]:
    """A copy of it, in memory where there is some: a killed process leaves the same there."""
    place = workshop()
    yield Path(shutil.copytree(template, place / "checkpoints"))
    shutil.rmtree(place)


def interrupted(
    child: WarmChild, root: Path, fault: str, *, function: str = "attempt", **arguments: int
) -> int:
    """Run the function with a fault; assert that its point was hit; return the exit code."""
    log = root.parent / "hits"
    code = child.call(
        f"tests.crash.checkpoint_attempt:{function}",
        environment={"ORCH_FAULT": fault, "ORCH_FAULT_LOG": str(log)},
        root=str(root),
        **arguments,
    )
    assert re.split(r"[:\[]", fault)[0] in log.read_text().split()
    return code


def assert_whole(root: Path, *allowed: str) -> None:
    """Assert that a fresh store loads one of these, that all names verify, nothing is broken."""
    store = open_store(root)
    loaded = store.latest_verified(pytest.fail)
    assert loaded is not None
    assert loaded.name in allowed
    assert_loads(loaded)
    assert len(store.candidates()) >= 2
    for name in store.candidates():
        store.verify(name)
        assert_loads(store.open(name))
    assert not (root / "quarantine").exists()


def assert_goes_on(child: WarmChild, root: Path) -> None:
    """Assert that the next epoch sweeps, commits and prunes as if nothing had been."""
    code = child.call(
        "tests.crash.checkpoint_attempt:attempt",
        environment={"ORCH_FAULT": "", "ORCH_FAULT_LOG": ""},
        root=str(root),
        epoch=3,
        step=50,
    )
    assert code == 0
    assert_whole(root, "step-00000050.e0003")
    assert len(open_store(root).candidates()) == 2
    assert list((root / "staging").iterdir()) == []
    assert list((root / "trash").iterdir()) == []


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("rank", range(RANKS))
@pytest.mark.parametrize("point", STAGE_POINTS)
def test_any_rank_at_any_point_of_staging(
    child: WarmChild, root: Path, point: str, rank: int, action: str
) -> None:
    """Nothing is committed; the previous one loads; the next attempt commits."""
    code = interrupted(child, root, f"{point}[rank={rank}]:{action}", epoch=2, step=40)
    assert code == (KILLED if action == "kill" and rank == 0 else FAILED)
    assert NEXT not in open_store(root).candidates()
    assert_whole(root, PREVIOUS)
    assert_goes_on(child, root)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_rank_0_at_any_point_of_commit_prune_and_sweep(
    child: WarmChild, root: Path, point: str, action: str
) -> None:
    """The previous one loads, or the new one if it has its name; at least two are always whole."""
    code = interrupted(child, root, f"{point}:{action}", epoch=2, step=40)
    # In a failed deletion an OSError is no reason to fail: but all our points are outside of it.
    assert code == ACTIONS[action]
    renamed = NEXT in open_store(root).candidates()
    if point.startswith(("sweep.", "commit.before", "commit.after_manifest")):
        assert not renamed
    if point in ("commit.after_rename", "publish_dir.after_rename"):
        # Killed: it is there, whole. An error: "raised" means "not committed".
        assert renamed is (action == "kill")
    assert_whole(root, NEXT if renamed else PREVIOUS)
    assert_goes_on(child, root)


@pytest.mark.parametrize("action", ["errno=ENOSPC", "errno=EIO"])
@pytest.mark.parametrize(
    "point",
    [
        *(point for point in STAGE_POINTS),
        *(point for point in COMMIT_POINTS if point.startswith(("commit.", "publish_dir."))),
    ],
)
def test_a_save_that_failed_is_made_again_by_the_same_attempt(
    child: WarmChild, root: Path, point: str, action: str
) -> None:
    """The dead try is thrown away, a new one under a new name succeeds."""
    fault = f"{point}[rank=0]:{action}"
    assert interrupted(child, root, fault, epoch=2, step=40, tries=2) == 0
    assert_whole(root, NEXT)
    assert list((root / "staging").iterdir()) == []


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "point", [*QUARANTINE_POINTS, "publish.before_write", "publish.before_rename"]
)
def test_interrupted_while_a_bad_one_is_quarantined(
    child: WarmChild, root: Path, point: str, action: str
) -> None:
    """The bad checkpoint's bytes are never lost, never loaded, and in the end in quarantine."""
    victim = root / PREVIOUS / "rank-00001" / "model.safetensors"
    evidence = victim.read_bytes()[::-1]
    victim.write_bytes(evidence)
    assert interrupted(child, root, f"{point}:{action}", function="load") == ACTIONS[action]
    store = open_store(root)
    loaded = store.latest_verified(lambda report: None)
    assert loaded is not None
    assert loaded.name == OLDER
    assert_loads(loaded)
    (kept,) = (root / "quarantine").rglob("rank-00001/model.safetensors")
    assert kept.read_bytes() == evidence
    assert (kept.parent.parent.parent / "QUARANTINE.json").exists()


@pytest.mark.parametrize("limit", [0, 1, 700, 4096, 8000, 13_000])
def test_a_file_that_cannot_grow(child: WarmChild, root: Path, limit: int) -> None:
    """A write that stores a part and then fails (EFBIG; quotas behave so) commits nothing."""
    code = child.call(
        "tests.crash.test_checkpoint_commit:attempt_with_limit",
        environment={"ORCH_FAULT": "", "ORCH_FAULT_LOG": ""},
        root=str(root),
        limit=limit,
    )
    assert code == FAILED
    assert_whole(root, PREVIOUS)
    assert_goes_on(child, root)


def attempt_with_limit(root: str, limit: int) -> None:
    """Child: an attempt that may write files of `limit` bytes only."""
    import resource

    from tests.crash.checkpoint_attempt import attempt

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    attempt(root, epoch=2, step=40)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (apt install strace)")
class TestSystemCalls:
    """The same, seen from the kernel: what is fsynced before what, and what if it fails."""

    def traced(self, root: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], str]:
        """Run an attempt under strace; return how it ended, and the trace."""
        trace = root.parent / "trace"
        strace = ["strace", "-f", "-y", "-qq", "-o", str(trace), *options]
        program = [sys.executable, "-m", "tests.crash.checkpoint_attempt"]
        done = subprocess.run(
            [*strace, *program, str(root), "2", "40", "1"],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "ORCH_FAULT": ""},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done, trace.read_text()

    def test_everything_is_synced_before_the_rename_and_the_parent_after_it(
        self, root: Path
    ) -> None:
        """Every file and directory of the checkpoint, then rename, then its parent."""
        done, trace = self.traced(root, "-e", "trace=fsync,rename,write")
        assert done.returncode == 0, done.stderr
        lines = trace.splitlines()
        staged, final = root / "staging" / f"{NEXT}.t1", root / NEXT
        rename = next(i for i, line in enumerate(lines) if f'rename("{staged}", "{final}")' in line)
        synced = re.findall(r"fsync\(\d+<([^>]*)>\)\s+= 0", "\n".join(lines[:rename]))
        below = list(final.rglob("*"))
        assert len(below) == 4 * RANKS + RANKS + 1
        for path in (final, *below):
            assert str(staged / path.relative_to(final)) in synced
        said = next(i for i, line in enumerate(lines) if "committed 40" in line)
        parent = next(i for i, line in enumerate(lines) if i > rename and f"<{root}>)" in line)
        assert "fsync" in lines[parent]
        assert rename < parent < said
        for i, line in enumerate(lines):  # nothing is written after it was synced
            if (written := re.search(r"write\(\d+<([^>]*)>", line)) and str(staged) in written[1]:
                later = [j for j, other in enumerate(lines) if j > i and f"<{written[1]}>" in other]
                assert any("fsync" in lines[j] for j in later)

    @pytest.mark.parametrize("injected", ["error=EIO", "error=ENOSPC", "signal=SIGKILL"])
    @pytest.mark.parametrize("nth", [1, 2, 5, 8, 10])
    def test_any_fsync_fails(self, child: WarmChild, root: Path, nth: int, injected: str) -> None:
        """Whatever fsync of rank 0 it is: what was called committed is, and the rest is whole."""
        done, trace = self.traced(
            root, "-e", "trace=fsync", "-e", f"inject=fsync:{injected}:when={nth}"
        )
        assert "INJECTED" in trace or "SIGKILL" in trace
        if "committed 40" in done.stderr:
            assert_whole(root, NEXT)
        else:
            assert_whole(root, NEXT, PREVIOUS)
            assert done.returncode != 0
        assert_goes_on(child, root)
