"""Metrics of an output against its reference, one metric a file."""
