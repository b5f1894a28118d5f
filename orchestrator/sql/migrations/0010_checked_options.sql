-- Submit options that the scheduler has taken once: they are not checked again beforehand.
CREATE TABLE checked_options (
    digest TEXT PRIMARY KEY,
    at     REAL NOT NULL
) STRICT, WITHOUT ROWID;
