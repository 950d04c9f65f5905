"""A token corpus: many recordings' codes in a few large files; see `audiotok.corpus.base`."""

from audiotok.corpus.base import Corpus, CorpusError, Entry, Shard

__all__ = ["Corpus", "CorpusError", "Entry", "Shard"]
