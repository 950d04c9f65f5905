"""Building blocks of codecs and feature extractors, and weights of other programs."""
