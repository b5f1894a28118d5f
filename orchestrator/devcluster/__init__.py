"""A private Slurm on this machine, for tests, demos and anyone who wants to try (as root)."""
