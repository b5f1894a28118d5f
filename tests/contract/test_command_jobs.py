"""Other people's programs as jobs, run for real by the local launcher: no torch anywhere."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from jobs.contract.records import EpochRecord, Outcome, read_record
from tests.contract.commands import bench, ended, gone, preempt, result_of, said_step, with_run

TRAIN = """\
import json, sys, time
from orch_job import orch_attempt

assert "torch" not in sys.modules
attempt = orch_attempt()
done = 0
if attempt.resume_dir:
    done = json.loads((attempt.resume_dir / "deep" / "state.json").read_text())["done"]
    assert done == attempt.resume_step
print("begin at", done, "seed", attempt.seed, "lr", attempt.params["lr"], flush=True)
while done < 8:
    done += 1
    attempt.progress(done, 8, loss=1.0 / done)
    if done == 5 and attempt.epoch == 1:
        while not attempt.should_stop():
            time.sleep(0.01)
    if attempt.should_stop():
        deep = attempt.save_path() / "deep"
        deep.mkdir()
        (deep / "state.json").write_text(json.dumps({"done": done}))
        attempt.commit(done)
        attempt.leave()
attempt.result({"loss": 1.0 / done}, exact=True)
"""


def test_a_preempted_command_goes_on_where_it_saved_with_the_code_of_its_submission(
    tmp_path: Path,
) -> None:
    """The whole contract: notice, save, 75, resume; the script was edited meanwhile."""
    job = bench(tmp_path / "j", TRAIN)

    first = preempt(job, step=5)
    (tmp_path / "j" / "job.py").write_text("raise SystemExit(9)\n")
    second = job.attempt()

    record = ended(first, Outcome.SAVED, 75)
    assert (record.last_step, record.committed_step) == (5, 5)
    assert record.seconds_from_notice is not None
    ended(second, Outcome.COMPLETED, 0)
    assert "begin at 0 seed 3 lr 0.5" in first.log()
    assert "begin at 5 seed 3 lr 0.5" in second.log()
    result = result_of(job)
    assert result.metrics == {"test": {"loss": 0.125}}
    assert (result.exact, result.steps, result.resumed_steps) == (True, 8, (5,))
    curve = [json.loads(line) for line in job.job.metrics.read_text().splitlines()]
    assert [row["step"] for row in curve] == list(range(1, 9))
    claim = read_record(job.job.epoch(1), EpochRecord)
    assert claim is not None
    assert claim.packages == result.environment["packages"]


def test_the_last_step_of_a_command_that_fails_at_once_is_not_lost(tmp_path: Path) -> None:
    """Its heartbeat is younger than a second: what it said last is what `orch status` shows."""
    script = "from orch_job import orch_attempt\norch_attempt().progress(3)\nraise SystemExit(9)\n"
    job = bench(tmp_path / "j", script)

    record = ended(job.attempt(), Outcome.EXCEPTION, 1)

    assert record.last_step == 3
    assert said_step(job, 1) == 3


def test_a_script_that_knows_only_exit_codes_works(tmp_path: Path) -> None:
    """75 keeps what lies in the checkpoint directory; 0 is success, here with a result file."""
    script = """\
import json, os, pathlib, sys
resume = os.environ.get("ORCH_RESUME_DIR")
if resume is None:
    pathlib.Path(os.environ["ORCH_CHECKPOINT_DIR"], "state").write_text("half")
    sys.exit(75)
