-- So many tasks of a submission share an allocation: of task idx the scheduler knows idx / pack.

ALTER TABLE submissions ADD COLUMN pack INTEGER NOT NULL DEFAULT 1 CHECK (pack >= 1);
