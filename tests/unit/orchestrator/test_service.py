"""The use cases, against the fake scheduler and a clock that moves when told."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from durable.clock import FakeClock
from durable.locks import Locked
from jobs.contract.records import EpochRecord, ProgressRecord, ResultRecord
from jobs.spec import JobSpec, semantic_digest
from jobs.states import JobState
from orchestrator import requests
from orchestrator.lease import Lease
from orchestrator.rows import TickReport
from orchestrator.schedulers.base import TaskKey, TaskState
from orchestrator.schedulers.fake import FakeScheduler
from orchestrator.service import NoScheduler, NotFound, NotRunning, Service
from tests.contract.stub import make_matrix, make_spec

SPECS = [make_spec(seed, steps=10) for seed in range(1, 4)]


class World:
    """A service, its fake cluster, and hands that do what workers do."""

    def __init__(self, home: Path, **options: object) -> None:
        self.home = home
        self.clock = FakeClock()
        self.fake = FakeScheduler(clock=self.clock)
        self.service = Service.open(home, scheduler=self.fake, clock=self.clock, **options)

    def submit(self, specs: list[JobSpec] | None = None, name: str = "stub") -> object:
        """Submit a matrix."""
        return self.service.submit([make_matrix(specs or SPECS, name=name)])

    def keys(self) -> list[TaskKey]:
        """Return the cluster's tasks."""
        return [key for key, _ in self.fake.tasks()]

    def tick(self, seconds: float = 10.0) -> TickReport:
        """Let time pass and look."""
        self.clock.advance(seconds)
        return self.service.tick()

    def state(self, spec: JobSpec) -> JobState:
        """Return a job's state."""
        return self.service.rows(spec.id)[0].state

    def begin(self, key: TaskKey, spec: JobSpec, *, epoch: int = 1, step: int = 4) -> None:
        """Be an attempt that has reached a step."""
        self.fake.start(key)
        job = self.service.state.job(spec.id)
        attempt = job.attempt(epoch)
        attempt.path.mkdir(parents=True, exist_ok=True)
        job.epochs.mkdir(exist_ok=True)
        claim = EpochRecord(
            epoch=epoch,
            token=key.token,
            scheduler="fake",
            scheduler_id=key.scheduler_id,
            host="h",
            boot_id="b",
            pid=1,
            pid_start=1,
            started_at=0,
        )
        job.epoch(epoch).write_bytes(claim.to_json())
        progress = ProgressRecord(
            epoch=epoch,
            sequence=1,
            phase="training",
            step=step,
            total_steps=10,
            committed_step=step,
            written_at=self.clock.wall(),
        )
        attempt.progress.write_bytes(progress.to_json())

    def finish(self, spec: JobSpec, **changes: object) -> None:
        """Publish a result."""
        result = ResultRecord(
            job=spec.id,
            spec_digest=semantic_digest(spec.semantic),
            epoch=1,
            exact=True,
            metrics={"test": {"loss": 0.5}},
            weights_digest="sha256:00",
            steps=10,
            trainable_parameters=3,
        ).model_copy(update=changes)
        self.service.state.job(spec.id).result.write_bytes(result.to_json())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh state directory."""
    return World(tmp_path / "home")


def test_submit_is_idempotent(world: World) -> None:
    """The second time nothing is submitted and the plan says that all is unchanged."""
    first = world.submit()
    second = world.submit()

    assert (first.plan.new, first.submitted, first.waiting) == (3, 3, 0)
    assert (second.plan.new, second.plan.unchanged, second.submitted) == (0, 3, 0)
    assert len(world.keys()) == 3


def test_a_plan_has_no_effect(world: World) -> None:
    """Neither files nor rows nor submissions."""
    plan = world.service.plan([make_matrix(SPECS), make_matrix(SPECS[:1], name="other")])

    assert (plan.cells, plan.unique_jobs, plan.new) == (4, 3, 3)
    assert not world.service.state.jobs.exists()
    assert world.keys() == []


def test_identical_resources_go_out_as_one_array_in_chunks(world: World) -> None:
    """Different resources are different submissions; the chunk limit holds."""
    world.fake.chunk_limit = 2
    big = make_spec(9, resources={"memory_gb": 50.0})

    world.submit([*SPECS, big])

    sizes: dict[str, int] = {}
    for key in world.keys():
        sizes[key.token] = sizes.get(key.token, 0) + 1
    assert sorted(sizes.values()) == [1, 1, 2]


def test_a_lost_acknowledgement_is_adopted(world: World) -> None:
    """Uncertain, found by its token, one copy."""
    world.fake.next_submit.append("lost_ack")
    report = world.submit()

    assert report.unreachable
    assert world.state(SPECS[0]) is JobState.SUBMITTED
    world.tick()

    assert world.state(SPECS[0]) is JobState.QUEUED
    assert len(world.keys()) == 3


def test_a_lost_request_is_repeated_only_after_a_quiet_time(world: World) -> None:
    """k complete searches and a minute: before, a second copy could appear."""
    world.fake.next_submit.append("lost_request")
    world.submit()

    for _ in range(5):
        world.tick(seconds=5)
    assert world.keys() == []
    world.tick(seconds=60)

    assert len(world.keys()) == 3
    row = world.service.rows(SPECS[0].id)[0]
    assert (row.state, row.attempts) == (JobState.QUEUED, 0)


def test_searches_that_fail_are_not_counted(world: World) -> None:
    """An unreachable scheduler is no evidence that the job is not there."""
    world.fake.next_submit.append("lost_request")
    world.submit()
    world.fake.unreachable = 10**6

    for _ in range(20):
        world.tick(seconds=60)

    assert world.fake.tasks() == []
    assert world.state(SPECS[0]) is JobState.SUBMITTED


def test_surplus_copies_are_cancelled_before_one_is_adopted(world: World) -> None:
    """A retried sbatch may have succeeded twice."""
    world.fake.next_submit.append("lost_ack")
    world.submit(SPECS[:1])
    (key,) = world.keys()
    world.fake.duplicate(key.token)

    world.tick()

    states = [task.state for _, task in world.fake.tasks()]
    assert sorted(states) == [TaskState.CANCELLED, TaskState.PENDING]
    assert world.state(SPECS[0]) is JobState.QUEUED


def test_a_limit_costs_no_attempt_and_waits(world: World) -> None:
    """A temporary refusal gives the jobs back; they go out later."""
    world.fake.next_submit.extend(["refuse"])
    report = world.submit()

    assert report.refused == ("QOSMaxSubmitJobPerUserLimit",)
    assert (report.submitted, report.waiting) == (0, 3)
    world.tick(seconds=5)
    assert world.keys() == []
    world.tick(seconds=30)
    assert len(world.keys()) == 3


def test_a_permanent_refusal_holds_the_jobs_with_the_fix(world: World) -> None:
    """Asking again (after the fix) submits them."""
    world.fake.next_submit.append("refuse_for_ever")
    report = world.submit()

    row = world.service.rows(SPECS[0].id)[0]
    assert row.state is JobState.HELD
    assert "site.yaml" in row.reason
    assert "site.yaml" in report.refused[0]

    world.submit()
    assert len(world.keys()) == 3


def test_a_result_completes_and_is_shown(world: World) -> None:
    """With its metrics, and the axes in which the jobs differ."""
    world.submit()
    key = world.keys()[0]
    world.begin(key, SPECS[0])
    world.tick()
    world.finish(SPECS[0])
    world.fake.end(key, TaskState.COMPLETED, exit_code=0)
    world.tick()

    row, *others = world.service.results(None)
    assert (row.state, row.exact, row.metrics) == (
        JobState.COMPLETED,
        True,
        {"test": {"loss": 0.5}},
    )
    assert [r.axes for r in (row, *others)] == [{"seed": 1}, {"seed": 2}, {"seed": 3}]
    assert world.service.rows(SPECS[0].id)[0].step == 10


@pytest.mark.parametrize("changes", [{"job": "f" * 16}, {"spec_digest": "0" * 64}])
def test_a_foreign_result_is_put_aside_and_the_job_runs_again(
    world: World, changes: dict[str, object]
) -> None:
    """Its evidence stays; the next attempt can publish."""
    world.submit(SPECS[:1])
    (key,) = world.keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.finish(SPECS[0], **changes)
    world.fake.end(key, TaskState.COMPLETED, exit_code=0)

    world.tick()

    directory = world.service.state.job(SPECS[0].id)
    assert not directory.result.exists()
    assert (directory.path / "result.rejected-1.json").exists()
    assert world.state(SPECS[0]) is JobState.RETRYING
    world.tick()
    assert len(world.keys()) == 2


def test_a_preempted_job_is_handed_over_again(world: World) -> None:
    """PREEMPTED and not requeued: a new task under a new token, counted as a preemption."""
    world.submit(SPECS[:1])
    (key,) = world.keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.fake.preempt(key, requeue=False)

    world.tick()

    row = world.service.rows(SPECS[0].id)[0]
    assert (row.state, row.attempts, row.preemptions) == (JobState.QUEUED, 1, 1)
    assert len({key.token for key in world.keys()}) == 2


def test_a_requeued_job_keeps_its_task_and_loses_its_delay(world: World) -> None:
    """Slurm restarts it; the watcher only removes the two minutes."""
    world.submit(SPECS[:1])
    (key,) = world.keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.fake.preempt(key, requeue=True)

    world.tick()
    world.begin(key, SPECS[0], epoch=2)
    world.tick()

    row = world.service.rows(SPECS[0].id)[0]
    assert ("undelay", (key,)) in world.fake.log
    assert (row.state, row.epoch, row.preemptions) == (JobState.RUNNING, 2, 1)
    assert len(world.keys()) == 1


def test_nothing_is_lost_while_the_scheduler_is_silent(world: World) -> None:
    """P6: hours of failed queries change no state and submit nothing."""
    world.submit()
    world.tick()
    before = [row.state for row in world.service.rows(None)]
    world.fake.unreachable = 10**6

    for _ in range(50):
        report = world.tick(seconds=600)

    assert report.unreachable
    assert [row.state for row in world.service.rows(None)] == before
    assert len(world.keys()) == 3


def test_a_task_that_the_controller_forgot_is_handed_over_again(world: World) -> None:
    """Three complete listings over a minute without it; never before."""
    world.submit(SPECS[:1])
    (key,) = world.keys()
    world.fake.lose(key)

    for _ in range(3):
        world.tick(seconds=20)
    assert world.keys() == []
    world.tick(seconds=30)
    world.tick(seconds=10)

    assert len(world.keys()) == 1
    assert world.state(SPECS[0]) is JobState.QUEUED


def test_cancel_ends_the_task_and_a_late_result_still_wins(world: World) -> None:
    """CANCELLED at once; the worker that was faster is believed."""
    world.submit()
    first, second, _ = world.keys()
    world.begin(first, SPECS[0])
    world.tick()

    assert world.service.cancel("stub") == [spec.name for spec in SPECS]

    assert {row.state for row in world.service.rows(None)} == {JobState.CANCELLED}
    cancelled = {key for verb, keys in world.fake.log if verb == "cancel" for key in keys}
    assert cancelled == set(world.keys())
    control = world.service.state.job(SPECS[0].id).control.read_text()
    assert '"cause":"cancel"' in control
    world.finish(SPECS[0])
    world.tick()
    assert world.state(SPECS[0]) is JobState.COMPLETED
    assert world.state(SPECS[1]) is JobState.CANCELLED
    assert world.service.cancel("stub") == []


def test_a_result_that_arrives_when_no_task_is_left_still_wins(world: World) -> None:
    """A node that only looked dead may still publish."""
    world.submit(SPECS[:1])
    (key,) = world.keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.fake.end(key, TaskState.FAILED, exit_code=78)
    world.tick()
    assert world.state(SPECS[0]) is JobState.FAILED

    world.finish(SPECS[0])
    world.tick()

    assert world.state(SPECS[0]) is JobState.COMPLETED


def test_a_cancelled_job_that_is_submitted_again_runs(world: World) -> None:
    """A person may start it again; while its task still ends, it stays cancelled."""
    world.submit(SPECS[:1])
    world.service.cancel(SPECS[0].id)
    world.tick()

    world.submit(SPECS[:1])

    assert world.state(SPECS[0]) is JobState.QUEUED
    assert len(world.keys()) == 2


def test_a_rehearsal_follows_the_sites_sequence_once(world: World) -> None:
    """Control record, notice, and SIGKILL after the grace; the next attempt is left alone."""
    spec = make_spec(1, steps=10, grace_seconds=20.0, rehearsal={"at_step": 4})
    world.submit([spec])
    (key,) = world.keys()
    world.begin(key, spec, step=5)
    world.tick()
    world.tick(seconds=1)
    assert ("notify", key) in world.fake.log
    control = world.service.state.job(spec.id).control.read_text()
    assert '"cause":"rehearsal"' in control
    assert '"deadline_seconds":20.0' in control
    world.tick(seconds=10)
    assert ("kill", key) not in world.fake.log
    world.tick(seconds=15)
    assert ("kill", key) in world.fake.log
    world.tick()

    row = world.service.rows(spec.id)[0]
    assert (row.state, row.preemptions) == (JobState.QUEUED, 1)
    world.begin(world.keys()[-1], spec, epoch=2, step=9)
    for _ in range(3):
        world.tick(seconds=1)
    assert [verb for verb, _ in world.fake.log].count("notify") == 1


def test_preempt_waits_until_the_attempt_is_gone(world: World) -> None:
    """The verb ticks by itself when nobody watches."""
    world.submit(SPECS[:1])
    (key,) = world.keys()
    world.begin(key, SPECS[0])
    world.tick()
    world.fake.on_notify = lambda k: world.fake.end(k, TaskState.FAILED, exit_code=75)
    said: list[str] = []

    world.service.preempt(SPECS[0].name, on_line=said.append)

    assert any("notice" in line for line in said)
    assert world.service.rows(SPECS[0].id)[0].preemptions == 1
    with pytest.raises(NotRunning, match="QUEUED"):
        world.service.preempt(SPECS[0].name, on_line=said.append)


def test_a_failed_job_can_be_started_again(world: World) -> None:
    """`again` hands it over whatever its budget said."""
    world.submit(SPECS[:1])
    (key,) = world.keys()
    world.fake.end(key, TaskState.FAILED, exit_code=78)
    world.tick()
    assert world.state(SPECS[0]) is JobState.FAILED
    world.submit(SPECS[:1])
    assert world.state(SPECS[0]) is JobState.FAILED

    assert world.service.again(SPECS[0].name) == [SPECS[0].name]

    assert world.state(SPECS[0]) is JobState.QUEUED


@pytest.mark.parametrize("selector", ["stub", SPECS[1].name, SPECS[1].id[:6], SPECS[1].id])
def test_selectors(world: World, selector: str) -> None:
    """Matrix name, job name, id prefix of at least four."""
    world.submit()

    ids = {row.id for row in world.service.rows(selector)}

    assert ids == ({s.id for s in SPECS} if selector == "stub" else {SPECS[1].id})


def test_the_journal_tells_each_decision_with_its_cause(world: World) -> None:
    """From the wish to the hand-over, in order."""
    world.submit(SPECS[:1])

    kinds = [event.kind for event in world.service.events()]
    decisions = [event.decision for event in world.service.events(SPECS[0].id)]

    assert kinds == ["new", "intent", "state", "submission", "state"]
    assert decisions[0] == "NEW"
    assert decisions[-1].startswith("SUBMITTED -> QUEUED")


def test_unknown_selectors_name_near_ones(world: World) -> None:
    """Not found says what there is."""
    with pytest.raises(NotFound, match="nothing was submitted"):
        world.service.rows("stub")
    world.submit()

    with pytest.raises(NotFound, match="near: stub"):
        world.service.rows("stab")
    with pytest.raises(NotFound, match="means 3 jobs"):
        world.service.job_dir("stub")
    with pytest.raises(NotFound):
        world.service.rows(SPECS[0].id[:3])


# --- the lease and the inbox


def test_a_second_service_is_refused_and_told_who_holds_the_lease(world: World) -> None:
    """One writer; reading goes on."""
    lease = Lease(world.service.state, world.service.store.database, world.clock, verb="watch")
    lease.acquire()
    other = Service.open(world.home, scheduler=world.fake, clock=world.clock)
    try:
        with pytest.raises(Locked) as refused:
            other.tick()
        assert refused.value.holder is not None
        assert refused.value.holder["verb"] == "watch"
        assert other.watcher().alive
        assert other.rows(None) == []
    finally:
        lease.release()
    assert not other.watcher().alive


def test_a_wish_is_carried_out_by_whoever_holds_the_lease(world: World) -> None:
    """Submitting beside a watcher just works: its next tick takes the jobs in."""
    holder = World(world.home)
    stop = threading.Event()
    seen: list[TickReport] = []
    thread = threading.Thread(target=_watch, args=(world.home, holder.fake, stop, seen))
    thread.start()
    try:
        while not seen:
            pass
        other = Service.open(world.home, scheduler=FakeScheduler())
        report = other.submit([make_matrix(SPECS)])
        assert (report.plan.new, report.submitted) == (3, 3)
        assert len(holder.fake.tasks()) == 3
    finally:
        stop.set()
        thread.join(timeout=10)


def _watch(home: Path, fake: FakeScheduler, stop: threading.Event, seen: list[TickReport]) -> None:
    service = Service.open(home, scheduler=fake, tick_seconds=0.02)
    service.watch(until_idle=False, on_tick=seen.append, stop=stop)
    service.close()


def test_a_request_is_carried_out_once_even_if_its_file_stays(world: World) -> None:
    """A crash before the removal must not cancel a job a second time."""
    world.submit()
    wish = requests.CancelWish(jobs=(SPECS[0].id,))
    name = requests.post(world.service.state, wish)
    data = (requests.inbox(world.service.state) / name).read_bytes()
    world.tick()
    world.tick()
    world.submit()
    assert world.state(SPECS[0]) is JobState.QUEUED

    (requests.inbox(world.service.state) / name).write_bytes(data)
    world.tick()

    assert world.state(SPECS[0]) is JobState.QUEUED
    assert requests.pending(world.service.state) == []


@pytest.mark.parametrize("data", [b"", b"{}", b'{"kind":"submit","matrix":"../../x"}', b"\xff"])
def test_a_file_that_is_no_request_is_set_aside(world: World, data: bytes) -> None:
    """It neither stops the loop nor disappears."""
    inbox = requests.inbox(world.service.state)
    inbox.mkdir()
    (inbox / "1.json").write_bytes(data)

    report = world.tick()

    assert any("set aside" in line for line in report.happenings)
    assert (inbox / "1.json.rejected").exists()


def test_reading_needs_no_scheduler_and_writing_does(tmp_path: Path) -> None:
    """The state directory is created private."""
    service = Service.open(tmp_path / "a" / ".orch")

    assert service.rows(None) == []
    assert not service.watcher().alive
    assert (tmp_path / "a" / ".orch").stat().st_mode & 0o777 == 0o700
    with pytest.raises(NoScheduler):
        service.tick()


def test_tasks_of_another_scheduler_are_left_alone_and_named(world: World) -> None:
    """A tick that has no access to Slurm says so and changes nothing."""
    world.submit()
    other = FakeScheduler(clock=world.clock)
    other.name = "local"
    service = Service.open(world.home, scheduler=other, clock=world.clock)

    report = service.tick()

    assert "no access to fake" in report.warnings[0]
    assert {row.state for row in service.rows(None)} == {JobState.QUEUED}


def test_the_service_is_light() -> None:
    """Importing it loads nothing of torch, transformers, submitit or rich."""
    script = (
        "import sys, orchestrator.service, orchestrator.schedulers.choice;"
        "print([m for m in ('torch','transformers','submitit','rich','datasets','yaml')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
