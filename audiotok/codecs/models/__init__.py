"""Codecs turn audio into codes and back; each file is one."""
