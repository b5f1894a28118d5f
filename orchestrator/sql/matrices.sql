-- name: matrix_add
INSERT INTO matrices (digest, name, path, cells, submitted_at)
VALUES (:digest, :name, :path, :cells, :at)
ON CONFLICT (digest) DO NOTHING;

-- name: matrix_job_add
INSERT INTO matrix_jobs (matrix, job, position) VALUES (:matrix, :job, :position)
ON CONFLICT (matrix, job) DO NOTHING;

-- name: matrix_names
SELECT DISTINCT name FROM matrices;

-- name: request_seen
SELECT 1 FROM requests WHERE name = :name;

-- name: request_add
INSERT INTO requests (name, at) VALUES (:name, :at);
