"""Evaluation of codecs: metrics, tasks, baselines, benches and their reports."""
