"""Codecs: their networks, their weights, and functions that load, check and export them."""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
