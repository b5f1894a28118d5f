"""How much a cluster takes is read from it; what it does not say stops nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from durable.clock import FakeClock
from orchestrator.schedulers.slurm import SlurmScheduler
from orchestrator.schedulers.slurm_limits import (
    LIMITS_SECONDS,
    NO_LIMITS_SECONDS,
    parse_config,
)
from orchestrator.site_schema import Site
from tests.unit.slurm.command_stubs import CommandStubs

CONFIG = """\
Configuration data as of 2026-11-25T16:30:00
AccountingStorageEnforce = associations,limits,qos
MaxArraySize            = {array}
MaxJobCount             = {jobs}
SchedulerParameters     = sched_interval=5,{parameters}
"""


def config(array: int = 1001, jobs: int = 10_000, parameters: str = "bf_interval=5") -> str:
    """Return a `scontrol show config`."""
    return CONFIG.format(array=array, jobs=jobs, parameters=parameters)


@pytest.mark.parametrize(
    ("said", "chunk"),
    [
        ({}, 1000),
        ({"array": 11}, 10),
        ({"array": 4_000_001, "jobs": 1_000_000}, 10_000),
        ({"array": 10_001}, 5000),  # an array of MaxJobCount would never be accepted
        ({"parameters": "max_array_tasks=40"}, 40),
        ({"array": 0}, 1),  # no arrays at all: the refusal says so
    ],
)
def test_a_chunk_fits_under_every_limit_that_is_told(said: dict[str, Any], chunk: int) -> None:
    """MaxArraySize, max_array_tasks, and half of the controller's table."""
    limits = parse_config(config(**said))

    assert limits is not None
    assert limits.chunk == chunk


@pytest.mark.parametrize("text", ["", "slurm_load_ctl_conf error", "MaxArraySize = many"])
def test_what_is_no_configuration_is_no_answer(text: str) -> None:
    """Slurm's own defaults count then, and the question is asked again later."""
    assert parse_config(text) is None


def test_the_controller_is_asked_once_an_hour(commands: CommandStubs, tmp_path: Path) -> None:
    """An answer holds for an hour, a silence for minutes."""
    clock = FakeClock()
    scheduler = SlurmScheduler(tmp_path, clock=clock)
    commands.write("scontrol", "exit 1")
    assert [scheduler.chunk_limit, scheduler.chunk_limit] == [1000, 1000]
    assert len(commands.calls("scontrol")) == 1

    commands.write("scontrol", f"cat <<'END'\n{config(array=11)}END")
    clock.advance(NO_LIMITS_SECONDS)
    assert [scheduler.chunk_limit, scheduler.chunk_limit] == [10, 10]
    commands.write("scontrol", "exit 1")
    clock.advance(LIMITS_SECONDS)
    assert scheduler.chunk_limit == 10, "an old answer is better than none"
    assert len(commands.calls("scontrol")) == 3


def sacctmgr(associations: str, qos: str) -> str:
    """Return a script that answers both questions."""
    return f"""case "$*" in *'show assoc '*) cat <<'END'
{associations}
END
;; *) cat <<'END'
{qos}
END
;; esac"""


@pytest.mark.parametrize(
    ("site", "associations", "qos", "limit"),
    [
        ({"account": "proj"}, "proj|||7|\nroot||||", "normal|||", 7),
        ({"account": "PROJ"}, "proj|||7|", "normal|||", 7),
        ({"account": "proj"}, "proj|||7|5", "normal|||", 5),
        ({"account": "proj"}, "proj||||", "normal|||", None),
        ({"account": "proj", "qos": "tight"}, "proj|||7|", "normal|||\ntight|3||", 3),
        ({"account": "proj"}, "proj||tight||", "normal|||\ntight||4|9", 4),
        ({"account": "proj"}, "proj|||7|", "normal|2||", 2),
        # without an account any of them may be the default: the most generous one counts
        ({}, "proj|||7|\nother|||9|", "normal|||", 9),
        ({}, "proj|||7|\nother||||", "normal|||", None),
        ({"account": "nosuch"}, "proj|||7|", "normal|||", None),
        # an association of a partition counts where the site uses that partition
        ({"account": "proj", "partition": "gpu"}, "proj|gpu||4|\nproj|cpu||9|", "normal|||", 4),
        ({"account": "proj"}, "garbage", "normal|||", None),
        ({"account": "proj"}, "", "", None),
    ],
)
def test_the_submit_limit_is_that_of_association_and_qos(
    commands: CommandStubs,
    tmp_path: Path,
    site: dict[str, Any],
    associations: str,
    qos: str,
    limit: int | None,
) -> None:
    """The smallest that holds for the site's words; None where nobody says."""
    commands.write("scontrol", f"cat <<'END'\n{config()}END")
    commands.write("sacctmgr", sacctmgr(associations, qos))
    scheduler = SlurmScheduler(tmp_path, site=Site.model_validate(site), clock=FakeClock())

    assert [scheduler.submit_limit, scheduler.submit_limit] == [limit, limit]
    assert len(commands.calls("sacctmgr")) == 2


@pytest.mark.parametrize("enforced", ["none", "associations", ""])
def test_limits_that_are_not_enforced_are_not_asked_for(
    commands: CommandStubs, tmp_path: Path, enforced: str
) -> None:
    """Accounting may hold numbers that the controller does not look at."""
    text = config().replace("associations,limits,qos", enforced)
    commands.write("scontrol", f"cat <<'END'\n{text}END")
    commands.write("sacctmgr", sacctmgr("proj|||7|", "normal|||"))

    assert SlurmScheduler(tmp_path, clock=FakeClock()).submit_limit is None
    assert commands.calls("sacctmgr") == []


def test_without_accounting_nobody_says(commands: CommandStubs, tmp_path: Path) -> None:
    """slurmdbd is down: nothing is known and nothing stops."""
    commands.write("scontrol", f"cat <<'END'\n{config()}END")
    commands.write("sacctmgr", "echo 'sacctmgr: error: slurm_persist_conn_open' >&2; exit 1")

    assert SlurmScheduler(tmp_path, clock=FakeClock()).submit_limit is None
