-- name: waits_beyond_reason
-- No back-off is so long: the clock was set back after it was reckoned.
SELECT id FROM jobs
WHERE state IN ('NEW', 'RETRYING') AND due_at > :now + 360
    AND due_at > :now + 60 + coalesce(json_extract(spec, '$.run.retry.max_delay_seconds'), 300);

-- name: wait_over
UPDATE jobs SET due_at = 0 WHERE id = :id;

-- name: unsettled_anew
UPDATE submissions SET created_at = :now WHERE state IN ('intent', 'uncertain');

-- name: running_anew
UPDATE tasks SET running_since = :now WHERE live = 1 AND running_since IS NOT NULL;

-- name: stops_anew
UPDATE stops SET
    notified_at = CASE WHEN notified_at IS NOT NULL THEN :now END,
    killed_at = CASE WHEN killed_at IS NOT NULL THEN :now END
WHERE done_at IS NULL;
