"""Samples, and files of them: decoded, resampled, read and written by pieces."""
