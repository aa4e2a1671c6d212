"""Many independent tasks, computed by local processes or by a Ray cluster."""
