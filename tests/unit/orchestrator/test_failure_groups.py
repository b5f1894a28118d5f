"""Equal failures are one group, and a group can be run again."""

from __future__ import annotations

from jobs.contract.records import Outcome
from jobs.states import JobState
from orchestrator.failure_groups import FailedJob, choose_group, group_failures, place_of
from orchestrator.inquiry import Inquiry
from orchestrator.schedulers.base import TaskState
from tests.unit.orchestrator.world import SPECS, World

TRACEBACK = """Traceback (most recent call last):
  File "/a/worker/loop.py", line 40, in train
    step()
  File "/home/me/task.py", line 7, in label
    return row["label"]
KeyError: 'label'
"""


def failed(number: int, digest: str | None, *, reason: str = "", kind: str = "node") -> FailedJob:
    """Return a failed job."""
    return FailedJob(
        id=f"{number:016x}", name=f"m/{number}", reason=reason, epoch=1,
        end_class="exception" if digest else kind, error_type="KeyError" if digest else None,
        error_message="'label'\nmore" if digest else None,
        error_digest=f"sha256:{digest}" if digest else None,
    )  # fmt: skip


def test_equal_tracebacks_are_one_group_and_the_largest_comes_first() -> None:
    """Group 1 is what most jobs failed with."""
    jobs = [failed(1, "aaaaaaaa11"), failed(2, "bbbbbbbb22"), failed(3, "bbbbbbbb22")]

    first, second = group_failures(jobs)

    assert [job.name for job in first.jobs] == ["m/2", "m/3"]
    assert (first.number, first.what, first.message) == (1, "KeyError", "'label'")
    assert [job.name for job in second.jobs] == ["m/1"]


def test_without_a_traceback_numbers_do_not_tell_failures_apart() -> None:
    """`step 40` and `step 41` of the same rule are one mistake; two classes are two."""
    jobs = [
        failed(1, None, reason="no progress at step 40"),
        failed(2, None, reason="no progress at step 41"),
        failed(3, None, reason="no progress at step 41", kind="stalled"),
    ]

    assert [len(group.jobs) for group in group_failures(jobs)] == [2, 1]


def test_a_group_is_chosen_by_its_number_or_its_id() -> None:
    """Numbers move when jobs come and go; ids do not."""
    groups = group_failures([failed(1, "aaaaaaaa11"), failed(2, "bbbbbbbb22")])

    assert choose_group(groups, "2") is groups[1]
    assert choose_group(groups, "bbbb") is groups[1]
    assert choose_group(groups, "3") is None
    assert choose_group(groups, "bb") is None


def test_the_place_is_that_of_the_innermost_frame() -> None:
    """Where the exception was raised."""
    assert place_of(TRACEBACK) == "task.py:7"
    assert place_of("") == ""


def test_failed_jobs_of_the_store_are_grouped_with_the_traceback_of_one(world: World) -> None:
    """From end to end: what ranks wrote is what a person reads."""
    world.submit(SPECS)
    for spec, key, digest in zip(SPECS, world.task_keys(), ("sha256:ab", "d", "d"), strict=True):
        world.begin(key, spec)
        world.fail(spec, Outcome.EXCEPTION, digest=digest, traceback=TRACEBACK)
        world.fake.end(key, TaskState.FAILED, exit_code=1)
    world.tick()
    world.tick()
    assert {row.state for row in world.service.rows(None)} == {JobState.FAILED}

    inquiry = Inquiry(world.home)
    total, groups = inquiry.failures(None)

    assert total == 3
    assert [len(group.jobs) for group in groups] == [2, 1]
    assert place_of(inquiry.traceback_of(groups[0].example)) == "task.py:7"
    assert inquiry.failures(SPECS[0].id)[1][0].jobs[0].id == SPECS[0].id
