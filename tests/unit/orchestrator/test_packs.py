"""Cells of packed allocations in the orchestrator: decided, submitted, counted and ended alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.contract.paths import StateDir
from jobs.contract.records import DepartureRecord, Outcome, TaskRecord, TasksRecord, read_record
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.actions import CloseTask, Complete, DecideNext, Move, RecordEnd
from orchestrator.facts import Departure, EndClass
from orchestrator.packs import CellNotes, end_tasks
from orchestrator.schedulers.base import Absent, Answer, Known, TaskKey, TaskState, Unreachable
from orchestrator.schedulers.fake import FakeScheduler
from tests.contract.stub import make_matrix, make_spec
from tests.unit.jobs.job_directories import put
from tests.unit.orchestrator.cases import (
    KEY,
    attempt,
    decide,
    evidence,
    exit_record,
    job,
    of_kind,
    result_record,
)
from tests.unit.orchestrator.stage import dying_at
from tests.unit.orchestrator.world import World

CELL = replace(KEY, cell=2)
RUNNING = Known(state=TaskState.RUNNING, nodes="n1")
PENDING = Known(state=TaskState.PENDING, reason="Resources")


def left(code: int | None, *, epoch: int | None = 1, oom: bool = False) -> Departure:
    """Return a departure of the first attempt."""
    return Departure(epoch=epoch, exit_code=code, reason="it left", out_of_memory=oom)


@pytest.mark.parametrize(
    ("answer", "departure", "dropped", "outcome", "end"),
    [
        # over, while its neighbours run on
        (RUNNING, left(1), False, Outcome.EXCEPTION, EndClass.EXCEPTION),
        (RUNNING, left(78), False, Outcome.CONFIGURATION, EndClass.CONFIGURATION),
        (RUNNING, left(137), False, None, EndClass.NODE),
        (RUNNING, left(137, oom=True), False, None, EndClass.HOST_OOM),
        (RUNNING, left(75), False, Outcome.SAVED, EndClass.PREEMPTED),
        (RUNNING, left(75), True, Outcome.SAVED, EndClass.CANCELLED),
        # while they wait for another run, or were lost sight of
        (PENDING, left(1), False, Outcome.EXCEPTION, EndClass.EXCEPTION),
        (Absent(), left(1), False, Outcome.EXCEPTION, EndClass.EXCEPTION),
        # never begun
        (PENDING, None, True, None, EndClass.CANCELLED),
        (RUNNING, left(None, epoch=None), True, None, EndClass.CANCELLED),
        # the allocation ends: what it left with was said of another cell
        (Known(state=TaskState.FAILED, exit_code=78), None, False, None, EndClass.NODE),
        (Known(state=TaskState.FAILED, exit_code=75), None, False, None, EndClass.PREEMPTED),
        (Known(state=TaskState.NODE_FAIL), None, False, None, EndClass.NODE),
        (Known(state=TaskState.PREEMPTED), None, False, None, EndClass.PREEMPTED),
        (Known(state=TaskState.TIMEOUT), None, False, None, EndClass.TIME_LIMIT),
        # its own words come first, as everywhere
        (Known(state=TaskState.NODE_FAIL), left(1), False, Outcome.EXCEPTION, EndClass.EXCEPTION),
    ],
)
def test_a_cells_end_is_its_own(
    answer: Answer,
    departure: Departure | None,
    dropped: bool,
    outcome: Outcome | None,
    end: EndClass,
) -> None:
    """The allocation's state is shared; what a cell left with, and its records, are not."""
    attempts = (attempt(1, *([exit_record(outcome)] if outcome else [])),)
    if departure is not None and departure.epoch is None:
        attempts = ()
    seen = evidence(attempts=attempts, departure=departure, dropped=dropped)

    actions = decide(job(task_key=CELL), answer, seen)

    (recorded,) = of_kind(actions, RecordEnd)
    assert recorded.end_class is end
    assert of_kind(actions, CloseTask)
    follows = DecideNext if end is not EndClass.CANCELLED else Move
    assert of_kind(actions, follows)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (RUNNING, {}),
        (RUNNING, {"dropped": True}),  # asked to leave, it has not left
        (Unreachable(reason="down"), {"departure": left(1)}),  # never act on a failed query
        # written by a copy on a node that only looked dead: the newer attempt goes on
        (RUNNING, {"departure": left(1), "attempts": (attempt(2),), "epoch": 2}),
    ],
)
def test_a_cell_that_may_run_keeps_its_task(answer: Answer, seen: dict[str, Any]) -> None:
    """No end is recorded and nothing new is decided."""
    actions = decide(job(task_key=CELL), answer, evidence(**seen))

    assert not of_kind(actions, CloseTask)
    assert not of_kind(actions, DecideNext)


def test_a_cell_with_its_result_is_over_before_its_neighbours() -> None:
    """COMPLETED at once, and its task is closed."""
    seen = evidence(result=result_record(), departure=left(0))

    actions = decide(job(task_key=CELL), RUNNING, seen)

    assert of_kind(actions, Complete)
    assert of_kind(actions, CloseTask)


def test_a_held_cell_that_was_dropped_waits_as_held() -> None:
    """Released, it is handed over in another allocation, while this one lives."""
    facts = job(task_key=CELL, state=JobState.HELD, again_wanted="release")

    actions = decide(facts, PENDING, evidence(attempts=(), dropped=True))

    (recorded,) = of_kind(actions, RecordEnd)
    assert recorded.end_class is EndClass.HELD
    assert of_kind(actions, CloseTask)


