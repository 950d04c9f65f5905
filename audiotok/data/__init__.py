"""Recordings for training and evaluation: sources, crops, batches and pretrained features."""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
