"""Patterns: the order in which a language model sees codes, one file per pattern."""
