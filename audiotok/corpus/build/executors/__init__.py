"""Executors that run a codec over many recordings: local processes, or a Ray cluster."""
