"""What a command's exit code means, and how a failure is told."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from worker.command.endings import Asked, Left, failure, meaning
from worker.command.results import BadMetrics, read_metrics, split_metrics

QUIET, NOTICED, KILLED = Asked(), Asked(notice=True), Asked(notice=True, killed=True)


@pytest.mark.parametrize(
    ("code", "asked", "left"),
    [
        (0, QUIET, Left.DONE),
        (0, NOTICED, Left.AGAIN),  # many programs leave with 0 when they are told to stop
        (75, QUIET, Left.AGAIN),
        (75, NOTICED, Left.AGAIN),
        (78, QUIET, Left.CONFIGURATION),
        (1, QUIET, Left.FAILED),
        (1, NOTICED, Left.FAILED),
        (-signal.SIGTERM, NOTICED, Left.AGAIN),
        (-signal.SIGTERM, QUIET, Left.AGAIN),
        (143, NOTICED, Left.AGAIN),  # a shell's word for it
        (-signal.SIGUSR2, QUIET, Left.AGAIN),
        (-signal.SIGKILL, KILLED, Left.AGAIN),
        (-signal.SIGKILL, QUIET, Left.KILLED),  # out of memory
        (137, QUIET, Left.KILLED),
        (-signal.SIGSEGV, QUIET, Left.FAILED),
        (255, QUIET, Left.FAILED),
    ],
)
def test_meanings(code: int, asked: Asked, left: Left) -> None:
    """The table of docs/command-jobs.md."""
    assert meaning(code, asked) is left


def log(tmp_path: Path, text: str) -> Path:
    """Write a log."""
    path = tmp_path / "rank.log"
    path.write_text(text)
    return path


TRACEBACK = """\
step {n}
Traceback (most recent call last):
  File "/some/where/{n}/train.py", line {n}, in <module>
    main()
  File "/some/where/{n}/train.py", line 9, in main
    raise KeyError("label")
KeyError: 'label'
"""


def test_a_traceback_in_the_log_is_the_error(tmp_path: Path) -> None:
    """The same mistake in 100 jobs is one group, whatever directories and numbers say."""
    one = failure(1, log(tmp_path, TRACEBACK.format(n=3)), begin=0)
    other = failure(1, log(tmp_path, TRACEBACK.format(n=77)), begin=0)

    assert (one.type, one.message) == ("KeyError", "'label' (left with 1)")
    assert one.digest == other.digest
    assert 'raise KeyError("label")' in one.traceback


def test_what_stood_in_the_log_before_the_command_is_not_its_failure(tmp_path: Path) -> None:
    """Only its own words count."""
    before = TRACEBACK.format(n=1)

    told = failure(2, log(tmp_path, before + "cannot open x\n"), begin=len(before))

    assert (told.type, told.message) == ("CommandFailed", "left with 2: cannot open x")


def test_other_failures_are_other_groups(tmp_path: Path) -> None:
    """A signal is named."""
    silent = failure(-11, log(tmp_path, ""), begin=0)

    assert silent.message == "killed by SIGSEGV"
    assert silent.digest != failure(3, log(tmp_path, ""), begin=0).digest


def test_metrics_are_numbers_by_split_and_name(tmp_path: Path) -> None:
    """Bare numbers are of split `test`."""
    (tmp_path / "m.json").write_text('{"loss": 1, "dev": {"loss": 2.5}}')

    assert read_metrics(tmp_path / "m.json") == {"test": {"loss": 1.0}, "dev": {"loss": 2.5}}


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"a": "b"}', '{"a": NaN}', '{"a": true}', '{"a": {"b": null}}']
)
def test_what_is_no_number_is_refused(tmp_path: Path, text: str) -> None:
    """A result that could not be read back must not be published."""
    (tmp_path / "m.json").write_text(text)

    with pytest.raises(BadMetrics):
        read_metrics(tmp_path / "m.json")


def test_infinity_is_named() -> None:
    """The message has the metric."""
    with pytest.raises(BadMetrics, match="loss is Infinity"):
        split_metrics({"loss": float("inf")})
