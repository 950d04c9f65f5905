"""A token corpus: many recordings' codes in a few large files; see `audiotok.corpus.base`."""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
