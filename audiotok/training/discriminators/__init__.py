"""Discriminators: what tells a codec's output from a recording, to train the codec against."""
