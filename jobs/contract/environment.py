"""Names of the environment variables that orchestrator and worker agree on.

Values travel in files (tasks.json, spec.json); the environment carries only what a
process must know before it can read a file.
"""

from __future__ import annotations

STATE_HOME = "ORCH_HOME"  # state directory; default: .orch beside where the user works
SITE_FILE = "ORCH_SITE"  # path of site.yaml
FOREIGN_STATE = "ORCH_FOREIGN_STATE"  # "accept": a state directory of another user is trusted
HOST_LOCKS = "ORCH_HOST_LOCKS"  # "accept": one host writes, locks need not reach others
FAULT = "ORCH_FAULT"  # named fault points, e.g. "commit.after_rename:kill@2"
TASK_INDEX = "ORCH_TASK_INDEX"  # index into tasks.json (local; Slurm gives SLURM_ARRAY_TASK_ID)
LAUNCH_ID = "ORCH_LAUNCH_ID"  # one try of one task: all its ranks share it (local)
LOCAL_CELL = "ORCH_LOCAL_CELL"  # token/index of a packed task, in all its processes (local)
RANK = "ORCH_RANK"  # global rank (local; Slurm gives SLURM_PROCID)
WORLD_SIZE = "ORCH_WORLD_SIZE"  # number of ranks (local; Slurm gives SLURM_NTASKS)
RANK_TIMEOUT = "ORCH_RANK_TIMEOUT_SECONDS"  # a dead or hung rank ends the attempt within this

# What a command job finds in its environment (docs/command-jobs.md); RANK and WORLD_SIZE too.
JOB_ID = "ORCH_JOB_ID"
JOB_NAME = "ORCH_JOB_NAME"
JOB_DIR = "ORCH_JOB_DIR"
ATTEMPT_DIR = "ORCH_ATTEMPT_DIR"
EPOCH = "ORCH_EPOCH"  # number of this attempt, 1, 2, 3 …
CODE_DIR = "ORCH_CODE_DIR"  # the snapshot of `command.code`
CHECKPOINT_DIR = "ORCH_CHECKPOINT_DIR"  # what lies here at exit 75 is kept
RESUME_DIR = "ORCH_RESUME_DIR"  # what an earlier attempt kept; unset when there is none
RESUME_STEP = "ORCH_RESUME_STEP"
PARAMS = "ORCH_PARAMS"  # JSON file {params, inputs, seed}
SEED = "ORCH_SEED"
GRACE = "ORCH_GRACE"  # seconds between SIGTERM and SIGKILL
LOCAL_RANK = "ORCH_LOCAL_RANK"
API_DIR = "ORCH_API_DIR"  # where orch_job.py talks to the rank's runner
RUNNER_PID = "ORCH_RUNNER_PID"
