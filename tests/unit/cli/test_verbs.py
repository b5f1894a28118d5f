"""What each verb says and leaves with, on a state directory with a real database."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from durable.locks import SingleHolderLock
from jobs.contract.paths import StateDir
from jobs.contract.records import TaskRecord, TasksRecord
from orchestrator.cli.exits import Exit
from orchestrator.cli.quick import quick_status
from tests.unit.cli.conftest import Outcome
from tests.unit.cli.state import job_id, write_result, write_state

Orch = Callable[..., Outcome]
MATRIX = """\
version: 1
name: tiny
defaults:
  model: {family: decoder, config: {n_layer: 1, n_embd: 32}}
  method: {name: lora}
  task: {name: tsv, path: "package:quickstart"}
  train: {steps: 4, global_batch: 4}
seeds: [1, 2]
"""


@contextmanager
def watching(state: StateDir) -> Iterator[None]:
    """Hold the lease as a watcher does."""
    with SingleHolderLock(state.lock, about={"verb": "watch", "command": "orch watch"}):
        yield


# --- status


@pytest.mark.parametrize("verb", ["status", "results", "tick"])
def test_an_empty_place_says_what_to_do_and_stays_empty(orch: Orch, home: Path, verb: str) -> None:
    """Looking creates nothing; the newcomer learns the next command."""
    shown = orch(verb)

    assert shown.code == Exit.OK
    assert "orch submit" in shown.err
    assert not home.exists()


@pytest.mark.parametrize("verb", ["status", "results", "tick"])
def test_an_empty_place_is_an_empty_document(orch: Orch, verb: str) -> None:
    """A script need not care whether anything was submitted yet."""
    shown = orch(verb, "--json")

    assert shown.code == Exit.OK
    assert shown.document["schema_version"] == 1
    assert shown.document.get("jobs", []) == []


def test_status_names_each_job_and_who_watches(orch: Orch, home: Path) -> None:
    """Rows and summary on stdout; without a watcher the command that starts one."""
    write_state(home, {1: "RUNNING", 2: "COMPLETED"}, step=20, epoch=1, attempts=1)

    shown = orch("status")

    assert "quickstart-0001" in shown.out
    assert "2 jobs: 1 completed, 1 running" in shown.out
    assert "Start it: orch watch" in shown.out


def test_status_knows_a_living_watcher(orch: Orch, home: Path) -> None:
    """Its pid comes from the lease's holder, believed only while the lock is held."""
    state = write_state(home, {1: "RUNNING"})

    with watching(state):
        alive = orch("status", "--json").document["watcher"]
    dead = orch("status", "--json").document["watcher"]

    assert (alive["alive"], alive["pid"]) == (True, os.getpid())
    assert dead["alive"] is False


def test_selectors_are_matrix_job_and_id_prefix(orch: Orch, home: Path) -> None:
    """Three ways to mean jobs; anything else is not found, with what is near."""
    write_state(home, {1: "QUEUED", 2: "QUEUED"})

    def ids(selector: str) -> list[str]:
        return [job["id"] for job in orch("status", selector, "--json").document["jobs"]]

    assert ids("quickstart") == [job_id(1), job_id(2)]
    assert ids("quickstart-0002") == [job_id(2)]
    assert ids(job_id(1)[:4]) == [job_id(1)]
    missing = orch("status", "quickstrat")
    assert missing.code == Exit.NOT_FOUND
    assert "quickstart" in missing.err


def test_a_failed_job_leads_to_its_log(orch: Orch, home: Path) -> None:
    """The next command is suggested, with a selector that works."""
    write_state(home, {1: "FAILED"}, reason="exception")

    assert f"orch logs {job_id(1)[:8]}" in orch("status").err


def test_hostile_reasons_do_not_reach_the_terminal(orch: Orch, home: Path) -> None:
    """A scheduler's or a worker's words are shown without what a terminal obeys."""
    write_state(home, {1: "FAILED"}, reason="\x1b]0;pwned\x07bad\u202e\nforged row")

    shown = orch("status")

    assert "bad forged row" in shown.out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown.out)


