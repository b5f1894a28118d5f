-- Which state directory this database belongs to (instance.json has the same id).
ALTER TABLE lease ADD COLUMN instance TEXT;
