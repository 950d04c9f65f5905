"""Probes of codes and features, and statistics of scores."""
