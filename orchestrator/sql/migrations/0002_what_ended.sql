-- What an end is grouped, blamed and judged by: its traceback, its nodes, where it had begun.
ALTER TABLE ends ADD COLUMN error_type TEXT;
ALTER TABLE ends ADD COLUMN error_message TEXT;
ALTER TABLE ends ADD COLUMN error_digest TEXT;  -- equal for equal tracebacks
ALTER TABLE ends ADD COLUMN nodes TEXT NOT NULL DEFAULT '';
ALTER TABLE ends ADD COLUMN resumed_from TEXT;  -- a checkpoint's name; NULL: from the beginning

CREATE INDEX ends_by_error ON ends (error_digest) WHERE error_digest IS NOT NULL;
