"""The order in which jobs are handed over, through the service and a fake cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import MatrixInvalid, Problem
from jobs.matrix.needs import Need
from jobs.spec import JobSpec
from jobs.states import JobState
from orchestrator.named_sql import statements
from orchestrator.schedulers.base import TaskKey, TaskState
from tests.contract.stub import make_matrix, make_spec
from tests.unit.orchestrator.world import World

PLACE = Problem(file="m.yaml", line=7, column=3, key="needs[0]", message="", fix="")


def need(name: str, jobs: list[JobSpec], of: list[JobSpec], matrix: str | None = None) -> Need:
    """Return a need as the loader of matrices would."""
    return Need(
        name=name,
        jobs=tuple(j.id for j in jobs),
        of=tuple(j.id for j in of),
        matrix=matrix,
        place=PLACE,
    )


def small(tmp_path: Path, limit: int) -> World:
    """A world where so many tasks may be at the scheduler."""
    return World(tmp_path / "home", max_in_flight=limit)


def at_scheduler(world: World) -> list[str]:
    """Return the names of jobs that the scheduler has, in the order of their hand-over."""
    rows = {row.id: row.name for row in world.service.rows()}
    return [rows[task.job] for _, task in world.fake.tasks()]


def key_of(world: World, spec: JobSpec) -> TaskKey:
    """Return a job's newest task."""
    return [key for key, task in world.fake.tasks() if task.job == spec.id][-1]


def finish(world: World, spec: JobSpec) -> None:
    """Let a job's task publish its result."""
    key = key_of(world, spec)
    world.begin(key, spec)
    world.finish(spec)
    world.fake.end(key, TaskState.COMPLETED, exit_code=0)


def test_a_limit_costs_nothing_and_says_that_it_holds(tmp_path: Path) -> None:
    """Two of three go; the third is NEW, with the limit as its reason, and goes when one ends."""
    world = small(tmp_path, 2)
    specs = [make_spec(seed, steps=10) for seed in (1, 2, 3)]

    world.submit(specs)

    assert len(world.task_keys()) == 2
    waiting = world.service.rows(specs[2].id)[0]
    assert (waiting.state, waiting.reason) == (JobState.NEW, "waits: max_in_flight 2")
    assert waiting.attempts == 0
    finish(world, specs[0])
    world.tick()
    world.tick()
    assert world.state(specs[2]) is JobState.QUEUED


def test_a_matrix_has_a_limit_of_its_own(tmp_path: Path) -> None:
    """It leaves the room of the site to other matrices."""
    world = small(tmp_path, 10)
    mine = [make_spec(seed, name=f"mine/{seed}") for seed in (1, 2, 3)]
    others = [make_spec(seed, name=f"other/{seed}") for seed in (11, 12)]

    world.service.submit(
        [make_matrix(mine, name="mine", max_in_flight=1), make_matrix(others, name="other")]
    )

    assert at_scheduler(world) == ["mine/1", "other/11", "other/12"]
    assert world.service.rows("mine/2")[0].reason == "waits: max_in_flight 1 of matrix mine"


def test_a_higher_priority_goes_first(tmp_path: Path) -> None:
    """Whatever the position."""
    world = small(tmp_path, 1)
    low, high = make_spec(1, name="m/low"), make_spec(2, name="m/high", priority=5)

    world.submit([low, high])

    assert at_scheduler(world) == ["m/high"]


def test_a_changed_priority_counts_from_the_next_submission_on(tmp_path: Path) -> None:
    """The spec on disk is immutable; the newest record of the matrix says what counts."""
    world = small(tmp_path, 1)
    first, a, b = (make_spec(seed, name=f"m/{seed}") for seed in (1, 2, 3))
    world.submit([first, a, b])
    urgent = make_spec(3, name="m/3", priority=9)
    assert urgent.id == b.id

    world.submit([first, a, urgent])
    finish(world, first)
    world.tick()
    world.tick()

    assert at_scheduler(world)[-1] == "m/3"


def test_the_seeds_of_a_begun_cell_come_before_other_cells(tmp_path: Path) -> None:
    """Seeds that are added later, and stand last in the file, still complete their cell first."""
    world = small(tmp_path, 1)
    cell = {"steps": 10}
    one, two = make_spec(1, name="m/a1", **cell), make_spec(2, name="m/a2", **cell)
    other = make_spec(1, name="m/b1", steps=11)
    world.submit([one, other])
    world.submit([one, other, two])
    finish(world, one)

    world.tick()
    world.tick()

    assert at_scheduler(world)[-1] == "m/a2"


