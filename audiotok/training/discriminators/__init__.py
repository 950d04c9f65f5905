"""Discriminators, which tell a codec's output from a recording, to train the codec against."""
