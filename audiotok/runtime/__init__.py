"""Runtime: sessions, streams and batches that run a codec in steps, in torch or exported."""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
