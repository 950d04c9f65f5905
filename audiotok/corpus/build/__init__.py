"""Build of a token corpus from a listing of recordings, which can be interrupted and resumed."""

from audiotok.corpus.build.run import BuildSummary, build

__all__ = ["BuildSummary", "build"]
