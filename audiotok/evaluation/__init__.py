"""Evaluation of codecs: metrics, tasks, baselines, benches and their reports."""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
