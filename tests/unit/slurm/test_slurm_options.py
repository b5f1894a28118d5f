"""Which sbatch options and which script a submission becomes; no value of it runs as shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.schedulers.slurm_options import (
    Unfit,
    batch_template,
    carries,
    job_name,
    sbatch_options,
    script_body,
)
from orchestrator.schedulers.slurm_submit import write_script
from orchestrator.site_schema import Gpus, MailTo, Site
from tests.unit.slurm.requests import TOKEN, request

PYTHON = "/opt/python/bin/python"


def script(directory: Path, site: Site, **changes: Any) -> str:
    """Return the whole batch script as sbatch gets it."""
    wanted = request(directory=str(directory), **changes)
    options = sbatch_options(wanted, site)
    body = script_body(wanted, site, python=PYTHON, template=batch_template())
    return write_script(directory, options, body).read_text()


def test_the_options_of_a_plain_submission() -> None:
    """The identity, the array, the environment and the resources, and nothing of submitit's."""
    assert sbatch_options(request(), Site()) == {
        "job-name": f"orch:{TOKEN}",
        "comment": f"orch:{TOKEN} quick",
        "array": "0-2",
        "chdir": f"/srv/orch/submissions/{TOKEN}",
        "output": f"/srv/orch/submissions/{TOKEN}/%A_%a.out",
        "open-mode": "append",
        "requeue": True,
        "export": "NONE",
        "ntasks": 2,
        "cpus-per-task": 1,
        "mem": "2048M",
        "time": 60,
        "signal": "USR2@20",
    }


def test_one_task_is_an_array_too() -> None:
    """One form of id for everything."""
    assert sbatch_options(request(indices=(4,)), Site())["array"] == "4"


def test_the_site_adds_its_own_words() -> None:
    """account, partition and so on come from site.yaml, not from a matrix."""
    site = Site.model_validate(
        {
            "account": "proj",
            "partition": ["a", "b"],
            "qos": "q",
            "reservation": "r",
            "constraint": "(a100|h100)&ib",
            "exclude": "n[1-3]",
            "nice": 5,
            "mail": {"user": "me@site.org", "types": ["FAIL", "END"]},
            "extra": {"exclusive": True, "hint": "nomultithread", "contiguous": False},
            "cpus_per_rank": 8,
        }
    )
    options = sbatch_options(request(), site)

    assert {
        "account": "proj",
        "partition": "a,b",
        "qos": "q",
        "reservation": "r",
        "constraint": "(a100|h100)&ib",
        "exclude": "n[1-3]",
        "nice": 5,
        "mail-user": "me@site.org",
        "mail-type": "FAIL,END",
        "exclusive": True,
        "hint": "nomultithread",
        "cpus-per-task": 8,
    }.items() <= options.items()
    assert "contiguous" not in options


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("gres", {"gres": "gpu:a100:4", "nodes": 2}),
        ("gpus-per-node", {"gpus-per-node": "a100:4", "nodes": 2}),
        ("gpus-per-task", {"gpus-per-task": "a100:1", "nodes": 2}),
    ],
)
def test_gpus_are_asked_for_in_the_sites_style(style: str, expected: dict[str, object]) -> None:
    """8 ranks of one GPU on 2 nodes."""
    site = Site.model_validate({"gpus": {"style": style, "type": "a100"}})
    wanted = request(ranks=8, resources={"gpus_per_rank": 1, "nodes": 2, "memory_gb": 8})

    options = sbatch_options(wanted, site)

    assert expected.items() <= options.items()
    assert options["ntasks-per-node"] == 4
    assert options["mem"] == "4096M"  # --mem counts by node


@pytest.mark.parametrize(("minutes", "signal"), [(1, None), (3, None), (4, "USR2@20")])
def test_the_time_limit_signal_is_left_out_where_it_would_come_at_the_start(
    minutes: int, signal: str | None
) -> None:
    """Slurm sends it up to a minute early: a 1-minute job got it in its first second."""
    options = sbatch_options(request(resources={"time_limit_minutes": minutes}), Site())

    assert options.get("signal") == signal


def test_the_script_has_no_signal_of_submitits_own(tmp_path: Path) -> None:
    """submitit writes USR2@90 by default."""
    text = script(tmp_path, Site(), resources={"time_limit_minutes": 1})

    assert "--signal" not in text


def test_the_script_names_every_directive_once(tmp_path: Path) -> None:
    """Nothing of submitit's defaults (nodes, wckey, error, signal) is left in."""
    text = script(tmp_path, Site(python="/usr/bin/python3"))
    keys = re.findall(r"^#SBATCH --([a-z-]+)", text, re.MULTILINE)
    wanted = sbatch_options(request(directory=str(tmp_path)), Site())

    assert sorted(keys) == sorted(wanted)
    assert (tmp_path / "batch.sh").stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "batch.sh"]  # no pickle, no other file


def test_the_script_is_valid_shell(tmp_path: Path) -> None:
    """bash parses it, and the constant part is constant."""
    text = script(tmp_path, Site(setup=("module load cuda", "export A='b c'")))

    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)

    assert done.returncode == 0, done.stderr
    assert text.rstrip("\n").endswith(batch_template().rstrip("\n"))


def test_the_trap_stands_before_the_sites_lines(tmp_path: Path) -> None:
    """SIGTERM while modules are loaded must not end the script."""
    lines = script(tmp_path, Site(setup=("module load cuda",))).splitlines()

    assert lines.index("orch_heard=0; trap 'orch_heard=1' TERM") < lines.index("module load cuda")


