"""Codecs: their networks, their weights, and functions that load, check and export them."""
