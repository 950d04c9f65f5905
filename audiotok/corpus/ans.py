"""Lossless entropy coding of a shard's codes with integer models, equal on every machine.

    magic 8 | length 4 | CRC 4 | JSON: header, frames, pages, which codebooks have flags
    weights    counts of each codebook's entries in the shard, 4 bytes each, deflated together
    pages      offset 8, words 4, CRC 4 of each
    words      32 bits each, of constriction's ANS coder (Duda 2013, arXiv:1311.2540)

A page is `PAGE` frames and is read by itself. In it each codebook in turn is coded `STEP` frames at
a time, by a model that starts from the weights and adds counts of the codes so far:

    frequency of an entry   1 + count * (2^24 - entries) // (sum of counts); the remainder goes to
                            the first of the largest, so that they sum to 2^24

Where that is shorter, flags first mark the codes that repeat the previous one; only the other codes
follow. Everything is in integers: constriction is given whole numbers that sum to 2^24 less the
entries, which its rounding leaves unchanged. EnCodec's own coder computes frequencies in floats,
and what one machine wrote another cannot always read (encodec issue 94).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.corpus.base import CorpusError
from audiotok.tokens import Header, TokenReader
from audiotok.tokens.errors import explained

MAGIC, HEAD, ENTRY = b"\x93ATOKAN1", struct.Struct("<8sII"), struct.Struct("<QII")
PAGE, STEP = 1 << 13, 256  # frames
PRIOR = 1 << 16  # number of codes that the shard's weights count for in a page
TOTAL = 1 << 24  # sum of constriction's frequencies
FLAGS = np.array([1, 1], np.int64)  # initial counts of codes that do not repeat, and that do


def scaled(counts: np.ndarray) -> np.ndarray:
    """Return counts scaled to whole numbers that sum to 2^24 less their number.

    The frequency of an entry is one more than its scaled count.
    """
    free = TOTAL - len(counts)
    weights = counts * free // int(counts.sum())
    weights[int(weights.argmax())] += free - int(weights.sum())
    return weights


def _prior(weights: np.ndarray) -> np.ndarray:
    """Return the initial counts of a page: `PRIOR` codes spread like the shard's, and one each."""
    return 1 + weights * PRIOR // max(1, int(weights.sum()))


class _Models:
    """Adaptive models of one codebook in one page."""

    def __init__(self, weights: np.ndarray, flagged: bool) -> None:
        self.counts = _prior(weights)
        self.flagged = flagged
        self.flags = FLAGS.copy()
        self.last = -1  # the previous code

    def see(self, codes: np.ndarray, repeats: np.ndarray) -> None:
        kept = codes[~repeats] if self.flagged else codes
        self.counts += np.bincount(kept, minlength=len(self.counts))
        self.flags += [int((~repeats).sum()), int(repeats.sum())]
        self.last = int(codes[-1])


def _model(counts: np.ndarray) -> Any:
    stream: Any = optional_import("constriction", extra="corpus").stream
    return stream.model.Categorical(scaled(counts).astype(np.float32), perfect=False)


def _coder(words: np.ndarray | None = None) -> Any:
    stream: Any = optional_import("constriction", extra="corpus").stream
    return stream.stack.AnsCoder() if words is None else stream.stack.AnsCoder(words)


