-- What the control plane knows. One writer, under the lease; everything here can be rebuilt
-- from the job directories except the events.

CREATE TABLE lease (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL DEFAULT 0  -- grows with each holder; fences a paused one
) STRICT;

INSERT INTO lease (one) VALUES (1);

CREATE TABLE matrices (
    digest       TEXT PRIMARY KEY,
    name         TEXT    NOT NULL,
    path         TEXT    NOT NULL,
    cells        INTEGER NOT NULL,
    submitted_at REAL    NOT NULL
) STRICT;

CREATE INDEX matrices_by_name ON matrices (name);

CREATE TABLE jobs (
    id             TEXT    PRIMARY KEY CHECK (length(id) = 16 AND id NOT GLOB '*[^0-9a-f]*'),
    name           TEXT    NOT NULL,
    spec           TEXT    NOT NULL,        -- spec.json, verbatim
    state          TEXT    NOT NULL CHECK (state IN ('NEW', 'SUBMITTED', 'QUEUED', 'RUNNING',
                       'RETRYING', 'HELD', 'COMPLETED', 'FAILED', 'CANCELLED')),
    state_since    REAL    NOT NULL,
    reason         TEXT    NOT NULL DEFAULT '',
    due_at         REAL    NOT NULL DEFAULT 0,  -- not handed over before this (wall clock)
    overrides      TEXT    NOT NULL DEFAULT '{}',
    total_steps    INTEGER NOT NULL,
    epoch          INTEGER,
    sequence       INTEGER NOT NULL DEFAULT -1, -- of the last heartbeat
    heartbeat_at   REAL,                        -- our clock, when `sequence` last grew
    step           INTEGER,
    committed_step INTEGER,
    phase          TEXT,
    loss           REAL,
    reports        TEXT    NOT NULL DEFAULT '[]',
    attempts       INTEGER NOT NULL DEFAULT 0,
    preemptions    INTEGER NOT NULL DEFAULT 0,
    lost_steps     INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_by_name ON jobs (name);

CREATE TABLE matrix_jobs (
    matrix   TEXT    NOT NULL REFERENCES matrices (digest),
    job      TEXT    NOT NULL REFERENCES jobs (id),
    position INTEGER NOT NULL,
    PRIMARY KEY (matrix, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX matrix_jobs_by_job ON matrix_jobs (job);

CREATE TABLE submissions (
    token        TEXT PRIMARY KEY CHECK (length(token) >= 16),
    scheduler    TEXT NOT NULL,
    -- intent: committed before the call. uncertain: the call's outcome is not known.
    -- accepted: has an id. refused, lost: has none and never will.
    state        TEXT NOT NULL CHECK (state IN ('intent', 'uncertain', 'accepted', 'refused',
                     'lost')),
    scheduler_id TEXT,
    reason       TEXT NOT NULL DEFAULT '',
    created_at   REAL NOT NULL,
    unseen       INTEGER NOT NULL DEFAULT 0,    -- complete searches that did not find it
    CHECK ((state = 'accepted') = (scheduler_id IS NOT NULL))
) STRICT;

CREATE INDEX submissions_unsettled ON submissions (state) WHERE state IN ('intent', 'uncertain');

CREATE TABLE tasks (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    token        TEXT    NOT NULL REFERENCES submissions (token),
    idx          INTEGER NOT NULL CHECK (idx >= 0),
    job          TEXT    NOT NULL REFERENCES jobs (id),
    live         INTEGER NOT NULL DEFAULT 1 CHECK (live IN (0, 1)),
    seen         TEXT,                          -- the scheduler's last word
    seen_reason  TEXT    NOT NULL DEFAULT '',
    shown_id     TEXT,                          -- how people name the task to the scheduler
    nodes        TEXT    NOT NULL DEFAULT '',
    restarts     INTEGER NOT NULL DEFAULT 0,
    absent_count INTEGER NOT NULL DEFAULT 0,
    absent_since REAL,
    running_since REAL,
    UNIQUE (token, idx)
) STRICT;

-- P2, the scheduler's half: at most one live task per job.
CREATE UNIQUE INDEX one_live_task_per_job ON tasks (job) WHERE live = 1;
CREATE INDEX tasks_by_job ON tasks (job);

-- One row per ended try: an attempt that claimed an epoch, or a task that never did.
CREATE TABLE ends (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    job            TEXT    NOT NULL REFERENCES jobs (id),
    epoch          INTEGER,
    token          TEXT    NOT NULL,
    idx            INTEGER NOT NULL,
    class          TEXT    NOT NULL,
    cause          TEXT    NOT NULL,
    last_step      INTEGER,
    committed_step INTEGER,
    at             REAL    NOT NULL,
    UNIQUE (job, epoch)
) STRICT;

-- Asked of an attempt: stop (rehearsal, a person's preemption, cancel) or be killed (stalled).
CREATE TABLE stops (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    job           TEXT    NOT NULL REFERENCES jobs (id),
    epoch         INTEGER,                       -- NULL: whatever attempt runs
    cause         TEXT    NOT NULL CHECK (cause IN ('rehearsal', 'preemption', 'cancel',
                      'stalled')),
    grace_seconds REAL    NOT NULL,
    requested_at  REAL    NOT NULL,
    notified_at   REAL,
    killed_at     REAL,
    done_at       REAL
) STRICT;

CREATE UNIQUE INDEX one_open_stop_per_job ON stops (job) WHERE done_at IS NULL;

CREATE TABLE results (
    job    TEXT PRIMARY KEY REFERENCES jobs (id),
    record TEXT NOT NULL
) STRICT;

CREATE TABLE requests (
    name TEXT PRIMARY KEY,
    at   REAL NOT NULL
) STRICT;

CREATE TABLE events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       REAL NOT NULL,
    lease    INTEGER NOT NULL,
    job      TEXT,
    token    TEXT,
    kind     TEXT NOT NULL,
    cause    TEXT NOT NULL,
    decision TEXT NOT NULL
) STRICT;

CREATE INDEX events_by_job ON events (job);

CREATE TRIGGER events_are_never_edited BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are append-only');
END;

CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are append-only');
END;