def test_a_need_holds_a_job_back_until_its_results_exist(world: World) -> None:
    """It is NEW, says what is missing, and goes with the last result."""
    first, second = make_spec(1, name="m/pre1"), make_spec(2, name="m/pre2")
    tuned = make_spec(3, name="m/tuned")
    matrix = make_matrix(
        [first, second, tuned], name="m", needs=(need("pre", [tuned], [first, second]),)
    )

    world.service.submit([matrix])

    assert at_scheduler(world) == ["m/pre1", "m/pre2"]
    row = world.service.rows(tuned.id)[0]
    assert (row.state, row.reason) == (
        JobState.NEW,
        "waits: needs pre: 2 of 2 results missing",
    )
    finish(world, first)
    world.tick()
    assert world.service.rows(tuned.id)[0].reason == "waits: needs pre: 1 of 2 results missing"
    finish(world, second)
    world.tick()
    assert world.state(tuned) is JobState.QUEUED


def test_a_need_that_was_stopped_is_named_and_goes_on_when_retried(world: World) -> None:
    """The waiting job is no longer open work: `--wait` must not wait for ever."""
    first, tuned = make_spec(1, name="m/pre"), make_spec(3, name="m/tuned")
    last = make_spec(4, name="m/last")
    needs = (need("pre", [tuned], [first]), need("tuned", [last], [tuned]))
    world.service.submit([make_matrix([first, tuned, last], name="m", needs=needs)])

    world.service.cancel(first.id)
    world.fake.end(key_of(world, first), TaskState.CANCELLED)
    world.tick()

    row = world.service.rows(tuned.id)[0]
    words = f"waits: needs pre: 1 of 1 results missing; m/pre ({first.id[:8]}) is CANCELLED"
    assert (row.state, row.reason, row.stuck) == (JobState.NEW, words, True)
    assert world.service.rows(last.id)[0].stuck  # through the other
    assert world.service.tick().open_jobs == 0
    assert not world.service.store.busy()
    world.service.again(first.id)
    assert not world.service.rows(tuned.id)[0].stuck
    assert world.service.tick().open_jobs == 3
    finish(world, first)
    world.tick()
    assert world.state(tuned) is JobState.QUEUED


def test_a_matrix_may_need_another_one(world: World) -> None:
    """Submitted before, or in the same command, in any order."""
    first, tuned = make_spec(1, name="pre/1"), make_spec(2, name="tune/2")
    matrix = make_matrix(
        [tuned], name="tune", needs=(need("matrix pre", [tuned], [], matrix="pre"),)
    )

    world.service.submit([matrix, make_matrix([first], name="pre")])

    assert at_scheduler(world) == ["pre/1"]
    finish(world, first)
    world.tick()
    assert world.state(tuned) is JobState.QUEUED


def test_a_matrix_that_nobody_submitted_is_refused_with_its_place(world: World) -> None:
    """File, line, fix; and nothing is changed."""
    tuned = make_spec(2, name="tune/2")
    wrong = make_matrix([tuned], name="tune", needs=(need("x", [tuned], [], matrix="pre"),))

    with pytest.raises(MatrixInvalid) as caught:
        world.service.submit([wrong])

    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("m.yaml", 7)
    assert problem.message == "no matrix called `pre` was submitted"
    assert problem.fix == "submit it first, or in the same command"
    assert world.service.rows() == []


def test_a_cycle_over_two_matrices_is_refused(world: World) -> None:
    """Each was fine alone; together neither could ever begin."""
    a, b = make_spec(1, name="a/1"), make_spec(2, name="b/2")
    world.service.submit([make_matrix([b], name="b")])
    world.service.submit(
        [make_matrix([a], name="a", needs=(need("matrix b", [a], [], matrix="b"),))]
    )

    with pytest.raises(MatrixInvalid, match="cycle: matrix a -> a: matrix b -> matrix a"):
        world.service.plan(
            [make_matrix([b], name="b", needs=(need("matrix a", [b], [], matrix="a"),))]
        )


def test_a_need_that_the_edited_file_dropped_holds_nobody(world: World) -> None:
    """And one that comes back, with the older file, holds again."""
    first, tuned = make_spec(1, name="m/pre"), make_spec(3, name="m/tuned")
    strict = make_matrix([first, tuned], name="m", needs=(need("pre", [tuned], [first]),))
    loose = make_matrix([first, tuned], name="m")
    world.fake.next_submit.append("refuse")
    world.service.submit([strict])

    def waits() -> bool:
        return "needs" in world.service.rows(tuned.id)[0].reason

    assert waits()
    world.fake.next_submit.append("refuse")
    world.service.submit([loose])
    assert not waits()


def test_choosing_reads_the_index_and_no_more(world: World) -> None:
    """With 100,000 waiting, a tick must not read or sort them."""
    plan = world.service._database._connection.execute(
        "EXPLAIN QUERY PLAN " + statements()["due_in_order"],
        {"home": "m", "now": 0.0, "limit": 1},
    ).fetchall()
    words = " | ".join(row["detail"] for row in plan)

    assert "USING INDEX jobs_in_order (home=?)" in words
    assert "TEMP B-TREE" not in words
