-- name: waits_beyond_reason
-- No back-off is so long: the clock was set back after it was reckoned.
SELECT id FROM jobs
WHERE state IN ('NEW', 'RETRYING') AND due_at > :now + 360
    AND due_at > :now + 60 + coalesce(json_extract(spec, '$.run.retry.max_delay_seconds'), 300);

-- name: wait_over
UPDATE jobs SET due_at = 0 WHERE id = :id;
