"""A listing of recordings becomes a token corpus, exactly once, whatever happens on the way."""

from audiotok.corpus.build.run import Built, build

__all__ = ["Built", "build"]
