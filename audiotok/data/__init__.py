"""Recordings for training and evaluation: sources, crops, batches and pretrained features."""
