"""The parts of a spec, one module each; `jobs.spec` puts them together."""
