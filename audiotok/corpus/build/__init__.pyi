"""Public names of `audiotok.corpus.build`."""

from audiotok.corpus.build.executors.base import BuildExecutor as BuildExecutor
from audiotok.corpus.build.run import BuildSummary as BuildSummary
from audiotok.corpus.build.run import build as build
from audiotok.corpus.build.work import Work as Work
