-- name: node_strikes
-- One allocation that went down with all its cells is one witness.
SELECT e.nodes,
    CASE WHEN s.pack > 1 THEN e.token || '_' || (e.idx / s.pack) ELSE e.job END AS job,
    e.class, e.cause, e.blame, e.at
FROM ends e JOIN submissions s ON s.token = e.token
WHERE e.blame <> 'nobody' AND e.nodes <> '' AND e.at > :since AND s.scheduler = :scheduler
ORDER BY e.id;

-- name: exclusions
SELECT node, why, since, until FROM exclusions ORDER BY node;

-- name: exclusions_clear
DELETE FROM exclusions;

-- name: exclusion_add
INSERT INTO exclusions (node, why, since, until) VALUES (:node, :why, :since, :until);

-- name: forgiven
SELECT node, at FROM forgiven;

-- name: forgive
INSERT INTO forgiven (node, at) VALUES (:node, :at) ON CONFLICT (node) DO UPDATE SET at = :at;

-- name: tasks_to_exclude
SELECT t.id, t.token, t.idx, s.scheduler_id, s.pack
FROM tasks t JOIN submissions s ON s.token = t.token AND s.state = 'accepted'
WHERE t.live = 1 AND t.seen IN ('pending', 'delayed', 'held') AND s.scheduler = :scheduler
    AND t.excluded <> :excluded
ORDER BY t.id;

-- name: task_excluded
UPDATE tasks SET excluded = :excluded WHERE id = :id;

-- name: tasks_excluded_of
UPDATE tasks SET excluded = :excluded WHERE token = :token;