assert pathlib.Path(resume, "state").read_text() == "half"
params = json.load(open(os.environ["ORCH_PARAMS"]))
json.dump({"dev": {"score": params["params"]["lr"]}}, open("metrics.json", "w"))
"""
    job = bench(tmp_path / "j", script, extra="    result: metrics.json\n")

    ended(job.attempt(), Outcome.SAVED, 75)
    ended(job.attempt(), Outcome.COMPLETED, 0)

    result = result_of(job)
    assert result.metrics == {"dev": {"score": 0.5}}
    assert not result.exact  # nobody claims that its resuming is exact
    assert "resumed" in result.inexact_reasons[0]


def test_exit_0_alone_is_a_result_without_metrics(tmp_path: Path) -> None:
    """`{seed}` and params are words of argv."""
    job = bench(
        tmp_path / "j", "", argv='[sh, -c, "test $0 = 3 && test $1 = 0.5", "{seed}", "{lr}"]'
    )

    ended(job.attempt(), Outcome.COMPLETED, 0)

    result = result_of(job)
    assert (result.metrics, result.exact, result.steps) == ({}, True, 0)


@pytest.mark.parametrize(
    ("script", "extra", "said"),
    [
        ("", "    result: metrics.json\n", "metrics.json is not in the working directory"),
        ("open('m.json', 'w').write('[]')", "    result: m.json\n", "not an object"),
        ("import orch_job; orch_job.orch_attempt()", "", "never called result()"),
    ],
)
def test_exit_0_without_the_result_that_is_owed_is_incomplete(
    tmp_path: Path, script: str, extra: str, said: str
) -> None:
    """Nothing but a valid result makes a job COMPLETED."""
    job = bench(tmp_path / "j", script, extra=extra)

    record = ended(job.attempt(), Outcome.COMPLETED, 0)

    assert record.error is not None
    assert said in record.error.message
    assert not job.job.result.exists()


def test_leaving_with_0_after_the_notice_is_no_success(tmp_path: Path) -> None:
    """Many programs do that when they are told to stop."""
    script = """\
import pathlib, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
pathlib.Path(os.environ["ORCH_ATTEMPT_DIR"], "ready").touch()
time.sleep(60)
"""
    job = bench(tmp_path / "j", script)
    launched = job.start()
    try:
        launched.until((job.job.attempt(1).path / "ready").exists, "the script")
        launched.signal_ranks(signal.SIGTERM)
        attempted = launched.wait()
    finally:
        launched.end()

    ended(attempted, Outcome.NO_PROGRESS, 75)
    assert not job.job.result.exists()


def test_a_script_that_ignores_the_notice_is_killed_before_grace_is_over(tmp_path: Path) -> None:
    """With its children; and the runner still has time for its record."""
    script = """\
import pathlib, os, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"])
pathlib.Path(os.environ["ORCH_ATTEMPT_DIR"], "child").write_text(str(child.pid))
time.sleep(600)
"""
    job = bench(tmp_path / "j", script)
    job.job.spec.write_bytes(with_run(job.spec, grace_seconds=1.0).to_json())
    launched = job.start()
    child = job.job.attempt(1).path / "child"
    try:
        launched.until(lambda: child.exists() and child.read_text() != "", "the script")
        launched.signal_ranks(signal.SIGTERM)
        attempted = launched.wait()
    finally:
        launched.end()

    ended(attempted, Outcome.NO_PROGRESS, 75)
    launched.until(lambda: gone(int(child.read_text())), "the child to be gone")


def test_a_failing_script_is_told_by_its_traceback(tmp_path: Path) -> None:
    """The error's type and message are the script's own, for grouping over a matrix."""
    job = bench(tmp_path / "j", "def f():\n    raise KeyError('label')\nf()\n")

    record = ended(job.attempt(), Outcome.EXCEPTION, 1)

    assert record.error is not None
    assert record.error.type == "KeyError"
    assert record.error.message.startswith("'label'")


def test_78_and_a_program_that_is_not_there_are_never_tried_again(tmp_path: Path) -> None:
    """Configuration, with what to write."""
    job = bench(tmp_path / "a", "raise SystemExit(78)\n")
    none = bench(tmp_path / "b", "", argv="[no-such-program]")

    ended(job.attempt(), Outcome.CONFIGURATION, 78)
    record = ended(none.attempt(), Outcome.CONFIGURATION, 78)

    assert record.error is not None
    assert "no-such-program" in record.error.message


def test_a_tampered_snapshot_and_a_changed_input_never_run(tmp_path: Path) -> None:
    """Refused as configuration before the first word of the command."""
    job = bench(tmp_path / "a", "open('ran', 'w')\n")
    (snapshot,) = job.state.code.iterdir()
    (snapshot / "job.py").chmod(0o600)
    (snapshot / "job.py").write_text("open('ran', 'w')  # edited\n")
    (tmp_path / "words.txt").write_text("a")
    extra = f"    inputs: {{words: {tmp_path / 'words.txt'}}}\n"
    data = bench(tmp_path / "b", "open('ran', 'w')\n", extra=extra)
    (tmp_path / "words.txt").write_text("b")

    for bad, said in ((job, "is not the code that was submitted"), (data, "has changed since")):
        record = ended(bad.attempt(), Outcome.CONFIGURATION, 78)
        assert record.error is not None
        assert said in record.error.message
        assert not (bad.last.path / "work" / "ran").exists()
