"""Audio samples and audio files: decoding, resampling, reading and writing in blocks."""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
