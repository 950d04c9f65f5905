"""Public names of `audiotok.corpus`."""

from audiotok.corpus.base import CorpusError as CorpusError
from audiotok.corpus.base import CorpusInfo as CorpusInfo
from audiotok.corpus.base import NoSuchRecordingError as NoSuchRecordingError
from audiotok.corpus.change import dedup as dedup
from audiotok.corpus.change import merge as merge
from audiotok.corpus.change import missing_parts as missing_parts
from audiotok.corpus.change import split as split
from audiotok.corpus.check import describe as describe
from audiotok.corpus.check import is_sound as is_sound
from audiotok.corpus.check import verify as verify
from audiotok.corpus.compression import CompressionSummary as CompressionSummary
from audiotok.corpus.compression import compress as compress
from audiotok.corpus.compression import expand as expand
from audiotok.corpus.read import Corpus as Corpus
from audiotok.corpus.shard import Entry as Entry
from audiotok.corpus.shard import Shard as Shard
from audiotok.corpus.write import write_corpus as write_corpus
