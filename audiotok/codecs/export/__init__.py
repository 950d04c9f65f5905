"""Export of codecs as ONNX graphs, with a description that lets other programs run them."""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
