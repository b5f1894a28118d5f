"""Why a job is where it is: plain words for each state, each of Slurm's reasons, each of ours."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.states import JobState
from orchestrator.explanation import Explanation, JobCircumstances, TaskSeen, explain
from orchestrator.observation import Seen
from orchestrator.rows import JobRow, Watcher
from orchestrator.slurm_reasons import REASONS, explain_reason
from orchestrator.timeline import AttemptRow

NOW = 10_000.0


def circumstances(state: JobState, **fields: Any) -> JobCircumstances:
    """Return a job of this state with a living watcher; `row_…` and `task_…` fields are theirs."""
    row = {k.removeprefix("row_"): fields.pop(k) for k in list(fields) if k.startswith("row_")}
    task = {k.removeprefix("task_"): fields.pop(k) for k in list(fields) if k.startswith("task_")}
    values: dict[str, Any] = {
        "id": "3f2a9c1e00000000", "name": "m/one", "matrices": ("m",), "state": state,
        "step": 20, "total_steps": 60, "epoch": 1, "attempts": 1, "preemptions": 0,
        "scheduler": "slurm", "scheduler_id": "77_3", "reason": "", "state_since": NOW - 120,
    }  # fmt: skip
    seen: dict[str, Any] = {
        "live": True, "scheduler": "slurm", "submission": "accepted", "submission_reason": "",
        "seen": "pending", "seen_reason": "", "absent_count": 0, "submitted_at": NOW - 300,
    }  # fmt: skip
    facts: dict[str, Any] = {
        "row": JobRow(**{**values, **row}), "now": NOW, "due_at": 0.0,
        "task": TaskSeen(**{**seen, **task}), "attempts": (), "seen": (),
        "watcher": Watcher(alive=True, host="h", pid=1, last_tick=NOW),
    }  # fmt: skip
    return JobCircumstances(**{**facts, **fields})


def ended(**fields: Any) -> AttemptRow:
    """Return an attempt that is over."""
    values: dict[str, Any] = {
        "epoch": 1, "scheduler": "slurm", "scheduler_id": "77_3", "nodes": "n1",
        "queued_at": NOW - 900, "started_at": NOW - 800, "ended_at": NOW - 300, "first_step": 0,
        "last_step": 25, "committed_step": 20, "end_class": "preempted", "cause": "rank 0: saved",
    }  # fmt: skip
    return AttemptRow(**{**values, **fields})


def whole(explanation: Explanation) -> str:
    """Return all that is said."""
    actions = [f"{a.do} {a.purpose}" for a in explanation.next]
    return "\n".join([explanation.answer, *explanation.because, *actions])


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_an_answer_and_nothing_else_is_needed(state: JobState) -> None:
    """Also with as few facts as there can be."""
    bare = explain(circumstances(state, task=None))

    assert bare.answer


@pytest.mark.parametrize("word", list(REASONS))
def test_each_of_slurms_words_is_a_sentence_with_slurms_word_beside_it(word: str) -> None:
    """A person can look the word up, and need not."""
    said = explain(circumstances(JobState.QUEUED, task_seen_reason=word))

    assert REASONS[word].says in said.answer
    assert any(word in line for line in said.because)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("QOSMaxJobsPerUserLimit", "limit of its QOS"),
        ("QOSGrpCpuLimit", "limit of its QOS"),
        ("AssocGrpCpuLimit", "limit of your account"),
        ("AssocMaxJobsLimit", "limit of your account"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", "down, drained or reserved"),
        ("Nodes_required_for_something_new", None),
    ],
)
def test_families_and_words_with_more_behind_them(words: str, says: str | None) -> None:
    """An unknown word is shown as it is, never guessed."""
    meaning = explain_reason(words)

    assert (meaning is None) == (says is None)
    assert says is None or (meaning is not None and says in meaning.says)
    assert words in whole(explain(circumstances(JobState.QUEUED, task_seen_reason=words)))


def test_actions_name_the_job_and_its_slurm_id() -> None:
    """They are to be typed as they stand."""
    held = explain(circumstances(JobState.QUEUED, task_seen_reason="JobHeldUser"))
    waiting = explain(circumstances(JobState.QUEUED, task_seen_reason="Priority"))

    assert "orch release 3f2a9c1e" in whole(held)
    assert "-j 77_3" in whole(waiting)


def test_an_uncertain_submission_says_that_nobody_knows() -> None:
    """It must not look like a queue."""
    said = explain(
        circumstances(
            JobState.SUBMITTED, task_submission="uncertain", task_submission_reason="timed out"
        )
    )

    assert "nobody knows yet" in said.answer
    assert any("timed out" in line for line in said.because)


def test_backing_off_tells_how_long() -> None:
    """And why."""
    said = explain(
        circumstances(JobState.RETRYING, due_at=NOW + 90, row_reason="exception: KeyError")
    )

    assert "1 min 30 s" in said.answer
    assert "exception: KeyError" in whole(said)


def test_what_waits_for_other_jobs_or_for_room_says_so() -> None:
    """Our own reasons are already sentences."""
    needs = explain(circumstances(JobState.NEW, row_reason="waits: needs base: 2 of 4 missing"))
    room = explain(circumstances(JobState.NEW, row_reason="waits: max_in_flight 8 is reached"))

    assert "needs base: 2 of 4 missing" in needs.answer
    assert "max_in_flight 8 is reached" in room.answer


def test_a_silent_scheduler_and_a_missing_watcher_are_named_for_open_jobs_only() -> None:
    """They explain a standstill; a finished job stands still by itself."""
    silence = Seen(scheduler="slurm", taken_at=NOW - 900, unreachable="Socket timed out")
    around = {"seen": (silence,), "watcher": Watcher(alive=False, last_tick=NOW - 600)}

    waiting = whole(explain(circumstances(JobState.QUEUED, **around)))
    done = whole(explain(circumstances(JobState.COMPLETED, **around)))

    assert "cannot be asked" in waiting
    assert "10 min ago" in waiting
    assert "orch watch" in waiting
    assert "cannot be asked" not in done
    assert "orch watch" not in done


def test_restarts_are_told_with_what_they_cost() -> None:
    """The newest last, old ones only counted."""
    attempts = [ended(epoch=n, cause=f"cause {n}") for n in range(1, 9)]

    said = explain(circumstances(JobState.RUNNING, attempts=attempts))

    assert "3 earlier attempts" in whole(said)
    assert said.because[-1].startswith("attempt 8 ended 5 min ago (preempted, 5 steps lost)")


def test_words_from_outside_are_made_harmless() -> None:
    """P11: a reason is data."""
    said = explain(circumstances(JobState.QUEUED, task_seen_reason="\x1b[31mPriority\x1b]0;x\x07"))

    assert "\x1b" not in whole(said)


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.FAILED])
def test_a_stopped_job_that_was_asked_for_again_says_that_it_goes_on(state: JobState) -> None:
    """Its state says that it is over until its last attempt has left."""
    assert "it is to go on (retry)" in explain(circumstances(state, again_wanted="retry")).answer


def test_a_running_command_says_only_the_steps_it_has_said() -> None:
    """`step 0 of 0` would be an invention."""
    silent = explain(circumstances(JobState.RUNNING, row_step=0, row_total_steps=0))
    speaking = explain(circumstances(JobState.RUNNING, row_step=7, row_total_steps=0))

    assert not any("step" in line for line in silent.because)
    assert speaking.because[0].startswith("step 7, phase")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"held_by_person": True}, "a person holds it"),
        ({"again_wanted": "release"}, "it is to go on"),
        ({"row_reason": "slurm refused: no such partition"}, "no such partition"),
    ],
)
def test_a_held_job_says_who_holds_it(fields: dict[str, Any], part: str) -> None:
    """A person, a rule, or nobody any more."""
    assert part in explain(circumstances(JobState.HELD, **fields)).answer