@pytest.mark.parametrize(
    "words", [[], ["--json"], ["quickstart"], ["quickstart", "-a"], ["--all", "--json"]]
)
def test_the_quick_way_is_the_same_as_typers(
    orch: Orch, home: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipping typer's parser must be visible in the time only."""
    write_state(home, {1: "QUEUED", 2: "FAILED"})
    assert quick_status(["status", *words]) is not None
    quick = orch("status", *words)
    monkeypatch.setattr("orchestrator.cli.run.quick_status", lambda words: None)

    assert orch("status", *words) == quick


@pytest.mark.parametrize(
    "words", [["results"], ["status", "--watch"], ["status", "-h"], ["status", "a", "b"], [""]]
)
def test_everything_else_goes_to_typer(words: list[str]) -> None:
    """Help, mistakes and other options are not the quick way's business."""
    assert quick_status(words) is None


def test_status_watch_ends_when_nothing_is_open(orch: Orch, home: Path) -> None:
    """Following finished jobs must not wait for ever."""
    write_state(home, {1: "COMPLETED", 2: "FAILED"})

    assert orch("status", "--watch").code == Exit.OK


def test_ctrl_c_in_a_view_detaches_and_says_so(
    orch: Orch, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """130, and a sentence that nothing was cancelled."""
    write_state(home, {1: "RUNNING"})

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    for words in (["status", "--watch"], ["logs", "quickstart-0001", "-f"]):
        shown = orch(*words)
        assert shown.code == Exit.INTERRUPTED
        assert "detached" in shown.err
        assert "on" in shown.err


# --- results


def test_results_as_table_document_and_csv(orch: Orch, home: Path) -> None:
    """Three forms of the same rows."""
    write_state(home, {1: "COMPLETED", 2: "RUNNING"}, attempts=1)
    write_result(home, 1)

    table, document, csv = orch("results"), orch("results", "--json"), orch("results", "--csv")

    assert "test loss" in table.out
    assert "1 job of 2 without result" in table.err
    assert document.document["jobs"][0]["metrics"] == {"test": {"loss": 2.0}}
    assert document.document["jobs"][1]["weights_digest"] is None
    assert csv.out.splitlines()[1].startswith(f"{job_id(1)},quickstart-0001,COMPLETED,1,0,true,")


# --- logs


def test_logs_are_those_of_the_newest_attempt(orch: Orch, home: Path) -> None:
    """--attempt and --rank choose others; an unknown one names what there is."""
    state = write_state(home, {1: "RUNNING"}, epoch=2)
    for epoch in (1, 2):
        attempt = state.job(job_id(1)).attempt(epoch)
        attempt.path.mkdir(parents=True)
        attempt.log(0).write_text(f"attempt {epoch}\n\x1b[31mred\nlast\n")

    assert orch("logs", job_id(1)).out == "attempt 2\nred\nlast\n"
    assert orch("logs", job_id(1), "--attempt", "1").out.startswith("attempt 1\n")
    assert orch("logs", job_id(1), "-n", "1").out == "last\n"
    for words in (["--attempt", "7"], ["--rank", "3"]):
        missing = orch("logs", job_id(1), *words)
        assert missing.code == Exit.NOT_FOUND
        assert "fix: attempts with a log of this rank" in missing.err


def test_without_an_attempt_the_launchers_words_are_shown(orch: Orch, home: Path) -> None:
    """A worker that dies while importing leaves its words in the submission's directory only."""
    state = write_state(home, {1: "FAILED"})
    submission = state.submission("0123456789abcdef")
    submission.path.mkdir(parents=True)
    tasks = TasksRecord(
        token=submission.token, scheduler="local", tasks=(TaskRecord(index=3, job=job_id(1)),)
    )
    submission.tasks.write_bytes(tasks.to_json())
    submission.output(3).write_text("ModuleNotFoundError: No module named 'torch'\n")

    shown = orch("logs", job_id(1))

    assert (shown.code, "No module named 'torch'" in shown.out) == (Exit.OK, True)


def test_a_job_without_any_log_says_why(orch: Orch, home: Path) -> None:
    """The state and the reason answer the question that the log cannot."""
    write_state(home, {1: "QUEUED"}, reason="Resources")

    shown = orch("logs", job_id(1))

    assert shown.code == Exit.NOT_FOUND
    assert "QUEUED (Resources)" in shown.err


def test_following_a_finished_job_prints_it_and_ends(orch: Orch, home: Path) -> None:
    """-f on a job that is over must not wait."""
    state = write_state(home, {1: "COMPLETED"}, epoch=1)
    attempt = state.job(job_id(1)).attempt(1)
    attempt.path.mkdir(parents=True)
    attempt.log(0).write_text("one\ntwo without end")

    assert orch("logs", job_id(1), "-f").out == "one\ntwo without end\n"


# --- cancel, submit, locks


def test_cancel_asks_for_yes_where_nobody_can_answer(orch: Orch, home: Path) -> None:
    """The count comes first and nothing happens without consent."""
    write_state(home, {1: "QUEUED", 2: "COMPLETED"})

    refused = orch("cancel", "quickstart", "--json")

    assert refused.code == Exit.USAGE
    assert "cancel 1 job: quickstart-0001" in refused.err
    assert orch("status", "--json").document["counts"] == {"QUEUED": 1, "COMPLETED": 1}


def test_cancel_and_retry(orch: Orch, home: Path) -> None:
    """Cancelled jobs are over until somebody wants them again; finished ones are not touched."""
    write_state(home, {1: "NEW", 2: "COMPLETED"})

    cancelled = orch("cancel", "quickstart", "--yes", "--json")

    assert cancelled.document["cancelled"] == ["quickstart-0001"]
    assert orch("status", "--json").document["counts"] == {"CANCELLED": 1, "COMPLETED": 1}
    assert "nothing to cancel" in orch("cancel", "quickstart", "--yes").err


def test_a_locked_state_directory_leaves_with_5_and_names_the_holder(
    orch: Orch, home: Path
) -> None:
    """tick and watch are for one at a time; the other's host and pid are in the message."""
    state = write_state(home, {1: "QUEUED"})

    with watching(state):
        for verb in (["tick", "--json"], ["watch"]):
            shown = orch(*verb)
            assert shown.code == Exit.LOCKED
            assert str(os.getpid()) in shown.err
            assert "nothing needs rm" in shown.err


def test_a_dry_run_changes_nothing(orch: Orch, home: Path, tmp_path: Path) -> None:
    """Jobs, specs and backend are shown; no state directory appears."""
    (tmp_path / "m.yaml").write_text(MATRIX)

    shown = orch("submit", "m.yaml", "--dry-run", "--json", "--backend", "local")

    document = shown.document
    assert [document[k] for k in ("cells", "unique_jobs", "new", "unchanged")] == [2, 2, 2, 0]
    assert [job["spec"]["semantic"]["seed"] for job in document["jobs"]] == [1, 2]
    assert document["backend"]["name"] == "local"
    assert document["missing"] == []
    assert not home.exists()


def test_a_dry_run_needs_neither_models_nor_data_but_submitting_does(
    orch: Orch, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers and what is missing, with 0; a submission names each with its line, and nothing
    is written.
    """
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    axes = "matrix: {model.path: [org/small, models/own], task.path: [corpus]}\n"
    model = MATRIX[MATRIX.index("  model:") : MATRIX.index("  method:")]
    (tmp_path / "m.yaml").write_text(
        MATRIX.replace(model, "  model: {family: decoder, path: org/small}\n") + axes
    )
    words = ("m.yaml", "--backend", "local")

    document = orch("submit", *words, "--dry-run", "--json").document
    told = orch("submit", *words, "--dry-run")
    refused = orch("submit", *words)

    assert [document[k] for k in ("cells", "unique_jobs", "new")] == [4, 4, 4]
    found = {(one["source"], one["key"]) for one in document["missing"]}
    assert found == {
        ("org/small", "matrix.model.path[0]"),
        ("models/own", "matrix.model.path[1]"),
        ("corpus", "matrix.task.path[0]"),
    }
    assert told.code == Exit.OK
    assert "4 jobs: 4 new" in told.out
    assert "not here: 2 models, 1 task (" in told.err
    assert refused.code == Exit.USAGE
    assert all(f"{name}" in refused.err for name, _ in found)
    assert not home.exists()


def test_set_replaces_a_default(orch: Orch, tmp_path: Path) -> None:
    """--set is for one-off changes; a wrong key is a problem with a place."""
    (tmp_path / "m.yaml").write_text(MATRIX)
    common = ("submit", "m.yaml", "--dry-run", "--json", "--backend", "local")

    changed = orch(*common, "--set", "train.steps=9").document
    wrong = orch(*common, "--set", "train.stepz=9")

    assert {job["spec"]["semantic"]["train"]["steps"] for job in changed["jobs"]} == {9}
    assert wrong.code == Exit.USAGE
    assert wrong.document["error"]["kind"] == "invalid_matrix"


def test_problems_of_all_files_are_reported_together(
    orch: Orch, home: Path, tmp_path: Path
) -> None:
    """Nobody repairs one file to learn of the next; and nothing was changed."""
    (tmp_path / "a.yaml").write_text(MATRIX.replace("steps: 4", "stepz: 4"))
    (tmp_path / "b.yaml").write_text(MATRIX.replace("seeds: [1, 2]", "seeds: [1, 1]"))

    shown = orch("submit", "a.yaml", "b.yaml", "--backend", "local", "--json")

    assert shown.code == Exit.USAGE
    assert {p["file"] for p in shown.document["error"]["problems"]} == {"a.yaml", "b.yaml"}
    assert not home.exists()


def test_a_missing_matrix_is_not_found(orch: Orch) -> None:
    """Exit code 3 and the path."""
    shown = orch("submit", "nope.yaml", "--backend", "local")

    assert (shown.code, "nope.yaml" in shown.err) == (Exit.NOT_FOUND, True)


def test_no_document_has_more_than_one_line(orch: Orch, home: Path) -> None:
    """Pure JSON: the whole of stdout is the document."""
    write_state(home, {1: "COMPLETED"})
    write_result(home, 1)

    for words in (["status"], ["results"], ["doctor"], ["tick"]):
        shown = orch(*words, "--json")
        assert shown.out.count("\n") == 1
        json.loads(shown.out)
