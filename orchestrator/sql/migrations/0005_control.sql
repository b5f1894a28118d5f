-- What a person asked of a job: to hold it, to let it go on, to begin its budgets anew.
ALTER TABLE jobs ADD COLUMN held_by_person INTEGER NOT NULL DEFAULT 0;
-- Asked for while the job's last task still lives; carried out when that is gone.
ALTER TABLE jobs ADD COLUMN again_wanted TEXT CHECK (again_wanted IN ('release', 'retry'));
-- `orch retry`: attempts up to this epoch, and ends up to this id, count against no budget.
ALTER TABLE jobs ADD COLUMN budget_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN budget_end INTEGER NOT NULL DEFAULT 0;
-- `orch release` of a task that the scheduler itself holds.
ALTER TABLE tasks ADD COLUMN release_wanted INTEGER NOT NULL DEFAULT 0;

-- A further cause: hold. SQLite changes a CHECK only by building the table anew.
CREATE TABLE stops_new (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    job           TEXT    NOT NULL REFERENCES jobs (id),
    epoch         INTEGER,                       -- NULL: whatever attempt runs
    cause         TEXT    NOT NULL CHECK (cause IN ('rehearsal', 'preemption', 'cancel',
                      'stalled', 'hold')),
    grace_seconds REAL    NOT NULL,
    requested_at  REAL    NOT NULL,
    notified_at   REAL,
    killed_at     REAL,
    done_at       REAL
) STRICT;

INSERT INTO stops_new SELECT id, job, epoch, cause, grace_seconds, requested_at, notified_at,
    killed_at, done_at FROM stops;

DROP TABLE stops;

ALTER TABLE stops_new RENAME TO stops;

CREATE UNIQUE INDEX one_open_stop_per_job ON stops (job) WHERE done_at IS NULL;
