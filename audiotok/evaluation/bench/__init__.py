"""Bench that scores codecs on a corpus by a `BenchRecipe`, and can be interrupted."""

from audiotok.evaluation.bench.run import bench

__all__ = ["bench"]
