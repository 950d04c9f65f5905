"""Quantizers from latents to codes and back, one kind per file."""
