"""Language models over codec codes: vocabularies, layouts, exports, training and generation."""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
