-- name: job_add
INSERT INTO jobs (id, name, spec, state, state_since, reason, total_steps, home, priority,
    seed_block)
VALUES (:id, :name, :spec, 'NEW', :at, 'new', :total_steps,
    coalesce((SELECT name FROM matrices WHERE digest = :matrix), ''), :priority, :seed_block)
ON CONFLICT (id) DO NOTHING;

-- name: job_ids
SELECT id FROM jobs;

-- name: job_names
SELECT DISTINCT name FROM jobs;

-- name: job_spec
SELECT spec FROM jobs WHERE id = :id;

-- name: job_state
SELECT state FROM jobs WHERE id = :id;

-- name: job_move
UPDATE jobs SET state = :state, reason = :reason,
    state_since = CASE WHEN state = :state THEN state_since ELSE :at END
WHERE id = :id AND state = :old;

-- name: job_reason
UPDATE jobs SET reason = :reason WHERE id = :id;

-- name: job_explain
UPDATE jobs SET reason = :reason WHERE id = :id AND reason <> :reason;

-- name: job_again
UPDATE jobs SET due_at = :due_at, overrides = :overrides WHERE id = :id;

-- name: job_overrides
SELECT overrides FROM jobs WHERE id = :id;

-- name: job_overrides_set
UPDATE jobs SET overrides = :overrides WHERE id = :id;

-- name: job_started_again
-- `anew`: what has ended so far counts against no budget.
UPDATE jobs SET due_at = 0, again_wanted = NULL, held_by_person = 0,
    budget_epoch = CASE WHEN :anew THEN attempts ELSE budget_epoch END,
    budget_end = CASE WHEN :anew THEN (SELECT coalesce(max(e.id), 0) FROM ends e
                                       WHERE e.job = jobs.id) ELSE budget_end END
WHERE id = :id;

-- name: job_wish
SELECT again_wanted, held_by_person, budget_epoch, due_at FROM jobs WHERE id = :id;

-- name: jobs_going_on
SELECT id FROM jobs WHERE again_wanted IS NOT NULL AND state <> 'COMPLETED';

-- name: job_wish_set
UPDATE jobs SET again_wanted = :again_wanted, held_by_person = :held_by_person WHERE id = :id;

-- name: job_progress
-- An attempt that has not spoken yet leaves the last known position standing.
UPDATE jobs SET epoch = :epoch, sequence = :sequence, heartbeat_at = :heartbeat_at,
    -- A command says itself how many steps it has; a training's spec does.
    total_steps = CASE WHEN total_steps = 0 THEN coalesce(:total_steps, 0) ELSE total_steps END,
    step = coalesce(:step, step), committed_step = coalesce(:committed_step, committed_step),
    phase = :phase, loss = coalesce(:loss, loss), reports = :reports, attempts = :attempts
WHERE id = :id;

-- name: job_counts
UPDATE jobs SET
    preemptions = (SELECT count(*) FROM ends WHERE ends.job = jobs.id AND class = 'preempted'),
    lost_steps = (SELECT coalesce(sum(max(0, last_step - coalesce(committed_step, 0))), 0)
                  FROM ends WHERE ends.job = jobs.id)
WHERE id = :id;

-- name: jobs_open_count
-- A job that waits for one that nobody moves is as still as a held one.
SELECT count(*) - (SELECT count(*) FROM stuck_jobs) FROM jobs
WHERE state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'HELD');

-- name: busy
SELECT (SELECT count(*) FROM jobs WHERE state NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'HELD'))
        > (SELECT count(*) FROM stuck_jobs)
    OR EXISTS (SELECT 1 FROM tasks WHERE live = 1)
    OR EXISTS (SELECT 1 FROM submissions WHERE state IN ('intent', 'uncertain'));

-- name: job_rows
SELECT j.id, j.name, j.state, j.state_since, j.reason, j.step, j.total_steps, j.epoch, j.attempts,
    j.preemptions, j.phase, j.loss, j.committed_step, j.lost_steps, j.reports, j.heartbeat_at,
    t.shown_id, t.idx / s.pack, s.scheduler, s.scheduler_id, j.home
FROM jobs j
LEFT JOIN tasks t ON t.id = (SELECT id FROM tasks WHERE tasks.job = j.id ORDER BY id DESC LIMIT 1)
LEFT JOIN submissions s ON s.token = t.token
ORDER BY j.rowid;

-- name: job_rows_of
-- As job_rows, of the jobs in a JSON list of ids.
SELECT j.id, j.name, j.state, j.state_since, j.reason, j.step, j.total_steps, j.epoch, j.attempts,
    j.preemptions, j.phase, j.loss, j.committed_step, j.lost_steps, j.reports, j.heartbeat_at,
    t.shown_id, t.idx / s.pack, s.scheduler, s.scheduler_id, j.home
FROM jobs j
LEFT JOIN tasks t ON t.id = (SELECT id FROM tasks WHERE tasks.job = j.id ORDER BY id DESC LIMIT 1)
LEFT JOIN submissions s ON s.token = t.token
WHERE j.id IN (SELECT value FROM json_each(:ids))
ORDER BY j.rowid;

-- name: job_counts_by_state
-- Answered by the index jobs_by_state alone: the table has every spec in it.
SELECT state, count(*), sum(preemptions), sum(lost_steps) FROM jobs GROUP BY state;

-- name: first_jobs_of_state
SELECT id FROM jobs
WHERE rowid IN (SELECT rowid FROM jobs WHERE state = :state ORDER BY rowid LIMIT :limit);

-- name: jobs_with_reports
SELECT id FROM jobs WHERE reports <> '[]' ORDER BY rowid LIMIT :limit;

-- name: jobs_with_reports_count
SELECT count(*) FROM jobs WHERE reports <> '[]';

-- name: result_rows
SELECT j.id, j.name, j.state, j.attempts, j.preemptions, j.spec, r.record
FROM jobs j LEFT JOIN results r ON r.job = j.id
ORDER BY j.rowid;

-- name: matrices_of_jobs
SELECT mj.job, m.name FROM matrix_jobs mj JOIN matrices m ON m.digest = mj.matrix
ORDER BY m.rowid;

-- name: matrices_of
SELECT mj.job, m.name FROM matrix_jobs mj JOIN matrices m ON m.digest = mj.matrix
WHERE mj.job IN (SELECT value FROM json_each(:ids))
ORDER BY m.rowid;

-- name: jobs_of_matrix
SELECT DISTINCT job FROM matrix_jobs mj JOIN matrices m ON m.digest = mj.matrix
WHERE m.name = :name;

-- name: jobs_of_name
SELECT id FROM jobs WHERE name = :name;

-- name: jobs_of_cell
-- By what listings of one matrix show: the name without the matrix.
SELECT id, name FROM jobs WHERE instr(name, '/') > 0 AND substr(name, instr(name, '/') + 1) = :cell;

-- name: jobs_of_prefix
SELECT id FROM jobs WHERE id >= :prefix AND id < :prefix || 'g';

-- name: result_add
INSERT INTO results (job, record) VALUES (:job, :record) ON CONFLICT (job) DO NOTHING;

-- name: job_finished
UPDATE jobs SET step = :steps, committed_step = :steps, phase = 'finished' WHERE id = :id;

-- name: job_attempts
SELECT attempts FROM jobs WHERE id = :id;

-- name: job_live_task
SELECT 1 FROM tasks WHERE job = :id AND live = 1;
