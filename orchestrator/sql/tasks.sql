-- name: submission_add
INSERT INTO submissions (token, scheduler, state, created_at, pack)
VALUES (:token, :scheduler, 'intent', :at, :pack);

-- name: submission_settle
UPDATE submissions SET state = :state, scheduler_id = :scheduler_id, reason = :reason
WHERE token = :token AND state IN ('intent', 'uncertain');

-- name: submission_unseen
UPDATE submissions SET unseen = :unseen WHERE token = :token;

-- name: submissions_unsettled
SELECT token, scheduler, state, created_at, unseen FROM submissions
WHERE state IN ('intent', 'uncertain') ORDER BY created_at;

-- name: options_check
INSERT INTO checked_options (digest, at) VALUES (:digest, :at) ON CONFLICT (digest) DO NOTHING;

-- name: options_checked
SELECT 1 FROM checked_options WHERE digest = :digest;

-- name: live_count
-- Allocations: what a scheduler counts.
SELECT count(*) FROM (
    SELECT DISTINCT t.token, t.idx / s.pack FROM tasks t JOIN submissions s ON s.token = t.token
    WHERE t.live = 1 AND s.scheduler = :scheduler
);

-- name: task_add
INSERT INTO tasks (token, idx, job) VALUES (:token, :idx, :job);

-- name: tasks_of
SELECT t.id, t.idx, t.job, t.live, j.state, j.attempts, s.pack
FROM tasks t JOIN jobs j ON j.id = t.job JOIN submissions s ON s.token = t.token
WHERE t.token = :token ORDER BY t.idx;

-- name: task_seen
UPDATE tasks SET seen = :seen, seen_reason = :seen_reason, shown_id = :shown_id, nodes = :nodes,
    restarts = :restarts, absent_count = :absent_count, absent_since = :absent_since,
    running_since = :running_since,
    release_wanted = CASE WHEN :seen = 'held' THEN release_wanted ELSE 0 END
WHERE id = :id;

-- name: tasks_held
SELECT job FROM tasks WHERE live = 1 AND seen = 'held';

-- name: task_release
-- Only of a task that the scheduler holds.
UPDATE tasks SET release_wanted = 1 WHERE job = :job AND live = 1 AND seen = 'held';

-- name: task_release_done
UPDATE tasks SET release_wanted = 0 WHERE id = :id;

-- name: task_close
UPDATE tasks SET live = 0 WHERE id = :id;

-- name: tasks_close_of
UPDATE tasks SET live = 0 WHERE token = :token;

-- name: live_tasks
SELECT t.id AS task, t.token, t.idx, t.seen, t.seen_reason, t.shown_id, t.nodes, t.restarts,
    t.absent_count, t.absent_since, t.running_since, t.release_wanted, s.scheduler, s.scheduler_id,
    s.pack, j.id, j.name, j.state, j.reason, j.epoch, j.sequence, j.heartbeat_at,
    j.committed_step, j.attempts, j.overrides, j.again_wanted,
    (SELECT max(epoch) FROM ends WHERE ends.job = j.id) AS ended_epoch
FROM tasks t
JOIN submissions s ON s.token = t.token AND s.state = 'accepted'
JOIN jobs j ON j.id = t.job
WHERE t.live = 1
ORDER BY t.id;

-- name: stopped_jobs
-- Their last attempt may still publish: on a node that only looked dead, or just before a cancel.
SELECT id FROM jobs WHERE state IN ('FAILED', 'CANCELLED', 'HELD') AND attempts > 0
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.job = jobs.id AND live = 1);

-- name: end_add
INSERT INTO ends (job, epoch, token, idx, class, cause, last_step, committed_step, at, blame, nodes,
    resumed_from, error_type, error_message, error_digest, shown_id, started_at, left_at, spent)
VALUES (:job, :epoch, :token, :idx, :class, :cause, :last_step, :committed_step, :at, :blame, :nodes,
    :resumed_from, :error_type, :error_message, :error_digest, :shown_id, :started_at, :left_at,
    :spent)
ON CONFLICT (job, epoch) DO NOTHING;

-- name: ends_of
-- That count against budgets: those since the last `orch retry`.
SELECT epoch, class, cause, last_step, committed_step, at, blame, nodes, resumed_from, error_type,
    error_message, error_digest FROM ends
