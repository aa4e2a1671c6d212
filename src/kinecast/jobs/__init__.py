"""Many independent tasks, computed by processes of this machine or by a Ray cluster."""
