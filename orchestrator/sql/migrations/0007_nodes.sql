-- Nodes that new and waiting tasks keep off, as of the last tick; strikes are ends with a blame.
CREATE TABLE exclusions (
    node  TEXT PRIMARY KEY,
    why   TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Strikes before this moment do not count: a person knows that the node is well again.
CREATE TABLE forgiven (
    node TEXT PRIMARY KEY,
    at   REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- The nodes that this task was last told to keep off, sorted, with commas.
ALTER TABLE tasks ADD COLUMN excluded TEXT NOT NULL DEFAULT '';
