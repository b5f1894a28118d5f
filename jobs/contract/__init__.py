"""What orchestrator and worker agree on: paths, exit codes, environment names, records."""
