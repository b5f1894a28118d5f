-- name: lease_epoch
SELECT epoch FROM lease;

-- name: lease_take
UPDATE lease SET epoch = epoch + 1, instance = coalesce(instance, :instance) RETURNING epoch;

-- name: lease_mark
SELECT epoch, instance, (SELECT coalesce(max(id), 0) FROM events) AS journal,
    EXISTS (SELECT 1 FROM tasks WHERE live = 1)
    OR EXISTS (SELECT 1 FROM submissions WHERE state IN ('intent', 'uncertain')) AS live
FROM lease;
