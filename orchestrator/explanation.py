"""Why a job is where it is, in plain words. Pure: facts in, sentences out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.states import JobState
from orchestrator.observation import Seen
from orchestrator.rows import JobRow, Watcher
from orchestrator.slurm_reasons import explain_reason
from orchestrator.timeline import AttemptRow
from orchestrator.views.text import ago, clean, count, duration, short_id

SILENT_SECONDS = 60.0
_ATTEMPTS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSeen:
    """The job's newest task as the store knows it."""

    live: bool
    scheduler: str
    submission: str  # intent, uncertain, accepted, refused, lost
    submission_reason: str
    seen: str | None  # the scheduler's last word
    seen_reason: str
    absent_count: int
    submitted_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCircumstances:
    """All that an explanation may depend on."""

    row: JobRow
    now: float
    due_at: float
    task: TaskSeen | None
    attempts: Sequence[AttemptRow]
    watcher: Watcher
    seen: Sequence[Seen]  # when each scheduler was last looked at
    again_wanted: str | None = None
    held_by_person: bool = False


@dataclass(frozen=True, slots=True)
class NextAction:
    """A command, or a thing to do, and what for."""

    do: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One line of answer, what it rests on, and what a person can do."""

    answer: str
    because: tuple[str, ...] = ()
    next: tuple[NextAction, ...] = ()


def explain(facts: JobCircumstances) -> Explanation:
    """Return why the job waits, runs, was restarted, or stopped."""
    state = facts.row.state
    wanted = facts.again_wanted is not None and state is not JobState.COMPLETED
    say = _wanted_again if wanted else _BY_STATE[state]
    answer, because, actions = say(facts)
    return Explanation(
        answer=answer,
        because=(*because, *_past(facts), *_surroundings(facts)),
        next=(*actions, *_help(facts)),
    )


_Said = tuple[str, list[str], list[NextAction]]


def _new(facts: JobCircumstances) -> _Said:
    reason = clean(facts.row.reason)
    if reason.startswith("waits: "):
        return f"it has not been handed over: it {reason.replace(': ', ' because it ', 1)}", [], []
    if " refused: " in reason:
        return f"it waits: {reason}", ["it is handed over again by itself"], []
    if reason and reason != "new":
        return f"it is about to be handed over: {reason}", [], []
    return "it is new and has not been handed to a scheduler yet", [], []


def _retrying(facts: JobCircumstances) -> _Said:
    reason = clean(facts.row.reason)
    left = facts.due_at - facts.now
    if left > 1:
        answer = f"it is to run again, and waits {duration(left)} more before that"
        return answer, [f"the last attempt ended so: {reason}"], []
    return "it is to run again and waits to be handed over", [reason] if reason else [], []


def _submitted(facts: JobCircumstances) -> _Said:
    task = facts.task
    if task is not None and task.submission == "uncertain":
        return (
            f"nobody knows yet whether {task.scheduler} has it",
            [
                (
                    f"{task.scheduler} did not answer its submission:"
                    f" {clean(task.submission_reason) or 'no words'}"
                ),
                (
                    "its token is searched for; it is handed over again only when complete searches"
                    " have not found it"
                ),
            ],
            [],
        )
    return "it is being handed to the scheduler", [clean(facts.row.reason)], []


def _queued(facts: JobCircumstances) -> _Said:
    task, row = facts.task, facts.row
    if task is None or task.seen is None:
        return "the scheduler has it and has not been looked at since", [], []
    waited = ago(facts.now - (row.state_since or facts.now)).removesuffix(" ago")
    answer = f"it has waited in the queue of {task.scheduler} for {waited}"
    if task.absent_count:
        return (
            f"{task.scheduler} no longer lists it",
            [(f"{count(task.absent_count, 'complete listing')} did not have it; that is not enough"
             " to call it lost")],
            [],
        )  # fmt: skip
    word = clean(task.seen_reason)
    meaning = explain_reason(word)
    if meaning is None:
        return answer, [f"{task.scheduler} says: {word}"] if word else [], []
    known = {"{id}": clean(row.scheduler_id or ""), "{job}": short_id(row.id)}
    fix = meaning.fix
    for mark, value in known.items():
        fix = fix.replace(mark, value)
    actions = [NextAction(fix, "what may help")] if fix else []
    return f"{answer}: {meaning.says}", [f"{task.scheduler}'s word for it: {word}"], actions


def _running(facts: JobCircumstances) -> _Said:
    row = facts.row
    where = f", attempt {row.epoch}" if row.epoch else ""
    because = [f"{_place(row)}phase {clean(row.phase or 'starting')}"]
    silent = row.heartbeat_age_seconds
    if silent is not None and silent > SILENT_SECONDS:
        because.append(
            f"it has given no sign of life for {duration(silent)}; past retry.stalled_minutes it"
            " is ended and run again"
        )
    answer = f"it runs{where}: {clean(row.reason)}" if row.reason else f"it runs{where}"
    return answer, because, [NextAction(f"orch logs {short_id(row.id)} -f", "follow it")]


def _place(row: JobRow) -> str:
    """Return the step in words; a command that never says any has none."""
    if row.total_steps:
        return f"step {row.step or 0} of {row.total_steps}, "
    return f"step {row.step}, " if row.step else ""


def _wanted_again(facts: JobCircumstances) -> _Said:
    because = ["its last attempt is still leaving"]
    return f"it is to go on ({facts.again_wanted}) when its last attempt has left", because, []


def _held(facts: JobCircumstances) -> _Said:
    job = short_id(facts.row.id)
    live = facts.task is not None and facts.task.live
    because = ["its last attempt is still leaving"] if live else []
    release = NextAction(f"orch release {job}", "let it go on")
    if facts.held_by_person:
        return "a person holds it", because, [release]
    return f"it is held: {clean(facts.row.reason)}", because, [release]


def _completed(facts: JobCircumstances) -> _Said:
    total = count(facts.row.attempts, "attempt")
    action = NextAction(f"orch results {short_id(facts.row.id)}", "see the result")
    return f"it is done: a valid result exists, after {total}", [], [action]


_LET_PASS = re.compile(r"orch retry [0-9a-f]{8}(?: --waive [a-z_]+)+")


def _failed(facts: JobCircumstances) -> _Said:
    job = short_id(facts.row.id)
    waiver = _LET_PASS.search(clean(facts.row.reason))
    if waiver is not None:  # its attempt found other circumstances than its checkpoint's
        return (
            f"it failed: {clean(facts.row.reason)}",
            ["the checkpoint is whole and stays; nothing was changed"],
            [
                NextAction(f"orch retry {job}", "run it again once what differs is put right"),
                NextAction(waiver[0], "let it differ; the result then says exact: false and why"),
            ],
        )
    return (
        f"it failed: {clean(facts.row.reason)}",
        [],
        [
            NextAction(f"orch logs {job}", "read what it said"),
            NextAction("orch failures", "which other jobs failed with the same"),
            NextAction(f"orch retry {job}", "run it again once the cause is gone"),
        ],
    )


def _cancelled(facts: JobCircumstances) -> _Said:
    live = facts.task is not None and facts.task.live
    because = ["its last attempt is still leaving"] if live else []
    action = NextAction(f"orch retry {short_id(facts.row.id)}", "run it after all")
    return f"it was ended: {clean(facts.row.reason)}", because, [action]


_BY_STATE = {
    JobState.NEW: _new,
    JobState.RETRYING: _retrying,
    JobState.SUBMITTED: _submitted,
    JobState.QUEUED: _queued,
    JobState.RUNNING: _running,
    JobState.HELD: _held,
    JobState.COMPLETED: _completed,
    JobState.FAILED: _failed,
    JobState.CANCELLED: _cancelled,
}


def _past(facts: JobCircumstances) -> Iterator[str]:
    """Yield why it was restarted, the newest attempts last."""
    ended = [a for a in facts.attempts if a.ended_at is not None]
    if len(ended) > _ATTEMPTS_SHOWN:
        yield f"{count(len(ended) - _ATTEMPTS_SHOWN, 'earlier attempt')}: see orch history"
    for attempt in ended[-_ATTEMPTS_SHOWN:]:
        which = "a launch" if attempt.epoch is None else f"attempt {attempt.epoch}"
        lost = f", {count(attempt.steps_lost, 'step')} lost" if attempt.steps_lost else ""
        when = "" if attempt.ended_at is None else f" {ago(facts.now - attempt.ended_at)}"
        yield f"{which} ended{when} ({attempt.end_class}{lost}): {clean(attempt.cause)}"


def _surroundings(facts: JobCircumstances) -> Iterator[str]:
    """Yield what keeps open jobs from moving, besides themselves."""
    if not _is_open(facts):
        return
    for seen in facts.seen:
        if seen.unreachable is not None and (
            facts.task is None or facts.task.scheduler == seen.scheduler
        ):
            yield f"{seen.scheduler} cannot be asked: {clean(seen.unreachable)}"
    if not facts.watcher.alive:
        last = facts.watcher.last_tick
        when = "never" if last is None else f"{ago(facts.now - last)}"
        yield f"no watcher is alive; the last look was {when}"


def _help(facts: JobCircumstances) -> Iterator[NextAction]:
    if _is_open(facts) and not facts.watcher.alive:
        yield NextAction("orch watch", "keep jobs moving")


def _is_open(facts: JobCircumstances) -> bool:
    over = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.HELD)
    return facts.row.state not in over
