"""Anchors are codecs and rows that everyone knows, to score beside; each file is one."""
