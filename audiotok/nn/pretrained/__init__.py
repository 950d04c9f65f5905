"""Weights that other programs made: where they are, what is in them, what their names mean."""
