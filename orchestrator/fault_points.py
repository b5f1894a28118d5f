"""The fault points of this package: where a crash would matter, and what it would mean."""

from __future__ import annotations

FAULT_POINTS: dict[str, str] = {
    "submit.spec_written": "a job's spec.json exists, nobody has asked for the job",
    "submit.matrix_written": "specs and matrix record exist, nobody has asked for them",
    "request.posted": "the wish is durable, nobody has read it",
    "ingest.before_commit": "a wish is read, nothing of it is committed",
    "ingest.committed": "the wish is carried out in the store, its file is still there",
    "settle.found": "an unsettled submission was searched for, the answer is not recorded",
    "settle.surplus_cancelled": "surplus copies are cancelled, the adopted one is not recorded",
    "settle.committed": "the outcome of an unsettled submission is recorded",
    "handover.tasks_written": "tasks.json exists, no intent is committed",
    "handover.intent_committed": "the intent is committed, the scheduler was not asked",
    "handover.submitted": "the scheduler has answered, its id is not recorded",
    "handover.settled": "the scheduler's answer is recorded",
    "tick.observed": "the scheduler was asked, nothing is decided",
    "apply.result_rejected": "a file that is no result was put aside, nothing is recorded",
    "apply.before_commit": "decisions are written, not committed",
    "apply.committed": "decisions are committed, their effects are not carried out",
    "stop.control_written": "control.json is there, the notice was not given",
    "stop.notified": "the notice was given, that is not recorded",
    "stop.killed": "the ranks were killed, that is not recorded",
    "cancel.scheduler_asked": "the scheduler was asked to cancel, that is not recorded",
    "tick.done": "a tick is over",
    "local.queued": "the local queue has the submission, the caller does not know",
    "local.cancel_asked": "a local task is asked to end, the caller does not know",
    "local.start_recorded": "a local task's start is recorded, its launcher does not exist",
    "local.spawned": "a local task's launcher exists, nothing else is known of it",
    "local.end_recorded": "a local task's end is recorded, the answer was not given",
}
