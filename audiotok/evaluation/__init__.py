"""How good a codec is: metrics, tasks, baselines, benches and their reports."""
