"""The order of jobs, end to end on the local scheduler with real processes of the stub worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import Problem
from jobs.matrix.needs import Need
from orchestrator.schedulers.local import LocalScheduler
from orchestrator.service import Service
from tests.contract.stub import LAUNCH_ARGV, make_matrix, make_spec, write_plan
from tests.contract.test_local import end_all

PRE = [make_spec(seed, name=f"m/pre-{seed}", steps=2) for seed in (1, 2)]
TUNED = [make_spec(seed, name=f"m/tuned-{seed}", steps=1, priority=9) for seed in (1, 2)]
# Two cells with their seeds interleaved, as an axis over seeds would write them.
CELLS = [make_spec(seed, name=f"m/c{steps}-{seed}", steps=steps) for seed in (1, 2)
         for steps in (1, 2)]  # fmt: skip
NEED = Need(
    name="pre",
    jobs=tuple(spec.id for spec in TUNED),
    of=tuple(spec.id for spec in PRE),
    place=Problem(file="m.yaml", line=1, column=1, key="", message="", fix=""),
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A state directory; what is left of a test is ended."""
    home = tmp_path / "home"
    write_plan(home, [*PRE, *TUNED, *CELLS], seconds_per_step=0.05)
    yield home
    end_all(home)


def run_all(home: Path, matrix: object, **options: object) -> list[str]:
    """Run a matrix to its end; return its jobs' names in the order in which they began."""
    local = LocalScheduler(home, cpus=2, launch_argv=LAUNCH_ARGV)
    service = Service.open(home, scheduler=local, **options)  # type: ignore[arg-type]
    service.submit([matrix])  # type: ignore[list-item]
    service.watch(until_idle=True, on_tick=lambda report: None, stop=threading.Event())
    rows = service.rows()
    assert {row.state for row in rows} == {"COMPLETED"}
    events = service.events()
    service.close()
    names = {row.id: row.name for row in rows}
    return [names[e.job] for e in events if e.job and e.decision.startswith("NEW -> SUBMITTED")]


def test_needs_hold_whatever_the_priority(home: Path) -> None:
    """Jobs of a higher priority still begin after the last result that they need."""
    order = run_all(home, make_matrix([*TUNED, *PRE], name="m", needs=(NEED,)))

    assert order == ["m/pre-1", "m/pre-2", "m/tuned-1", "m/tuned-2"]


def test_all_seeds_of_a_cell_go_before_the_next_cell(home: Path) -> None:
    """One at a time, the cells are completed one after the other."""
    order = run_all(home, make_matrix(CELLS, name="m"), max_in_flight=1)

    assert order == ["m/c1-1", "m/c1-2", "m/c2-1", "m/c2-2"]
