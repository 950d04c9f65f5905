"""Weights of other programs: download, reader, and mapping of names to those of our modules."""
