"""All cells of one world size: whole, interrupted five times, and compared bit by bit."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.contract.paths import JobDir, StateDir
from jobs.contract.records import ResultRecord, TaskRecord, TasksRecord, WorkerSite, read_record
from jobs.spec import JobSpec, Run, job_id
from tests.e2e.comparison import Outcome, outcome_of
from tests.e2e.harness import write_task
from tests.exactness.cells import SAVE_EVERY, STEPS, Cell
from tests.exactness.generation import RUN, Leg, Passed, Stop, plan_text, read_passed
from worker.forkserver import ForkServer

INTERRUPTIONS = 5
FINISHED = 0
# A generation that is not over by then hangs.
TIMEOUT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one cell."""

    cell: Cell
    equal: bool
    exact: bool
    interruptions: int
    resumes: int
    differs: tuple[str, ...] = ()


@dataclass
class Chain:
    """The cells of one world size in a directory of their own."""

    root: Path
    server: ForkServer
    cells: Sequence[Cell]
    seed: int
    interruptions: int = INTERRUPTIONS
    controls: int = 1  # so many of the first cells run once more with a part not restored
    generations: int = 0
    _jobs: dict[str, list[JobDir]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ranks = self.cells[0].ranks
        self.choice = random.Random(f"{self.seed}/{self.ranks}")
        self.task = write_task(self.root / "task")
        for name in ("whole", "broken", "control"):
            self._prepare(name)

    def verdicts(self) -> list[Verdict]:
        """Run everything; return what came of each cell."""
        whole = self._generation([self._leg("whole", i, None) for i in range(len(self.cells))])
        abrupt = [self.choice.randrange(self.interruptions) for _ in self.cells]
        counted = [0] * (len(self.cells) + self.controls)
        ended = [False] * len(counted)
        for turn in range(self.interruptions + 1):
            legs = self._legs(turn, whole, abrupt, ended)
            for number, ranks in self._shuffled(legs).items():
                ended[number] = ranks[0].code == FINISHED
                counted[number] += not ended[number]
        assert all(ended), f"not finished: {[n for n, end in enumerate(ended) if not end]}"
        return [self._verdict(number, counted[number]) for number in range(len(self.cells))]

    def noticed_controls(self) -> int:
        """Return how many negative controls came out different, as they must."""
        return sum(
            outcome_of(self._jobs["control"][n]) != outcome_of(self._jobs["whole"][n])
            for n in range(self.controls)
        )

    def _prepare(self, name: str) -> None:
        state = StateDir(self.root / name)
        submission = state.submission("token0001")
        submission.path.mkdir(parents=True)
        tasks, jobs = [], []
        for index, cell in enumerate(self.cells):
            semantic = cell.semantic(self.task)
            run = Run.model_validate({"save": {"every_steps": SAVE_EVERY}})
            spec = JobSpec(id=job_id(semantic), name=cell.label, semantic=semantic, run=run)
            job = state.job(spec.id)
            job.path.mkdir(parents=True, mode=0o700)
            job.spec.write_bytes(spec.to_json())
            tasks.append(TaskRecord(index=index, job=spec.id))
            jobs.append(job)
        record = TasksRecord(
            token="token0001", scheduler="local", tasks=tuple(tasks), site=WorkerSite()
        )
        submission.tasks.write_bytes(record.to_json())
        self._jobs[name] = jobs

    def _leg(self, state: str, index: int, stop: Stop | None) -> Leg:
        submission = StateDir(self.root / state).submission("token0001").path
        return Leg(submission=str(submission), index=index, stop=stop, forget=state == "control")

    def _legs(
        self,
        turn: int,
        whole: Sequence[Sequence[Passed]],
        abrupt: Sequence[int],
        ended: Sequence[bool],
    ) -> dict[int, Leg]:
        """Return the legs of a turn by number; those past the cells are controls."""
        legs = {}
        for number, over in enumerate(ended):
            index = number if number < len(self.cells) else number - len(self.cells)
            state = "broken" if number < len(self.cells) else "control"
            stop = None
            if turn < self.interruptions:
                left = 1 - committed_step(self._jobs[state][index]) / STEPS
                stop = self._stop(whole[index], turn, left, without_notice=turn == abrupt[index])
            if not over:
                legs[number] = self._leg(state, index, stop)
        return legs

    def _stop(
        self, whole: Sequence[Passed], turn: int, left: float, *, without_notice: bool
    ) -> Stop:
        """Choose an instant of what is left, so that the stops still to come find some too.

        `whole`: what the ranks of the uninterrupted run passed; `left`: the share still to do.
        """
        share = left * self.choice.random() * 2 / (self.interruptions - turn + 1)
        rank = self.choice.randrange(self.ranks)
        if without_notice and left:
            at = max(1, round(share * whole[rank].micro_steps))
            return Stop(kind="abrupt", rank=0, at=at)
        return Stop(kind="notice", rank=rank, at=max(1, round(share * whole[rank].instants)))

    def _shuffled(self, legs: dict[int, Leg]) -> dict[int, list[Passed]]:
        """Run legs in a new order, so that no cell has the same cells before it."""
        order = list(legs)
        self.choice.shuffle(order)
        return dict(zip(order, self._generation([legs[n] for n in order]), strict=True))

    def _generation(self, legs: list[Leg]) -> list[list[Passed]]:
        """Run legs in new processes; return for each leg what each rank passed."""
        self.generations += 1
        directory = self.root / f"generation-{self.generations}"
        directory.mkdir()
        if not legs:
            return []
        plan = directory / "plan.json"
        plan.write_text(plan_text(legs))
        env = dict(os.environ) | {
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "DS_ACCELERATOR": "cpu",
            "ORCH_WORLD_SIZE": str(self.ranks),
            "ORCH_LAUNCH_ID": directory.name,
        }
        children = [
            self.server.call(
                RUN, [str(plan)], env | {"ORCH_RANK": str(rank)}, directory / f"log.{rank}"
            )
            for rank in range(self.ranks)
        ]
        try:
            codes = [child.wait(TIMEOUT_SECONDS) for child in children]
        finally:
            for child in children:
                child.kill()
        logs = "\n".join((directory / f"log.{r}").read_text()[-3000:] for r in range(self.ranks))
        assert codes == [0] * self.ranks, f"{directory}: {codes}\n{logs}"
        by_rank = [read_passed(directory, rank) for rank in range(self.ranks)]
        return [list(ranks) for ranks in zip(*by_rank, strict=True)]

    def _verdict(self, number: int, interruptions: int) -> Verdict:
        whole, broken = (self._jobs[name][number] for name in ("whole", "broken"))
        one, other = outcome_of(whole), outcome_of(broken)
        result = read_record(broken.result, ResultRecord)
        assert result is not None
        return Verdict(
            cell=self.cells[number],
            equal=one == other,
            exact=result.exact,
            interruptions=interruptions,
            resumes=len(result.resumed_steps),
            differs=_differing(one, other),
        )


def _differing(one: Outcome, other: Outcome) -> tuple[str, ...]:
    names = Outcome.__dataclass_fields__
    return tuple(name for name in names if getattr(one, name) != getattr(other, name))


def committed_step(job: JobDir) -> int:
    """Return the step of the newest checkpoint; 0 where there is none."""
    names = (path.name for path in job.checkpoints.glob("step-*.e*"))
    return max((int(name.split(".")[0].removeprefix("step-")) for name in names), default=0)
