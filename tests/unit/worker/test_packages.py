"""The lock digest: equal for equal environments, and what follows when it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints.manifest import Environment
from jobs.contract.paths import JobDir
from jobs.contract.records import EpochRecord
from worker.claim import claim
from worker.failures import ResumeRefused
from worker.packages import check_strict, last_packages, lock_digest, own_packages, packages_of

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def record(packages: str | None) -> EpochRecord:
    """Return a claim as it is wanted."""
    return EpochRecord(
        epoch=0,
        token="t",
        scheduler="local",
        scheduler_id="t",
        host="h",
        boot_id="b",
        pid=1,
        pid_start=1,
        started_at=0.0,
        packages=packages,
    )


def test_order_case_and_separators_mean_nothing_and_versions_do() -> None:
    """As for pip: PyYAML is pyyaml, a_b is a-b."""
    lock = lock_digest([("PyYAML", "6.0"), ("a_b", "1")])

    assert lock == lock_digest([("a-b", "1"), ("pyyaml", "6.0")])
    assert lock != lock_digest([("a-b", "2"), ("pyyaml", "6.0")])
    assert lock != lock_digest([("a-b", "1")])


def test_a_program_that_is_no_python_is_taken_to_run_here() -> None:
    """And an interpreter that cannot be asked is unknown, not equal."""
    assert packages_of("/bin/sh") == own_packages()
    assert packages_of(None) == own_packages()
    assert packages_of("/nowhere/bin/python3") is None


def test_another_interpreter_is_asked(tmp_path: Path) -> None:
    """Its environment counts, not ours."""
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\necho \'[["a", "1"]]\'\n')
    fake.chmod(0o755)

    assert packages_of(str(fake)) == lock_digest([("a", "1")])


def test_strict_refuses_a_change_and_nothing_else(tmp_path: Path) -> None:
    """An attempt without digest (of an older orch) is no evidence of a change."""
    job = JobDir(tmp_path / "jobs" / "j")
    first = claim(job, record(ONE))
    check_strict(job, first)
    check_strict(job, claim(job, record(ONE)))
    check_strict(job, claim(job, record(None)))

    changed = claim(job, record(OTHER))

    assert last_packages(job, before=changed.epoch) == (2, ONE)
    with pytest.raises(ResumeRefused, match=r"attempt 2.*--waive packages"):
        check_strict(job, changed)
    check_strict(job, changed.model_copy(update={"waivers": ("packages",)}))


def test_a_training_that_goes_on_with_other_packages_is_not_exact() -> None:
    """Named libraries say which; the lock digest speaks when only others changed."""
    from worker.continuity import packages_reasons

    before = Environment(versions={"torch": "1"}, packages=ONE)

    assert packages_reasons(before, before, step=3) == []
    assert packages_reasons(before, Environment(versions={"torch": "1"}), step=3) == []
    changed = Environment(versions={"torch": "1"}, packages=OTHER)
    assert packages_reasons(before, changed, step=3) == [
        "other installed packages than before at step 3"
    ]