WHERE job = :job AND id > (SELECT budget_end FROM jobs WHERE jobs.id = :job) ORDER BY id;

-- name: attempts_of
-- `queued_at`: when its submission was handed over, or its task requeued after the one before.
SELECT e.id, e.epoch, e.class, e.cause, e.at, e.nodes, e.resumed_from, e.last_step,
    e.committed_step, e.error_type, e.error_message, e.error_digest, e.shown_id, e.started_at,
    e.left_at, e.spent, e.token, s.scheduler, s.created_at AS queued_at
FROM ends e LEFT JOIN submissions s ON s.token = e.token
WHERE e.job = :job ORDER BY e.id;

-- name: attempts_of_jobs
-- As attempts_of, of the jobs in a JSON list of ids; of all where it is null.
SELECT e.job, e.id, e.epoch, e.class, e.cause, e.at, e.nodes, e.resumed_from, e.last_step,
    e.committed_step, e.error_type, e.error_message, e.error_digest, e.shown_id, e.started_at,
    e.left_at, e.spent, e.token, s.scheduler, s.created_at AS queued_at
FROM ends e LEFT JOIN submissions s ON s.token = e.token
WHERE :ids IS NULL OR e.job IN (SELECT value FROM json_each(:ids)) ORDER BY e.job, e.id;

-- name: any_end
SELECT id FROM ends LIMIT 1;

-- name: ends_and_states
-- The journal's ends and changes of state, of jobs in which something followed an end: another
-- one, or an attempt that runs (`running`, a JSON list).
SELECT v.job, v.kind, v.decision FROM events v
WHERE v.kind IN ('end', 'state') AND v.job IN (
    SELECT e.job FROM ends e
    WHERE :ids IS NULL OR e.job IN (SELECT value FROM json_each(:ids))
    GROUP BY e.job HAVING count(*) > 1 OR e.job IN (SELECT value FROM json_each(:running))
)
ORDER BY v.job, v.id;

-- name: stop_add
INSERT INTO stops (job, epoch, cause, grace_seconds, requested_at)
VALUES (:job, :epoch, :cause, :grace_seconds, :at);

-- name: stops_open
SELECT id, job, epoch, cause, grace_seconds, requested_at, notified_at, killed_at FROM stops
WHERE done_at IS NULL;

-- name: stops_rehearsed
SELECT DISTINCT job FROM stops WHERE cause = 'rehearsal';

-- name: stop_notified
UPDATE stops SET notified_at = :at, epoch = :epoch WHERE id = :id;

-- name: stop_killed
UPDATE stops SET killed_at = :at WHERE id = :id;

-- name: stop_done
UPDATE stops SET done_at = :at WHERE id = :id;

-- name: stops_done_of
UPDATE stops SET done_at = :at WHERE job = :job AND done_at IS NULL;

-- name: event_add
INSERT INTO events (at, lease, job, token, kind, cause, decision)
VALUES (:at, :lease, :job, :token, :kind, :cause, :decision);

-- name: event_last
SELECT kind, decision FROM events WHERE job = :job ORDER BY id DESC LIMIT 1;

-- name: events_of
SELECT id, at, job, token, kind, cause, decision FROM events
WHERE job = :job ORDER BY id;

-- name: events_all
SELECT id, at, job, token, kind, cause, decision FROM events ORDER BY id;

-- name: task_of_job
-- The newest task of a job, with its submission.
SELECT t.token, t.live, t.seen, t.seen_reason, t.absent_count, t.nodes, t.running_since,
    s.scheduler, s.scheduler_id, s.state AS submission, s.reason AS submission_reason,
    s.created_at
FROM tasks t JOIN submissions s ON s.token = t.token WHERE t.job = :job ORDER BY t.id DESC LIMIT 1;

-- name: failed_rows
SELECT j.id, j.name, j.reason, e.epoch, e.class, e.error_type, e.error_message, e.error_digest
FROM jobs j LEFT JOIN ends e ON e.id = (SELECT max(id) FROM ends WHERE ends.job = j.id)
WHERE j.state = 'FAILED' ORDER BY j.rowid;
