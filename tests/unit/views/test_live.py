"""The live view: one line a change without a terminal, at most one screen with one."""

from __future__ import annotations

import io

from rich.console import Console

from jobs.states import JobState
from orchestrator.rows import JobRow, Watcher
from orchestrator.views.changes import change_lines
from orchestrator.views.live import ChangeLog, LiveView, frame, progress_view
from orchestrator.views.pace import Pace, pace_line
from tests.unit.views.made_up import job

S = JobState
NOBODY = Watcher(alive=False)


def lines(before: list[JobRow], after: list[JobRow]) -> list[str]:
    """Return the change lines without their time stamps."""
    known = {row.id: row for row in before}
    return [line.split(" ", 1)[1] for line in change_lines(known, after, now=0.0)]


def test_a_step_is_no_change_but_a_state_is() -> None:
    """A log must not grow with every step; a state, an attempt, a preemption is one line each."""
    before = [job(1), job(2)]
    after = [job(1, step=21), job(2, S.COMPLETED, step=60)]

    assert lines(before, after) == ["quickstart-0002 COMPLETED step 60/60"]


def test_a_preemption_and_the_next_attempt_are_said() -> None:
    """Both the preemption and the return must be visible in a CI log."""
    before = [job(1)]

    assert lines(before, [job(1, S.RETRYING, preemptions=1, reason="preempted")]) == [
        "quickstart-0001 preempted at step 20",
        "quickstart-0001 RETRYING step 20/60 (preempted)",
    ]
    assert lines(before, [job(1, epoch=2)]) == ["quickstart-0001 RUNNING attempt 2 step 20/60"]


def test_a_new_report_is_said_once() -> None:
    """A quarantined checkpoint appears when it is new, and not again."""
    first, second = [job(1)], [job(1, reports=("checkpoint quarantined",))]

    assert lines(first, second) == ["quickstart-0001 checkpoint quarantined"]
    assert lines(second, second) == []


def test_names_in_change_lines_are_harmless() -> None:
    """A reason with an escape sequence must not reach a CI log that a browser renders."""
    assert "\x1b" not in "".join(lines([job(1)], [job(1, S.FAILED, reason="\x1b[31mx")]))


def test_without_changes_there_is_a_sign_of_life_a_minute() -> None:
    """A silent log looks dead; one summary line a minute, no more."""
    now = [0.0]
    said: list[str] = []
    log = ChangeLog(said.append, wall=lambda: now[0])

    for _ in range(5):
        log.update([job(1)], NOBODY)
        now[0] += 31.0

    assert sum("jobs done" in line for line in said) == 2


def test_the_kind_of_console_chooses_the_view() -> None:
    """No animation may ever reach a pipe."""
    terminal = Console(file=io.StringIO(), force_terminal=True)

    assert isinstance(progress_view(None, say=print), ChangeLog)
    assert isinstance(progress_view(terminal, say=print), LiveView)


def drawn(rows: list[JobRow], *, width: int, height: int) -> list[str]:
    """Return the lines of one picture."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    console.print(frame(rows, NOBODY, pace=Pace(), width=width, height=height, now=0.0))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_picture_fits_the_screen_even_with_very_many_jobs() -> None:
    """At most the height and width of the terminal, and the most urgent jobs are in it."""
    rows = [job(n, S.QUEUED, reason="Priority " * 20) for n in range(1, 1000)]
    rows[700] = job(701, S.FAILED, reason="exception")

    picture = drawn(rows, width=80, height=24)

    assert len(picture) <= 24
    assert max(map(len, picture)) <= 80
    assert any("quickstart-0701" in line for line in picture)
    assert any("more" in line for line in picture)


def test_a_picture_shows_state_steps_attempts_preemptions_and_loss() -> None:
    """Everything that --wait promises must be in the row of a job."""
    picture = "\n".join(drawn([job(1, attempts=2, preemptions=1, loss=0.5)], width=120, height=24))

    for word in ("RUNNING", "20/60", "2 (1 preempted)", "0.5"):
        assert word in picture


def test_the_pace_needs_a_basis() -> None:
    """No estimate from one look or from no progress; then steps left over steps a second."""
    pace = Pace()
    pace.observe([job(1, step=0)], now=0.0)
    assert pace.remaining_seconds([job(1, step=0)]) is None

    pace.observe([job(1, step=20)], now=10.0)

    assert pace.remaining_seconds([job(1, step=20)]) == 20.0
    assert "about 20 s left" in pace_line([job(1, step=20)], pace)


def test_the_pace_forgets_what_is_older_than_a_minute() -> None:
    """After a long wait in the queue the estimate must follow the present speed."""
    pace = Pace()
    for now, step in ((0.0, 0), (100.0, 10), (110.0, 20)):
        pace.observe([job(1, step=step)], now=now)

    assert pace.remaining_seconds([job(1, step=20)]) == 40.0


def test_jobs_that_nobody_moves_are_said_once() -> None:
    """A log that only ever says "0 running" must name the command that helps, after a while."""
    now = [0.0]
    said: list[str] = []
    log = ChangeLog(said.append, wall=lambda: now[0])

    for _ in range(6):
        log.update([job(1, S.QUEUED)], NOBODY)
        now[0] += 10.0

    assert [line for line in said if "orch watch" in line] == [
        "watcher: none is alive; 1 job needs one. Start it: orch watch"
    ]
