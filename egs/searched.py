"""`speech` with a search for its codes, as codecs for `audiotok bench`.

PYTHONPATH=egs audiotok bench --data LIST.tsv --codec speech,searched:eight
"""

from __future__ import annotations

from audiotok import Codec, load


def searched(paths: int) -> Codec:
    """Return `speech` with so many choices of codes for each frame."""
    codec = load("speech")
    codec.set_search(paths)
    codec.name = f"speech_{paths}_paths"
    return codec


def four() -> Codec:
    """Return `speech` with a search of 4 paths."""
    return searched(4)


def eight() -> Codec:
    """Return `speech` with a search of 8 paths."""
    return searched(8)


def sixteen() -> Codec:
    """Return `speech` with a search of 16 paths."""
    return searched(16)
