"""Quantizers turn latents into codes and back; each file is one kind."""
