"""The boundary: exit codes, where words go, and what a failure looks like."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from durable.locks import Locked
from jobs.errors import MatrixInvalid, Problem
from orchestrator.cli import listing as status_module
from orchestrator.cli.app import VERBS
from orchestrator.cli.exits import KINDS, MEANINGS, Exit
from orchestrator.cli.failures import stop_of
from tests.unit.cli.conftest import Outcome

Orch = Callable[..., Outcome]


def test_the_promised_exit_codes_are_those() -> None:
    """Scripts rely on the numbers; each has a meaning, and each failure a machine word."""
    assert {code.name: int(code) for code in Exit} == {
        "OK": 0, "FAILED": 1, "USAGE": 2, "NOT_FOUND": 3, "UNREACHABLE": 4, "LOCKED": 5,
        "PARTIAL": 6, "TIMED_OUT": 124, "INTERRUPTED": 130,
    }  # fmt: skip
    assert set(MEANINGS) == set(Exit)
    assert set(KINDS) == set(Exit) - {Exit.OK}


def test_help_names_every_verb_and_goes_to_stdout(orch: Orch) -> None:
    """`orch --help` is data; a verb that it does not name does not exist for a newcomer."""
    shown = orch("--help")

    assert shown.code == 0
    assert all(verb in shown.out for verb in VERBS)
    assert shown.err == ""


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_an_example_in_its_help(orch: Orch, verb: str) -> None:
    """The help of each verb must show how it is used."""
    for words in ((verb, "--help"), (verb, "-h")):
        shown = orch(*words)
        assert shown.code == 0
        assert f"$ {'while ' if verb == 'tick' else ''}orch {verb}" in shown.out


def test_version_is_one_line(orch: Orch) -> None:
    """`orch --version` is for bug reports."""
    shown = orch("--version")

    assert (shown.code, shown.out.split()[0], shown.out.count("\n")) == (0, "orch", 1)


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--no-such-option"),
        ("statsu",),
        ("submit",),
        ("submit", "m.yaml", "--backend", "cloud"),
        ("submit", "m.yaml", "--timeout", "5"),
        ("submit", "m.yaml", "--wait", "--dry-run"),
        ("results", "--json", "--csv"),
        ("logs", "x", "--rank", "-1"),
    ],
)
def test_wrong_usage_leaves_with_2_and_says_where_help_is(
    orch: Orch, words: tuple[str, ...]
) -> None:
    """One short message with a fix on stderr, nothing on stdout, no traceback."""
    shown = orch(*words)

    assert shown.code == Exit.USAGE
    assert shown.out == "" or "--json" in words
    assert "fix:" in shown.err
    assert "Traceback" not in shown.err


def test_with_json_a_failure_is_json_on_stdout_and_text_on_stderr(orch: Orch) -> None:
    """A script that asked for JSON must be able to parse the failure too."""
    shown = orch("status", "nobody", "--json")

    assert shown.code == Exit.NOT_FOUND
    assert shown.document["schema_version"] == 1
    assert shown.document["error"]["kind"] == "not_found"
    assert shown.document["error"]["exit_code"] == 3
    assert "nobody" in shown.err


def failing(error: BaseException) -> Callable[..., None]:
    """Return a function that raises `error` whatever it is given."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_bug_shows_a_traceback_only_with_debug(
    orch: Orch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users get one sentence; --debug, anywhere on the line, gives the traceback."""
    monkeypatch.setattr(status_module, "state_home", failing(KeyError("oops")))

    plain, debug = orch("status"), orch("status", "--debug")

    assert plain.code == debug.code == Exit.FAILED
    assert "Traceback" not in plain.err
    assert "--debug" in plain.err
    assert "Traceback" in debug.err
    assert "oops" in debug.err


def test_ctrl_c_leaves_with_130(orch: Orch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of an interrupted command is what shells expect."""
    monkeypatch.setattr(status_module, "state_home", failing(KeyboardInterrupt()))

    assert orch("status").code == Exit.INTERRUPTED


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Locked(Path("w.lock"), {"host": "h1", "pid": 7}), Exit.LOCKED, "h1"),
        (FileNotFoundError(2, "No such file or directory", "m.yaml"), Exit.NOT_FOUND, "m.yaml"),
        (OSError(28, "No space left on device", "/x"), Exit.FAILED, "No space left"),
        (PermissionError(13, "Permission denied", "/x"), Exit.FAILED, "Permission denied"),
    ],
)
def test_known_conditions_have_their_code_and_a_fix(
    error: Exception, code: Exit, words: str
) -> None:
    """Foreign errors become the documented codes, with their words kept."""
    stop = stop_of(error)

    assert stop.code is code
    assert words in stop.message


def test_all_problems_of_a_matrix_are_shown_on_one_screen(
    orch: Orch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with file:line:column, key, message and fix; a flood is cut, JSON has all."""
    problems = [
        Problem(file="m.yaml", line=n, column=3, key=f"train.k{n}", message="unknown", fix="rm it")
        for n in range(1, 31)
    ]
    monkeypatch.setattr(status_module, "state_home", failing(MatrixInvalid(problems)))

    shown = orch("status", "--json")

    assert shown.code == Exit.USAGE
    assert "m.yaml:1:3: train.k1: unknown" in shown.err
    assert "fix: rm it" in shown.err
    assert "18 more problems" in shown.err
    assert len(shown.err.splitlines()) <= 30
    assert len(shown.document["error"]["problems"]) == 30
    assert shown.document["error"]["kind"] == "invalid_matrix"


def test_a_message_cannot_hijack_the_terminal(orch: Orch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values quoted in an error come from outside."""
    problem = Problem(
        file="m.yaml", line=1, column=1, key="a\x1b]0;x\x07", message="\u202ebad", fix=""
    )
    monkeypatch.setattr(status_module, "state_home", failing(MatrixInvalid([problem])))

    shown = orch("status")

    assert "\x1b" not in shown.err
    assert "\u202e" not in shown.err


def test_a_closed_pipe_is_no_failure() -> None:
    """`orch --help | head -1` must neither complain nor fail."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "orchestrator", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.close()
    _, errors = child.communicate(timeout=60)

    assert (child.returncode, errors) == (0, b"")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["status"],
        ["status", "--json"],
        ["results"],
        ["results", "--help"],
        ["plot", "--help"],
    ],
)
def test_the_command_line_never_imports_what_is_heavy(words: list[str], tmp_path: object) -> None:
    """torch, transformers and submitit cost seconds: no everyday verb may touch them."""
    program = (
        "import sys; from orchestrator.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'submitit', 'deepspeed', 'datasets', 'numpy', 'pandas',"
        "'matplotlib'};"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *words],
        env={**os.environ, "ORCH_HOME": f"{tmp_path}/none"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
