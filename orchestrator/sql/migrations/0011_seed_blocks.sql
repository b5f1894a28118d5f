-- A cell of thousands of seeds enters in linear time: both questions of the trigger
-- `a_new_job_joins_its_block` are answered by the first entry of an index.

DROP INDEX jobs_by_seed_block;
CREATE INDEX jobs_by_seed_block ON jobs (seed_block, block_first);
CREATE INDEX jobs_of_begun_blocks ON jobs (seed_block) WHERE begun = 1;
