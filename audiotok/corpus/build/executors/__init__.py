"""Ways to run a codec over many recordings: processes here, or a Ray cluster."""