EVIL = ["x\ntouch canary", "x\rtouch canary", "$(touch canary)", "`touch canary`", "x;touch canary"]


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("field", ["token", "matrix_name", "directory"])
def test_no_value_of_a_submission_runs_as_shell(tmp_path: Path, field: str, evil: str) -> None:
    """Each field is refused, or is data when the script runs under bash."""
    value = f"{tmp_path}/{evil}" if field == "directory" else evil
    with pytest.raises(Unfit):
        sbatch_options(request(**{field: value}), Site())


@pytest.mark.parametrize(
    "site",
    [
        Site.model_construct(account="a\ntouch canary"),
        Site.model_construct(qos="a\ntouch canary"),
        Site.model_construct(partition=("a\ntouch canary",)),
        Site.model_construct(reservation="a\ntouch canary"),
        Site.model_construct(constraint="a\ntouch canary"),
        Site.model_construct(exclude="a\ntouch canary"),
        Site.model_construct(extra={"hint": "a\ntouch canary"}),
        Site.model_construct(extra={"hint\ntouch canary": "a"}),
        Site.model_construct(mail=MailTo.model_construct(user="a\ntouch canary", types=("END",))),
        Site.model_construct(mail=MailTo.model_construct(user="a@b", types=("END\ntouch canary",))),
        Site.model_construct(gpus=Gpus.model_construct(style="gres", type="a\ntouch canary")),
        Site.model_construct(container_prefix=("a\ntouch canary",)),
        Site.model_construct(python="/a\ntouch canary"),
        Site.model_construct(scratch_root="/a\ntouch canary"),
    ],
)
def test_no_value_of_a_site_that_slipped_past_its_schema_runs_as_shell(
    site: Site, tmp_path: Path
) -> None:
    """The last door checks once more (`model_construct` skips the schema)."""
    with pytest.raises(Unfit):
        script(tmp_path, site, ranks=1, resources={"gpus_per_rank": 1})


HARMLESS_WORDS = [
    "$(touch canary)",
    "`touch canary`",
    "a;touch canary",
    "a b",
    "%x",
    "-n",
    "'",
    '"',
]


@pytest.mark.parametrize("word", HARMLESS_WORDS)
@pytest.mark.parametrize("key", ["account", "qos", "partition", "reservation", "constraint"])
def test_a_directive_that_bash_reads_as_a_comment_stays_one(
    tmp_path: Path, key: str, word: str
) -> None:
    """Whatever printable text stands behind `#SBATCH`, bash runs the whole script without it."""
    value: Any = (word,) if key == "partition" else word
    site = Site.model_construct(python="/bin/true", **{key: value})
    text = script(tmp_path, site)
    directives = "\n".join(line for line in text.splitlines() if line.startswith("#"))

    done = subprocess.run(["bash"], input=directives, text=True, capture_output=True, cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "canary").exists()
    assert text.count("#SBATCH") == len(re.findall(r"^#SBATCH --", text, re.MULTILINE))


def test_nothing_of_the_submitters_environment_is_in_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """slurmctld keeps the script and the exported environment in clear: tokens stay out of both."""
    monkeypatch.setenv("WANDB_API_KEY", "canary-of-a-secret")
    monkeypatch.setenv("HF_TOKEN", "canary-of-a-secret")

    text = script(tmp_path, Site())

    assert "canary-of-a-secret" not in text
    assert re.search(r"^#SBATCH --export=NONE$", text, re.MULTILINE)


@given(st.text(max_size=40))
def test_the_interpreter_and_its_prefix_are_words_whatever_they_hold(word: str) -> None:
    """A printable word reaches the command as one argument, unexpanded."""
    site = Site.model_construct(container_prefix=("printf", "%s\\n", word))
    try:
        body = script_body(request(), site, python="/bin/python", template='"${orch_python[@]}"')
    except Unfit:
        assert not word.isprintable()
        return
    done = subprocess.run(["bash"], input=body.encode(), capture_output=True)
    assert done.stdout.decode().split("\n")[0] == word


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token": "abc"}, "token"),
        ({"directory": "/srv/100%/x"}, "ORCH_HOME"),
        ({"directory": "relative"}, "ORCH_HOME"),
        ({"matrix_name": "-x"}, "matrix name"),
        ({"indices": ()}, "no task"),
        ({"resources": {"nodes": 3}}, "resources.nodes 3 is more than engine.ranks 2"),
    ],
)
def test_what_cannot_be_submitted_says_why(changes: dict[str, Any], words: str) -> None:
    """The message names the field."""
    with pytest.raises(Unfit, match=re.escape(words)):
        sbatch_options(request(**changes), Site())


def test_a_relative_interpreter_is_refused() -> None:
    """With --export=NONE a PATH lookup finds nothing, or something else."""
    with pytest.raises(Unfit, match="absolute"):
        script_body(request(), Site(), python="python3", template="")


def test_a_token_is_carried_by_name_or_comment() -> None:
    """Exactly; a longer token is another one."""
    name = job_name(TOKEN)

    assert carries(TOKEN, name=name, comment="")
    assert carries(TOKEN, name="x", comment=f"{name} some matrix")
    assert not carries(TOKEN, name=f"{name}0", comment=f"x {name}")
