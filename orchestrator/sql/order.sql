-- name: homes_due
-- Jumps from name to name in the index; a plain DISTINCT would read all that wait.
WITH RECURSIVE names (home) AS (
    SELECT min(home) FROM jobs WHERE state IN ('NEW', 'RETRYING') AND unmet = 0
    UNION ALL
    SELECT (SELECT min(home) FROM jobs
            WHERE state IN ('NEW', 'RETRYING') AND unmet = 0 AND home > names.home)
    FROM names WHERE names.home IS NOT NULL
)
SELECT home FROM names WHERE home IS NOT NULL;

-- name: due_in_order
SELECT id, home, priority, begun, block_first, rowid AS position, state, overrides, attempts,
    budget_epoch
FROM jobs
WHERE state IN ('NEW', 'RETRYING') AND unmet = 0 AND home = :home AND due_at <= :now
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.job = jobs.id AND live = 1)
ORDER BY priority DESC, begun DESC, block_first, rowid
LIMIT :limit;

-- name: in_flight
SELECT j.home, count(*) AS tasks FROM tasks t JOIN jobs j ON j.id = t.job
WHERE t.live = 1 GROUP BY j.home;

-- name: matrix_limits
SELECT m.name, m.max_in_flight FROM matrices m
WHERE m.max_in_flight IS NOT NULL
    AND m.latest = (SELECT max(latest) FROM matrices o WHERE o.name = m.name);

-- name: full_rows
SELECT home, words FROM full;

-- name: full_clear
DELETE FROM full;

-- name: full_add
INSERT INTO full (home, words) VALUES (:home, :words);

-- name: job_priority
UPDATE jobs SET priority = :priority WHERE id = :id AND priority <> :priority;

-- name: jobs_of_versions
-- Of every record of a matrix, the newest and older ones.
SELECT DISTINCT j.id, j.name, j.state, m.name AS matrix FROM matrices m
JOIN matrix_jobs mj ON mj.matrix = m.digest JOIN jobs j ON j.id = mj.job
WHERE m.name = :name ORDER BY j.rowid;

-- name: jobs_of_current
SELECT mj.job FROM matrix_jobs mj
WHERE mj.matrix = (SELECT digest FROM matrices WHERE name = :name ORDER BY latest DESC LIMIT 1)
ORDER BY mj.position;

-- name: jobs_of_all_current
-- What the newest records of all matrices name.
SELECT m.name, mj.job FROM matrices m JOIN matrix_jobs mj ON mj.matrix = m.digest
WHERE m.latest = (SELECT max(latest) FROM matrices o WHERE o.name = m.name);

-- name: job_states
SELECT id, state, held_by_person FROM jobs;

-- name: finished_jobs
SELECT j.id, j.epoch FROM matrices m
JOIN matrix_jobs mj ON mj.matrix = m.digest JOIN jobs j ON j.id = mj.job
WHERE m.name = :name AND j.state = 'COMPLETED' AND j.epoch IS NOT NULL
GROUP BY j.id ORDER BY j.state_since DESC LIMIT :limit;

-- name: needs_of
SELECT id FROM needs WHERE matrix = :matrix;

-- name: needs_any
SELECT 1 FROM needs LIMIT 1;

-- name: need_add
INSERT INTO needs (matrix, name) VALUES (:matrix, :name);

-- name: need_member_add
INSERT INTO need_members (need, job) VALUES (:need, :job) ON CONFLICT DO NOTHING;

-- name: need_job_add
INSERT INTO need_jobs (need, job) VALUES (:need, :job) ON CONFLICT DO NOTHING;

-- name: need_count
UPDATE needs SET open = (
    SELECT count(*) FROM need_members nm LEFT JOIN jobs j ON j.id = nm.job
    WHERE nm.need = needs.id AND coalesce(j.state, '') <> 'COMPLETED')
WHERE id = :need;

-- name: needs_retire
-- A newer record says anew what its jobs wait for; jobs that it no longer names go on waiting.
UPDATE need_jobs SET active = 0
WHERE active = 1
    AND need IN (SELECT n.id FROM needs n JOIN matrices m ON m.digest = n.matrix
                 WHERE m.name = :name)
    AND job IN (SELECT job FROM matrix_jobs WHERE matrix = :matrix);

-- name: needs_renew
UPDATE need_jobs SET active = 1 WHERE need IN (SELECT id FROM needs WHERE matrix = :matrix);

-- name: jobs_unmet
UPDATE jobs SET unmet = (SELECT count(*) FROM need_jobs nj JOIN needs n ON n.id = nj.need
                         WHERE nj.job = jobs.id AND nj.active = 1 AND n.open > 0)
WHERE id IN (SELECT job FROM matrix_jobs WHERE matrix = :matrix)
    AND (unmet <> 0 OR id IN (SELECT job FROM need_jobs));

-- name: needs_active
-- Every need that somebody waits for, of all matrices.
SELECT n.id, n.name, m.name AS matrix, m.path FROM needs n JOIN matrices m ON m.digest = n.matrix
WHERE n.open > 0 AND EXISTS (SELECT 1 FROM need_jobs nj WHERE nj.need = n.id AND nj.active = 1);

-- name: need_members_of
SELECT job FROM need_members WHERE need = :need;

-- name: need_jobs_of
SELECT job FROM need_jobs WHERE need = :need AND active = 1;

-- name: needs_unmet
-- What waiting jobs wait for: how much of it is missing, and the first job that nobody moves.
SELECT n.id, n.name, n.open, count(*) AS members,
    min(CASE WHEN j.state IN ('HELD', 'FAILED', 'CANCELLED') THEN j.rowid END) AS stopped,
    EXISTS (SELECT 1 FROM stuck_needs s WHERE s.need = n.id) AS stuck
FROM needs n JOIN need_members nm ON nm.need = n.id LEFT JOIN jobs j ON j.id = nm.job
WHERE n.open > 0
GROUP BY n.id;

-- name: job_at
SELECT id, name, state FROM jobs WHERE rowid = :position;

-- name: jobs_that_need
SELECT nj.job, nj.need FROM need_jobs nj
JOIN needs n ON n.id = nj.need AND n.open > 0
JOIN jobs j ON j.id = nj.job AND j.state IN ('NEW', 'RETRYING')
WHERE nj.active = 1 ORDER BY nj.job, nj.need;
