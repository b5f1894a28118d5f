"""The fault points of this package; those of `durable` and `checkpoints` are passed as well."""

from __future__ import annotations

FAULT_POINTS: dict[str, str] = {
    "claim.before_publish": "rank 0 has chosen an epoch number, it is not claimed",
    "claim.after_publish": "the epoch is claimed, its attempt directory does not exist",
    "main.before_imports": "the attempt is claimed and speaks, torch is not imported",
    "build.before_rendezvous": "data and model are there, the ranks have not met",
    "scratch.before_link": "the place on scratch exists, the job directory does not point to it",
    "resume.loaded": "this rank has read and checked its part of a checkpoint",
    "resume.applied": "the engine holds the checkpoint's state, the standing does not",
    "loop.after_step": "an optimizer step is done; nothing of it is on disk",
    "evaluate.before_dev_round": "the next round of the dev evaluation is about to be scored",
    "evaluate.before_test_round": "the next round of the final test is about to be scored",
    "metrics.before_flush": "rows of the curve are in memory only",
    "save.before_stage": "this rank's state is encoded, nothing is staged",
    "save.after_stage": "this rank's shard is staged, rank 0 does not know it",
    "snapshot.captured": "a rank has copied its state, nothing is written",
    "snapshot.restore_checked": "a rank has checked a saved state, the engine is still fresh",
    "snapshot.before_apply": "all ranks agreed to restore, the engine is still fresh",
    "snapshot.half_applied": "tensors are in place, counters, masters' copies and RNG are not",
    "finish.before_fence": "predictions and curve are published, the result is not",
    "finish.before_result": "no higher epoch existed a moment ago, the result is not published",
    "finish.after_result": "the result is published, old checkpoints are not removed",
    "command.before_start": "everything is ready, the command's process does not exist",
    "command.before_result": "no higher epoch existed a moment ago, the result is not published",
    "command.after_result": "a command's result is published, its process may still run",
    "saves.hashed": "what a command saved is hashed and on disk, it has no manifest",
    "exit.before_record": "the rank knows how it ended, nobody else does",
    "launch.after_record": "the launcher says who it is, no rank exists",
    "launch.after_spawn": "some ranks of the launch exist",
    "launch.before_end": "all ranks have ended, their exit code is not on record",
}
