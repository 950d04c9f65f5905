"""Layers that run over a whole signal or in pieces, with the same result."""
