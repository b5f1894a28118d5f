-- name: rebuild_lease
UPDATE lease SET epoch = :epoch, instance = :instance;

-- name: rebuild_event
INSERT INTO events (id, at, lease, job, token, kind, cause, decision)
VALUES (:id, :at, :lease, :job, :token, :kind, :cause, :decision);

-- name: rebuild_submission
INSERT INTO submissions (token, scheduler, state, scheduler_id, reason, created_at, pack)
VALUES (:token, :scheduler, :state, :scheduler_id, :reason, :at, :pack);

-- name: rebuild_task
INSERT INTO tasks (token, idx, job, live) VALUES (:token, :idx, :job, :live);

-- name: rebuild_counts
SELECT state, count(*) AS jobs FROM jobs GROUP BY state ORDER BY state;

-- name: rebuild_journal
SELECT id, at, lease, job, token, kind, cause, decision FROM events ORDER BY id;
