"""Embedders turn speech into a vector that says who speaks; each file is one."""
