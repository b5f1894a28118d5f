-- In which order jobs go: priority, cells of which a seed has begun, position; and for what
-- they wait. Everything here is derived from the newest record of each matrix.

ALTER TABLE matrices ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;  -- the highest of a name counts
ALTER TABLE matrices ADD COLUMN max_in_flight INTEGER;              -- NULL: no limit of its own

UPDATE matrices SET latest = rowid;

ALTER TABLE jobs ADD COLUMN home TEXT NOT NULL DEFAULT '';  -- name of the matrix that brought it
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN seed_block TEXT NOT NULL DEFAULT '';    -- equal for seeds of one cell
ALTER TABLE jobs ADD COLUMN block_first INTEGER NOT NULL DEFAULT 0; -- rowid of its oldest job
ALTER TABLE jobs ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;       -- a job of its block has gone
ALTER TABLE jobs ADD COLUMN unmet INTEGER NOT NULL DEFAULT 0;       -- needs without all results

-- Of older jobs nothing is known but themselves.
UPDATE jobs SET seed_block = id, block_first = rowid,
    begun = state NOT IN ('NEW', 'HELD', 'CANCELLED'),
    home = coalesce((SELECT m.name FROM matrix_jobs mj JOIN matrices m ON m.digest = mj.matrix
                     WHERE mj.job = jobs.id ORDER BY m.rowid LIMIT 1), '');

CREATE INDEX jobs_by_seed_block ON jobs (seed_block);
-- Delivers what may go in its order, however many thousands wait behind it.
CREATE INDEX jobs_in_order ON jobs (home, priority DESC, begun DESC, block_first)
    WHERE state IN ('NEW', 'RETRYING') AND unmet = 0;

CREATE TRIGGER a_new_job_joins_its_block AFTER INSERT ON jobs
BEGIN
    UPDATE jobs SET
        block_first = coalesce((SELECT min(j.block_first) FROM jobs j
                                WHERE j.seed_block = NEW.seed_block AND j.id <> NEW.id
                                    AND NEW.seed_block <> ''), NEW.rowid),
        begun = NEW.state NOT IN ('NEW', 'HELD', 'CANCELLED')
            OR EXISTS (SELECT 1 FROM jobs j WHERE j.seed_block = NEW.seed_block AND j.begun = 1
                           AND NEW.seed_block <> '')
    WHERE id = NEW.id;
END;

CREATE TRIGGER a_block_begins AFTER UPDATE OF state ON jobs
    WHEN NEW.begun = 0 AND NEW.state NOT IN ('NEW', 'HELD', 'CANCELLED')
BEGIN
    UPDATE jobs SET begun = 1
    WHERE id = NEW.id OR (seed_block = NEW.seed_block AND NEW.seed_block <> '');
END;

-- `open`: how many of a need's jobs have no result yet. At 0 the need is met, for good.
CREATE TABLE needs (
    id     INTEGER PRIMARY KEY,
    matrix TEXT    NOT NULL REFERENCES matrices (digest),
    name   TEXT    NOT NULL,
    open   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX needs_by_matrix ON needs (matrix);

CREATE TABLE need_members (
    need INTEGER NOT NULL REFERENCES needs (id),
    job  TEXT    NOT NULL,  -- perhaps of a matrix that is taken in later
    PRIMARY KEY (need, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX need_members_by_job ON need_members (job);

CREATE TABLE need_jobs (
    need   INTEGER NOT NULL REFERENCES needs (id),
    job    TEXT    NOT NULL REFERENCES jobs (id),
    active INTEGER NOT NULL DEFAULT 1,  -- 0: a newer record of the matrix says otherwise
    PRIMARY KEY (need, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX need_jobs_by_job ON need_jobs (job);

CREATE TRIGGER a_result_meets_needs AFTER UPDATE OF state ON jobs
    WHEN NEW.state = 'COMPLETED' AND OLD.state <> 'COMPLETED'
BEGIN
    UPDATE needs SET open = open - 1
    WHERE id IN (SELECT need FROM need_members WHERE job = NEW.id);
    UPDATE jobs SET unmet = (SELECT count(*) FROM need_jobs nj JOIN needs n ON n.id = nj.need
                             WHERE nj.job = jobs.id AND nj.active = 1 AND n.open > 0)
    WHERE id IN (SELECT nj.job FROM need_members nm
                 JOIN needs n ON n.id = nm.need AND n.open = 0
                 JOIN need_jobs nj ON nj.need = nm.need
                 WHERE nm.job = NEW.id);
END;

-- Jobs that wait for one that nobody moves: without a person they never go.
CREATE VIEW stuck_needs AS
WITH RECURSIVE stuck (need) AS (
    SELECT nm.need FROM need_members nm JOIN jobs j ON j.id = nm.job
    WHERE j.state IN ('HELD', 'FAILED', 'CANCELLED')
    UNION
    SELECT nm.need FROM stuck s
    JOIN need_jobs nj ON nj.need = s.need AND nj.active = 1
    JOIN jobs j ON j.id = nj.job AND j.state = 'NEW'
    JOIN need_members nm ON nm.job = nj.job
)
SELECT need FROM stuck;

CREATE VIEW stuck_jobs AS
SELECT DISTINCT nj.job FROM stuck_needs s
JOIN need_jobs nj ON nj.need = s.need AND nj.active = 1
JOIN jobs j ON j.id = nj.job AND j.state = 'NEW';

-- Why jobs that could go do not; one row per limit that was hit at the last tick.
CREATE TABLE full (
    home  TEXT PRIMARY KEY,  -- a matrix's name; '': the limit over all matrices
    words TEXT NOT NULL
) STRICT;