def packed_specs(count: int, pack: int) -> list[JobSpec]:
    """Return small jobs that may share allocations."""
    made = []
    for number in range(count):
        spec = make_spec(number, steps=10)
        resources = spec.run.resources.model_copy(update={"pack": pack})
        run = spec.run.model_copy(update={"resources": resources})
        made.append(spec.model_copy(update={"run": run}))
    return made


def submissions(state: StateDir) -> list[TasksRecord]:
    """Return what was handed over, in order."""
    found = [
        read_record(state.submission(path.name).tasks, TasksRecord)
        for path in state.submissions.iterdir()
    ]
    return sorted((r for r in found if r is not None), key=lambda record: record.number)


def test_jobs_are_packed_and_the_rest_asks_for_less(world: World) -> None:
    """Seven jobs by three: two full allocations in one array, and one job by itself."""
    world.service.submit([make_matrix(packed_specs(7, 3))])
    world.tick()

    full, rest = submissions(world.service.state)
    assert (full.pack, full.allocations(), len(full.tasks)) == (3, (0, 1), 6)
    assert (rest.pack, rest.allocations(), len(rest.tasks)) == (1, (0,), 1)
    assert len(world.fake.tasks()) == 3
    shown = {row.scheduler_id for row in world.service.rows(None)}
    assert shown == {"1_0", "1_1", "2_0"}


def test_a_submit_limit_counts_allocations(world: World) -> None:
    """Ten jobs by four under a limit of two: eight go, two wait for room, no attempt is charged."""
    world.fake.submit_limit = world.fake.max_submit = 2
    world.service.submit([make_matrix(packed_specs(10, 4))])
    world.tick()

    (record,) = submissions(world.service.state)
    assert len(record.tasks) == 8
    waiting = [row for row in world.service.rows(None) if row.state is JobState.NEW]
    assert len(waiting) == 2
    assert "submit limit" in waiting[0].reason


def test_a_lost_node_strikes_once_for_a_whole_pack(world: World) -> None:
    """Three cells that died with one allocation are one witness, not three."""
    world.service.submit([make_matrix(packed_specs(3, 3))])
    world.tick()
    ((key, _),) = world.fake.tasks()
    world.fake.start(key, "bad1")
    world.tick()
    world.fake.end(key, TaskState.NODE_FAIL)
    world.tick()

    values = {"since": 0.0, "scheduler": "fake"}
    strikes = world.service.store.database.rows("node_strikes", values)
    assert len(strikes) == 3
    assert {row["job"] for row in strikes} == {f"{key.token}_0"}
    assert {row.state for row in world.service.rows(None)} == {JobState.RETRYING}


def cells(state: StateDir, count: int) -> list[TaskKey]:
    """Write a packed submission; return its cells' keys."""
    token = "f" * 16
    tasks = tuple(TaskRecord(index=i, job=f"{i:016x}") for i in range(count))
    record = TasksRecord(token=token, scheduler="fake", tasks=tasks, pack=count)
    put(state.submission(token).tasks, record.to_json())
    return [TaskKey.of(token, "7", i, pack=count) for i in range(count)]


def test_one_cell_is_ended_without_the_allocation(tmp_path: Path) -> None:
    """A durable wish and a notice; killed when its grace is over; never a cancel."""
    state, fake = StateDir(tmp_path), FakeScheduler()
    first, second, _ = cells(state, 3)

    assert end_tasks({first: 10.0}, fake, state, now=100.0) == {first: None}
    assert state.submission(first.token).drop(0).exists()
    end_tasks({first: 10.0}, fake, state, now=105.0)
    end_tasks({first: 10.0}, fake, state, now=111.0)

    assert [verb for verb, _ in fake.log] == ["notify", "notify", "kill"]
    notes = CellNotes(state)
    assert notes.add(first, evidence()).dropped
    assert not notes.add(second, evidence()).dropped


def test_the_last_wanted_cell_takes_the_allocation_along(tmp_path: Path) -> None:
    """Cells that are over or dropped keep nothing alive: one cancel of the whole."""
    state, fake = StateDir(tmp_path), FakeScheduler()
    first, second, third = cells(state, 3)
    gone = DepartureRecord(index=2, epoch=1, exit_code=1, reason="it left")
    put(state.submission(third.token).departure(2), gone.to_json())

    assert end_tasks({first: 9.0, second: 9.0}, fake, state, now=1.0) == {first: None, second: None}

    assert [verb for verb, _ in fake.log] == ["cancel"]
    assert CellNotes(state).add(third, evidence()).departure == left(1)


def test_a_crash_between_the_wish_and_the_notice_is_repaired(tmp_path: Path) -> None:
    """Repeated, the cell is told; the grace counts from the first wish."""
    state, fake = StateDir(tmp_path), FakeScheduler()
    first, _, _ = cells(state, 3)

    with dying_at("packs.dropped"):
        end_tasks({first: 10.0}, fake, state, now=100.0)
    assert fake.log == []
    end_tasks({first: 10.0}, fake, state, now=111.0)

    assert [verb for verb, _ in fake.log] == ["kill"]
