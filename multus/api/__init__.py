"""The cluster: its API server, read live and by watch caches."""
