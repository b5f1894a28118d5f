"""`orch status` must name what needs attention, and stay short for very many jobs."""

from __future__ import annotations

import pytest

from jobs.states import JobState
from orchestrator.overview import of_rows
from orchestrator.rows import Watcher, WatcherJobSeen
from orchestrator.views import status
from orchestrator.views.documents import state_counts
from orchestrator.views.palette import ATTENTION, STYLES, summary_order
from orchestrator.views.table import plain_lines
from tests.unit.views.made_up import job

S = JobState


def test_every_state_has_a_style_a_rank_and_a_place() -> None:
    """A state added later must not be missing from any listing."""
    assert set(STYLES) == set(ATTENTION) == set(summary_order()) == set(JobState)


def test_counts_name_states_in_the_order_of_a_jobs_life() -> None:
    """The summary must be complete, and say nothing of states that do not occur."""
    counts = state_counts([S.QUEUED, S.COMPLETED, S.RUNNING, S.COMPLETED])

    assert status.counts_line(counts) == "4 jobs: 2 completed, 1 running, 1 queued"


def test_few_jobs_are_all_shown_in_their_own_order() -> None:
    """A finished matrix of four jobs must show four rows, not none."""
    rows = [job(1, S.COMPLETED), job(2, S.FAILED), job(3, S.QUEUED)]

    listing = of_rows(rows, limit=50)

    assert (listing.rows, listing.hidden) == (rows, 0)


def test_of_many_jobs_only_those_that_need_attention_are_shown() -> None:
    """Failed ones come first; completed and queued ones are counted, not listed."""
    rows = [job(n, S.COMPLETED) for n in range(1, 10_000)]
    rows[500] = job(501, S.RUNNING)
    rows[900] = job(901, S.FAILED)

    listing = of_rows(rows, limit=50)

    assert [row.state for row in listing.rows] == [S.FAILED, S.RUNNING]
    assert listing.hidden == 9_997
    assert (
        status.hidden_line(listing.hidden, len(listing.rows)) == "… and 9,997 more; --all shows all"
    )


def test_the_attention_list_itself_is_capped() -> None:
    """Ten thousand failures must not fill the screen."""
    listing = of_rows([job(n, S.FAILED) for n in range(10_000)], limit=50)

    assert (len(listing.rows), listing.hidden) == (50, 9_950)


def test_no_limit_shows_all() -> None:
    """--all and pipes must get every row."""
    rows = [job(n) for n in range(200)]

    assert of_rows(rows, limit=None).rows == rows


@pytest.mark.parametrize(
    ("step", "total", "shown"),
    [(20, 60, "20/60"), (None, 60, "0/60"), (7, 0, "7"), (0, 0, "-"), (None, 0, "-")],
)
def test_a_command_shows_the_step_it_said_or_none(step: int | None, total: int, shown: str) -> None:
    """Nobody knows how many steps somebody else's program has until it says so."""
    assert status.steps(job(1, JobState.FAILED, step=step, total_steps=total)) == shown


def test_preemptions_and_lost_steps_are_said() -> None:
    """What preemption has cost must be visible without asking."""
    rows = [job(1, preemptions=2, lost_steps=0), job(2, preemptions=1, lost_steps=7)]

    tally = of_rows(rows, limit=50).tally
    line = status.costs_line(tally.preemptions, tally.lost_steps)

    assert line == "3 preemptions so far, 7 steps had to be run again"
    assert status.costs_line(0, 0) == ""


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"reason": "Resources"}, "Resources"),
        ({"phase": "training"}, ""),
        ({"phase": "saving"}, "saving"),
        ({"reason": "running on n1", "phase": "running"}, "running on n1"),
        ({"phase": "training", "heartbeat_age_seconds": 200.0}, "no heartbeat for 3 min 20 s"),
        ({"reason": "a\x1b[2Jb"}, "ab"),
    ],
)
def test_information_explains_the_state(changes: dict[str, object], shown: str) -> None:
    """The last column must say why, and mark a silent heartbeat as such."""
    assert status.information(job(1, **changes)) == shown


def test_a_queued_job_has_no_silent_heartbeat() -> None:
    """Only a running job is expected to beat."""
    assert status.information(job(1, S.QUEUED, heartbeat_age_seconds=900.0)) == ""


def test_a_narrow_terminal_drops_columns_and_a_pipe_has_all() -> None:
    """80 columns must keep name, state, step, attempts and reason; a pipe also id and loss."""
    rows = [job(1, loss=1.5)]

    narrow = next(iter(plain_lines(status.job_table(rows, width=80))))
    wide = next(iter(plain_lines(status.job_table(rows, width=None))))

    assert narrow.split() == ["JOB", "STATE", "STEP", "ATTEMPTS", "INFORMATION"]
    assert {"ID", "LOSS", "SCHEDULER"} < set(wide.split())


def test_reports_are_cleaned_and_capped() -> None:
    """A quarantine report must be shown once a line, without escapes, at most five."""
    rows = [job(1, reports=tuple(f"report {n}\x1b[31m" for n in range(8)))]

    lines = status.report_lines(rows)

    assert lines[0] == "quickstart-0001: report 0"
    assert lines[-1] == "… and 3 more reports; --json shows all"


def job_seen(state: str, reason: str, *, live: bool = True) -> WatcherJobSeen:
    """A watcher job as it was seen ten seconds before."""
    return WatcherJobSeen(
        token="t", task="17_0", state=state, reason=reason, live=live, seen_at=90.0
    )


@pytest.mark.parametrize(
    ("watcher", "open_jobs", "words"),
    [
        (
            Watcher(alive=True, host="h1", pid=7, last_tick=95.0),
            2,
            "alive (on h1, pid 7), last tick 5 s ago",
        ),
        (Watcher(alive=False, last_tick=40.0), 2, "2 jobs need one. Start it: orch watch"),
        (Watcher(alive=False), 1, "1 job needs one. Start it: orch watch"),
        (Watcher(alive=False), 0, "none is needed"),
        (
            Watcher(alive=False, last_tick=40.0, job=job_seen("pending", "Priority")),
            2,
            "watcher: job 17_0 is pending (Priority), seen 10 s ago",
        ),
        (Watcher(alive=False, job=job_seen("running", "None")), 2, "job 17_0 is running, seen"),
        (Watcher(alive=False, job=job_seen("completed", "", live=False)), 2, "2 jobs need one"),
        (Watcher(alive=False, job=job_seen("pending", "Priority")), 0, "none is needed"),
        (Watcher(alive=True, host="h", pid=1, job=job_seen("pending", "")), 1, "alive (on h"),
    ],
)
def test_the_watcher_line_says_who_and_how_to_start_one(
    watcher: Watcher, open_jobs: int, words: str
) -> None:
    """With open jobs and no watcher the reader must learn the command; else who it is."""
    line, _ = status.watcher_line(watcher, open_jobs=open_jobs, now=100.0)

    assert words in line


def test_tasks_that_have_yet_to_leave_are_said() -> None:
    """A job that was released waits for them: `none is needed` would be wrong."""
    nobody = Watcher(alive=False)

    line, _ = status.watcher_line(nobody, open_jobs=0, now=100.0, leaving=True)
    assert "tasks are still leaving" in line
    line, _ = status.watcher_line(nobody, open_jobs=0, now=100.0)
    assert "none is needed" in line
