"""Backends that run the graphs of an exported codec."""
