"""A packed allocation on Slurm: what is asked for, and how the batch script runs its cells."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jobs.contract.records import TaskRecord, TasksRecord
from orchestrator.schedulers.slurm_options import (
    Unfit,
    batch_template,
    cell_share,
    sbatch_options,
    script_body,
)
from orchestrator.site_schema import Site
from tests.unit.slurm.command_stubs import CommandStubs
from tests.unit.slurm.requests import TOKEN, request


def tasks(count: int, pack: int) -> TasksRecord:
    """Return so many tasks, so many in each allocation."""
    return TasksRecord(
        token=TOKEN,
        scheduler="slurm",
        tasks=tuple(TaskRecord(index=i, job=f"{i:016x}") for i in range(count)),
        pack=pack,
    )


def test_an_allocation_is_as_large_as_its_cells_together() -> None:
    """One array index for each allocation, on one node, with k times what a cell needs."""
    asked = request(
        tasks=tasks(6, 3), resources={"memory_gb": 2, "gpus_per_rank": 1, "pack": 3}, ranks=2
    )

    options = sbatch_options(asked, Site())

    assert options["array"] == "0-1"
    assert options["ntasks"] == 6
    assert options["mem"] == "6144M"
    assert options["nodes"] == 1
    assert cell_share(asked, Site())[0] == "--exact"


@pytest.mark.parametrize(
    ("style", "whole", "share"),
    [
        ("gpus-per-task", ("gpus-per-task", "1"), "--gpus-per-task=1"),
        ("gpus-per-node", ("gpus-per-node", "6"), "--gpus-per-node=2"),
        ("gres", ("gres", "gpu:6"), "--gres=gpu:2"),
    ],
)
def test_gpus_are_divided_among_the_cells(style: str, whole: tuple[str, str], share: str) -> None:
    """The allocation has them all, a cell's step its own."""
    site = Site.model_validate({"gpus": {"style": style}})
    asked = request(tasks=tasks(3, 3), resources={"gpus_per_rank": 1, "pack": 3}, ranks=2)

    assert str(sbatch_options(asked, site)[whole[0]]) == whole[1]
    assert share in cell_share(asked, site)


def test_cells_of_several_nodes_are_not_packed() -> None:
    """The matrix refuses it; so does whoever writes the script."""
    with pytest.raises(Unfit, match="pack"):
        sbatch_options(request(tasks=tasks(2, 2), resources={"nodes": 2}), Site())


SRUN = """\
for word; do case "$word" in --job-name=*) cell=${word#--job-name=cell-};; esac; done
echo "start $cell" >> $0.order
while [ "$(grep -c start $0.order)" -lt 3 ]; do sleep 0.01; done  # all at the same time
exit $(cat $0.$cell)
"""
PYTHON = """\
case "$*" in
*"jobs.packed begin"*) echo "3 4 5";;
*"jobs.packed left"*)
    for word; do case "$last" in --index) cell=$word;; --code) code=$word;; esac; last=$word; done
    [ -e $0.again.$cell ] && rm $0.again.$cell && echo 0 > {srun}.$cell && exit 3
    case "$code" in 0) exit 0;; 75) exit 75;; *) exit 1;; esac;;
*) cat; exit 0;;
esac
"""


class Script:
    """The batch script of allocation 1 of a submission that packs three."""

    def __init__(self, commands: CommandStubs, tmp_path: Path) -> None:
        self.commands = commands
        srun = commands.directory / "srun"
        commands.write("srun", SRUN)
        commands.write("python", PYTHON.replace("{srun}", str(srun)))
        commands.write("scontrol", "echo JobState=RUNNING")
        site = Site(python=str(commands.directory / "python"))
        asked = request(directory=str(tmp_path), tasks=tasks(6, 3), ranks=1)
        body = script_body(asked, site, python="/x", template=batch_template())
        self.path = tmp_path / "batch.sh"
        self.path.write_text(body)

    def run(self, **codes: int) -> int:
        """Run it; the cells' ranks leave with these codes."""
        for cell, code in codes.items():
            (self.commands.directory / f"srun.{cell[1:]}").write_text(str(code))
        own = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "8"}
        done = subprocess.run(
            ["bash", str(self.path)],
            env={"PATH": os.environ["PATH"], **own},
            capture_output=True,
            timeout=30,
        )
        return done.returncode

    @property
    def requeues(self) -> list[str]:
        """The requeues that it asked for."""
        return [line for line in self.commands.calls("scontrol") if line.startswith("requeue")]


@pytest.fixture
def script(commands: CommandStubs, tmp_path: Path) -> Script:
    """A script whose cells are 3, 4 and 5."""
    return Script(commands, tmp_path)


def test_every_cell_is_a_step_with_its_share(script: Script, commands: CommandStubs) -> None:
    """Named, with an output of its own, all running at the same time."""
    assert script.run(c3=0, c4=0, c5=0) == 0

    calls = sorted(commands.calls("srun"))
    assert len(calls) == 3
    for cell, call in zip(
        (3, 4, 5), sorted(calls, key=lambda c: c.rsplit(maxsplit=1)[1]), strict=True
    ):
        assert f"--job-name=cell-{cell} " in call
        assert "--exact --ntasks=1 --mem=2048M --nodes=1" in call
        assert f"/cells/0000{cell}.out" in call
        assert call.endswith(f"--index {cell}")
    assert script.requeues == []


@pytest.mark.parametrize(
    ("codes", "left_with", "requeued"),
    [
        ({"c3": 0, "c4": 75, "c5": 0}, 75, True),
        ({"c3": 1, "c4": 75, "c5": 0}, 75, True),  # a failed cell stops nobody
        ({"c3": 75, "c4": 75, "c5": 1}, 75, True),
        ({"c3": 1, "c4": 0, "c5": 0}, 1, False),
        ({"c3": 0, "c4": 0, "c5": 137}, 1, False),
    ],
)
def test_an_allocation_is_requeued_while_a_cell_is_unfinished(
    script: Script, codes: dict[str, int], left_with: int, requeued: bool
) -> None:
    """Whatever the others did."""
    assert script.run(**codes) == left_with
    assert script.requeues == (["requeue 7_1"] if requeued else [])


def test_a_cell_that_left_for_itself_starts_again_beside_the_others(
    script: Script, commands: CommandStubs
) -> None:
    """A second launch, which says so; the allocation goes on."""
    (commands.directory / "python.again.4").touch()

    assert script.run(c3=0, c4=75, c5=0) == 0

    assert len(commands.calls("srun")) == 4
    left = [line for line in commands.calls("python") if "--index 4" in line]
    assert [("--launch 1" in line, "--launch 2" in line) for line in left] == [
        (True, False),
        (False, True),
    ]
