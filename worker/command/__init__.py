"""Running other people's programs as jobs: docs/command-jobs.md. No torch here."""
