-- name: matrix_add
-- Submitted again, it is the newest of its name again.
INSERT INTO matrices (digest, name, path, cells, submitted_at, max_in_flight, latest)
VALUES (:digest, :name, :path, :cells, :at, :max_in_flight,
    (SELECT coalesce(max(latest), 0) + 1 FROM matrices))
ON CONFLICT (digest) DO UPDATE SET latest = excluded.latest
WHERE latest <> (SELECT max(latest) FROM matrices o WHERE o.name = excluded.name);

-- name: matrix_job_add
INSERT INTO matrix_jobs (matrix, job, position) VALUES (:matrix, :job, :position)
ON CONFLICT (matrix, job) DO NOTHING;

-- name: matrix_names
SELECT DISTINCT name FROM matrices;

-- name: request_seen
SELECT 1 FROM requests WHERE name = :name;

-- name: request_add
INSERT INTO requests (name, at) VALUES (:name, :at);
