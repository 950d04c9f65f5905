"""Build of a token corpus from a listing of recordings, which can be interrupted and resumed."""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
