"""Codecs, which turn audio into codes and back, one file each."""