def encode_page(
    codes: np.ndarray, weights: list[np.ndarray], flagged: list[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Encode a page of codes.

    Args:
        codes: codes `[k f]` of up to `PAGE` frames.
        weights: counts of each codebook's entries in the shard.
        flagged: for each codebook, whether its repeats are flagged.

    Returns:
        Words `[n]` uint32, and the number of bits that each codebook takes `[k]`.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    bits = np.zeros(len(codes))
    for k, row in enumerate(codes):
        models = _Models(weights[k], flagged[k])
        for first in range(0, len(row), STEP):
            chunk = row[first : first + STEP]
            repeats = chunk == np.append(models.last, chunk[:-1])
            kept = chunk
            if flagged[k]:
                parts.append((repeats.astype(np.int32), models.flags.copy()))
                bits[k] += _cost(*parts[-1])
                kept = chunk[~repeats]
            parts.append((kept.astype(np.int32), models.counts.copy()))
            bits[k] += _cost(*parts[-1])
            models.see(chunk, repeats)
    coder = _coder()
    # The coder is a stack: the last symbols in are the first out.
    for symbols, counts in reversed(parts):
        if len(symbols):
            coder.encode_reverse(symbols, _model(counts))
    return coder.get_compressed(), bits


def _cost(symbols: np.ndarray, counts: np.ndarray) -> float:
    return float((24 - np.log2(scaled(counts)[symbols] + 1.0)).sum())


def decode_page(
    words: np.ndarray, frames: int, weights: list[np.ndarray], flagged: list[bool]
) -> np.ndarray:
    """Decode a page.

    Args:
        words: words of `encode_page`.
        frames: number of frames in the page.
        weights: as for `encode_page`.
        flagged: as for `encode_page`.

    Returns:
        Codes `[k f]` int64.
    """
    coder = _coder(words)
    codes = np.empty((len(weights), frames), np.int64)
    for k, row in enumerate(codes):
        models = _Models(weights[k], flagged[k])
        for first in range(0, frames, STEP):
            size = min(STEP, frames - first)
            if not flagged[k]:
                row[first : first + size] = coder.decode(_model(models.counts), size)
                models.see(row[first : first + size], np.zeros(size, bool))
                continue
            repeats = coder.decode(_model(models.flags), size).astype(bool)
            fresh = int((~repeats).sum())
            known = np.append(
                models.last, coder.decode(_model(models.counts), fresh) if fresh else []
            )
            chunk = known[np.cumsum(~repeats)].astype(np.int64)
            row[first : first + size] = chunk
            models.see(chunk, repeats)
    return codes


def write_ans(reader: TokenReader, path: Path) -> np.ndarray:
    """Write the codes of a .tok file with entropy coding.

    Args:
        reader: reader of the .tok file.
        path: the file to write.

    Returns:
        The number of bits that each codebook takes `[k]`.

    Raises:
        ImportError: constriction is not installed.
        TokenFileError: the disk is full, or the .tok file is damaged.
    """
    header, frames = reader.header, reader.frames
    weights = [np.zeros(size, np.int64) for size in header.sizes]
    repeats = np.zeros(header.rows, np.int64)
    others = [np.zeros(size, np.int64) for size in header.sizes]  # codes that do not repeat
    for first in range(0, frames, PAGE):
        codes = reader.read(first, min(first + PAGE, frames))
        same = codes[:, 1:] == codes[:, :-1]
        repeats += same.sum(1)
        for k, size in enumerate(header.sizes):
            weights[k] += np.bincount(codes[k], minlength=size)
            others[k] += np.bincount(codes[k, 1:][~same[k]], minlength=size)
    flagged = [  # a decision by floats is safe here, since the file records it
        _entropy(np.array([repeats[k], frames - repeats[k]])) + _entropy(others[k])
        < _entropy(weights[k])
        for k in range(header.rows)
    ]
    weights = [np.maximum(others[k] if flagged[k] else weights[k], 0) for k in range(header.rows)]
    pages = -(-frames // PAGE)
    table = b"".join(np.minimum(each, (1 << 32) - 1).astype("<u4").tobytes() for each in weights)
    table = zlib.compress(table, 9)
    facts = {"header": header.to_json(), "frames": frames, "pages": pages, "flagged": flagged}
    facts["weights"] = len(table)
    text = json.dumps(facts, separators=(",", ":")).encode()
    bits = np.zeros(header.rows)
    with explained(path, "write"), atomic_file(path) as part, part.open("wb") as file:
        file.write(HEAD.pack(MAGIC, len(text), zlib.crc32(text)) + text)
        file.write(table)
        index = file.tell()
        file.write(bytes(ENTRY.size * pages))
        entries = b""
        for first in range(0, frames, PAGE):
            codes = reader.read(first, min(first + PAGE, frames))
            words, cost = encode_page(codes, weights, flagged)
            data = words.astype("<u4").tobytes()
            entries += ENTRY.pack(file.tell(), len(words), zlib.crc32(data))
            file.write(data)
            bits += cost
        file.seek(index)
        file.write(entries)
    return bits


def _entropy(counts: np.ndarray) -> float:
    """Return the bits of all counted symbols under an ideal coder."""
    some = counts[counts > 0]
    return float(-(some * np.log2(some / some.sum())).sum()) if len(some) else 0.0


class AnsReader:
    """Reader of a file of `write_ans`, with the methods of `TokenReader`.

    Args:
        path: the file.

    Attributes:
        header: header of the .tok file.
        frames: number of frames.

    Raises:
        CorpusError: the file is damaged, or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            magic, length, crc = HEAD.unpack(self._file.read(HEAD.size))
            text = self._file.read(length)
            if magic != MAGIC or zlib.crc32(text) != crc:
                raise CorpusError(f"{path}: damaged, or not entropy-coded codes; restore it")
            facts = json.loads(text)
            self.header = Header(**facts["header"] | {"sizes": tuple(facts["header"]["sizes"])})
            self.frames = facts["frames"]
            self.flagged = facts["flagged"]
            weights = zlib.decompress(self._file.read(facts["weights"]))
            joined = np.frombuffer(weights, "<u4").astype(np.int64)
            self.weights = np.split(joined, np.cumsum(self.header.sizes)[:-1])
            table = self._file.read(ENTRY.size * facts["pages"])
            self._pages = list(ENTRY.iter_unpack(table))
        except CorpusError:
            self._file.close()
            raise
        except (struct.error, zlib.error, ValueError, KeyError, TypeError) as error:
            self._file.close()
            raise CorpusError(f"{path}: damaged ({error}); restore it") from None
        except BaseException:
            self._file.close()
            raise
        self._last: tuple[int, np.ndarray] | None = None

    def read(self, first: int, last: int) -> np.ndarray:
        """Return codes `[k f]` int64 of frames `first` to `last` (exclusive); decodes whole pages.

        Raises:
            CorpusError: a page is damaged.
            ValueError: there are no such frames.
        """
        if not 0 <= first <= last <= self.frames:
            raise InputError(f"no frames {first} to {last}: the shard has {self.frames}")
        parts = [np.zeros((self.header.rows, 0), np.int64)]
        for page in range(first // PAGE, -(-last // PAGE) if last > first else 0):
            at = page * PAGE
            codes = self._page(page)
            parts.append(codes[:, max(0, first - at) : last - at])
        codes = np.concatenate(parts, 1)
        codes.flags.writeable = False
        return codes

    def _page(self, page: int) -> np.ndarray:
        if self._last and self._last[0] == page:
            return self._last[1]
        offset, words, crc = self._pages[page]
        self._file.seek(offset)
        data = self._file.read(4 * words)
        if len(data) != 4 * words or zlib.crc32(data) != crc:
            raise CorpusError(f"{self.path}: page {page} is damaged; restore the file")
        frames = min(PAGE, self.frames - page * PAGE)
        coded = np.frombuffer(data, "<u4").astype(np.uint32)
        codes = decode_page(coded, frames, self.weights, self.flagged)
        self._last = page, codes
        return codes


def pages(reader: AnsReader) -> Iterator[np.ndarray]:
    """Yield all codes `[k f]`, a page at a time."""
    for first in range(0, reader.frames, PAGE):
        yield reader.read(first, min(first + PAGE, reader.frames))
