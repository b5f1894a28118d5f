-- name: lease_epoch
SELECT epoch FROM lease;

-- name: lease_take
UPDATE lease SET epoch = epoch + 1 RETURNING epoch;
