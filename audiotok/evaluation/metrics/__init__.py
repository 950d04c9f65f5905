"""Metrics say how good an output is against its reference; each file is one."""
