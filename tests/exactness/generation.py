"""One generation of ranks: each process carries every cell of one world size to its next stop.

What runs is `worker.main.run_rank`, whole, cell after cell; only the process group is shared. An
*instant* is counted in what a rank passes while it trains, tests and saves: every fault point and
every micro-step. There a rank gets its SIGTERM; or all ranks break off before the same micro-step:
no save begins there, but one in flight comes to its end: a real SIGKILL is not among the instants.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

RUN = "tests.exactness.generation:run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Where a cell is interrupted: at the `at`-th instant (notice) or micro-step (abrupt)."""

    kind: Literal["notice", "abrupt"]
    rank: int  # that gets the signal
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One attempt at one cell."""

    submission: str
    index: int
    stop: Stop | None = None
    forget: bool = False  # negative control: AdamW's mean of gradients is not restored


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """How a leg ended in one rank."""

    code: int
    instants: int
    micro_steps: int


def plan_text(legs: list[Leg]) -> str:
    """Return what `run` reads."""
    return json.dumps([asdict(leg) for leg in legs])


def _legs(text: str) -> Iterator[Leg]:
    for raw in json.loads(text):
        stop = raw.pop("stop")
        yield Leg(**raw, stop=Stop(**stop) if stop else None)


class Instants:
    """Counts what this rank passes, and interrupts it where the leg says."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._leg: Leg | None = None
        self.training = False  # between the installation of the handlers and the end
        self.instants = self.micro_steps = 0
        self._counting = threading.Lock()  # a save behind the training passes instants, too

    def begin(self, leg: Leg) -> None:
        """Count from nothing for the next leg."""
        self._leg, self.training, self.instants, self.micro_steps = leg, False, 0, 0

    def passing(self, _name: str) -> None:
        """Pass an instant."""
        if not self.training or self._leg is None:
            return
        with self._counting:
            self.instants += 1
            at = self.instants
        if self._leg.stop == Stop(kind="notice", rank=self._rank, at=at):
            os.kill(os.getpid(), signal.SIGTERM)

    def micro_step(self) -> None:
        """Pass the beginning of a micro-step. Raises `KilledOutright` at an abrupt stop."""
        from worker.failures import KilledOutright

        self.passing("micro-step")
        self.micro_steps += 1
        stop = self._leg.stop if self._leg else None
        if stop is not None and stop.kind == "abrupt" and stop.at == self.micro_steps:
            raise KilledOutright("stopped without notice")

    @property
    def forgets(self) -> bool:
        """Whether the present leg is a negative control."""
        return self._leg is not None and self._leg.forget


def run(argv: list[str]) -> int:
    """Run the legs of the plan in file argv[0] as this rank; write `passed.RANK.json` beside it."""
    from worker.main import run_rank

    plan, rank = Path(argv[0]), int(os.environ["ORCH_RANK"])
    instants, passed = Instants(rank), []
    _arrange(instants)
    for leg in _legs(plan.read_text()):
        instants.begin(leg)
        with _own_output():
            code = run_rank(["--submission", leg.submission, "--index", str(leg.index)])
        instants.training = False
        gc.collect()
        passed.append(
            Passed(code=code, instants=instants.instants, micro_steps=instants.micro_steps)
        )
    record = json.dumps([asdict(one) for one in passed])
    plan.with_name(f"passed.{rank}.json").write_text(record)
    return 0


def read_passed(directory: Path, rank: int) -> list[Passed]:
    """Return what a rank's legs came to."""
    return [Passed(**raw) for raw in json.loads((directory / f"passed.{rank}.json").read_text())]


def _arrange(instants: Instants) -> None:
    """Let the worker pass through `instants`, and its cells share one process group."""
    import torch
    import torch.distributed as dist

    from durable import faults
    from worker import build, training
    from worker.engine import Engine
    from worker.preemption import Preemption
    from worker.snapshot.parts import parts_of

    install, micro_step = Preemption.install, Engine.micro_step
    connect, resume = build.connect, training.resume
    group: list[Any] = []
    cells = iter(range(sys.maxsize))

    def installed(self: Preemption) -> None:
        install(self)
        instants.training = True

    def counted(self: Engine, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        instants.micro_step()
        return micro_step(self, batch)

    def connected(layout: Any, published: Path, **options: Any) -> Any:
        if not group:
            group.append(connect(layout, published, **options))
        return dist.PrefixStore(f"cell-{next(cells)}", group[0])

    def resumed(session: Any) -> bool:
        found = resume(session)
        if found and instants.forgets:
            for kept in parts_of(session.engine).inner.state.values():
                kept["exp_avg"].zero_()
        return found

    faults._hit = instants.passing
    Preemption.install, Engine.micro_step = installed, counted  # type: ignore[method-assign]
    build.connect, training.resume = connected, resumed


@contextmanager
def _own_output() -> Iterator[None]:
    """Give the process its own output back: each cell turns it to a log of its own."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        yield
    finally:
        for number, own in zip((1, 2), kept, strict=True):
            os.dup2(own, number)
            os.close(own)
