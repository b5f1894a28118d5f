-- `orch status` of a huge store: counts and sums without reading a single spec.
DROP INDEX jobs_by_state;
CREATE INDEX jobs_by_state ON jobs (state, preemptions, lost_steps);
CREATE INDEX jobs_with_reports ON jobs (id) WHERE reports <> '[]';
