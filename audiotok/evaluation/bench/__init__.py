"""Scores codecs on a corpus: `bench` runs what a `BenchRecipe` says, and can be interrupted."""

from audiotok.evaluation.bench.run import bench as bench
