"""Dialects: layouts of published language models by their names, one file per dialect."""
