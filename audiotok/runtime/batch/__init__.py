"""Batch jobs over many files, in sequence or in worker processes, which continue past errors."""
