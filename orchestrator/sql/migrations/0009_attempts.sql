-- An attempt's times and its account of them; before this they stood only in the job directory.
ALTER TABLE ends ADD COLUMN shown_id TEXT;     -- how people name it to its scheduler
ALTER TABLE ends ADD COLUMN started_at REAL;   -- of the claim; wall clock of its node
ALTER TABLE ends ADD COLUMN left_at REAL;      -- of its last exit record; NULL: left without a word
ALTER TABLE ends ADD COLUMN spent TEXT;        -- JSON: seconds by what they went into
