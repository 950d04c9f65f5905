"""Baselines: well-known codecs and reference rows to score beside a codec, one baseline a file."""
