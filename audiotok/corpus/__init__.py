"""A token corpus: many recordings' codes in a few large files; see `audiotok.corpus.base`."""

from audiotok.corpus.base import CorpusError
from audiotok.corpus.read import Corpus
from audiotok.corpus.shard import Entry, Shard

__all__ = ["Corpus", "CorpusError", "Entry", "Shard"]
