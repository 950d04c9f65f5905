"""A token corpus on disk and its reader: numpy alone, random access, whole shards at memory speed.

    corpus.json          what all have in common, and each shard's length, bytes and checksums
    shard-000000.tok     the codes of its recordings, end to end, as one ordinary .tok file
    shard-000000.jsonl   a row a recording: id, seconds, text, speaker, whatever the manifest said
    shard-000000.npy     a record a recording (`INDEX`): where its codes and its row stand
    shard-000000.ans     instead of .tok where the codes are entropy-coded (`corpus compress`)
    quarantine.tsv       recordings that could not be encoded, and why (only if there are any)

    .tok     |---- recording 0 ----|-- recording 1 --|------- recording 2 -------|   frames
    .npy      first 0, frames 22    first 22, ...     first 40, ...

A shard is a .tok file, so `audiotok verify`, `info` and `Tokens.recover` work on it, and any
stretch of it is read by `TokenReader`. Frames of a recording begin on a frame, never within one;
its exact length in samples stands in the index. Recordings are in the manifest's order.

>>> corpus = Corpus("tokens")
>>> corpus.codec, corpus.fingerprint, corpus.sizes, len(corpus), corpus.seconds
>>> corpus[17].tokens, corpus["talk-3"].row["text"]     # by place, by id
>>> for shard in corpus.shards[rank::world]:            # each process its own shards
...     codes, bounds = shard.codes(), shard.bounds     # [k F] of all its recordings, [n + 1]
...     first = codes[:, bounds[0] : bounds[1]]         # recording 0, without a copy
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from audiotok.tokfile import Header

FORMAT = "audiotok corpus 1"
INDEX = np.dtype(
    [
        ("first", "<u8"),  # frame of the shard
        ("frames", "<u4"),
        ("original_rate", "<u4"),  # Hz
        ("samples", "<u8"),  # at the codec's rate
        ("original_samples", "<u8"),  # at the original rate
        ("row", "<u8"),  # byte of the .jsonl file
        ("id", "<u8"),  # `hashed` id
        ("audio", "<u8"),  # hash of the samples that the codec was given
        ("crc", "<u4"),  # CRC-32 of the codes, frame after frame, as little-endian 32-bit integers
    ]
)


class CorpusError(ValueError):
    """A corpus that cannot be read or written; one line that names it and the way out."""


@dataclass(frozen=True)
class Files:
    """What corpus.json says of a shard."""

    name: str
    recordings: int
    frames: int
    samples: int
    bytes: dict[str, int]  # extension -> length of the file
    sha256: dict[str, str]  # extension -> checksum of the file


@dataclass(frozen=True)
class About:
    """What corpus.json holds, but for its format."""

    codec: str
    fingerprint: str
    sizes: tuple[int, ...]
    sample_rate: int
    frame_size: int
    channels: int
    shards: tuple[Files, ...]
    quarantined: int = 0
    job: dict[str, Any] = field(default_factory=dict)  # what it was built of, and how

    @property
    def header(self) -> Header:
        """Of all .tok files: the codec's, at its own rate."""
        return header_of(
            Header(
                codec=self.codec,
                fingerprint=self.fingerprint,
                sizes=self.sizes,
                sample_rate=self.sample_rate,
                frame_size=self.frame_size,
                original_rate=self.sample_rate,
                channels=self.channels,
            )
        )


def header_of(header: Header) -> Header:
    """The header of a shard of recordings that have this one, whatever their rates.

    Blocks are of 4 KiB or more, so that they cost at most 0.4 %.
    """
    plain = replace(header, original_rate=header.sample_rate, block_frames=0)
    return replace(plain, block_frames=4 * plain.block_frames)


def hashed(name: str) -> int:
    """64 bits of an id, the same on every machine."""
    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def read_about(folder: Path) -> About:
    """Reads corpus.json.

    Raises:
        CorpusError: it is not there, damaged, or of a newer audiotok.
    """
    path = folder / "corpus.json"
    try:
        facts = json.loads(path.read_bytes())
        written = facts.pop("format")
        if written != FORMAT:
            raise CorpusError(f"{path}: written as {written!r}, not {FORMAT!r}: update audiotok")
        shards = tuple(Files(**files) for files in facts.pop("shards"))
        known = {name: facts[name] for name in About.__dataclass_fields__ if name in facts}
        return About(**known | {"sizes": tuple(facts["sizes"]), "shards": shards})
    except FileNotFoundError:
        begun = (folder / ".build").is_dir()
        way = "not finished; run the same `audiotok corpus build` again" if begun else "no corpus"
        raise CorpusError(f"{folder}: {way} (there is no corpus.json)") from None
    except CorpusError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); restore it") from None
