"""Entropy coding of codes: exact, smaller, and read alike by a decoder that shares no code."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from commandline import audiotok
from golden import elsewhere
from hypothesis import given, settings

from audiotok.corpus import Corpus, CorpusError
from audiotok.corpus.base import CorpusInfo, read_info
from audiotok.corpus.change import merge
from audiotok.corpus.check import is_sound
from audiotok.corpus.write import row_of, write_corpus
from audiotok.tokens.tokens import Tokens

ans: Any = pytest.importorskip("audiotok.corpus.ans")
constriction: Any = pytest.importorskip("constriction")

SIZES = (64, 16)


def speechlike(frames: int, seed: int = 0) -> np.ndarray:
    """Codes with favourites, and in the first codebook repeats, as speech has them."""
    draw = np.random.default_rng(seed)
    codes = np.stack([np.minimum(draw.geometric(0.1, frames) - 1, size - 1) for size in SIZES])
    for t in range(1, frames):
        if draw.random() < 0.6:
            codes[0, t] = codes[0, t - 1]
    return codes


def written(folder: Path, lengths: list[int], limit: int = 4000) -> Corpus:
    rows = []
    for i, frames in enumerate(lengths):
        each = Tokens(
            codes=speechlike(frames, i),
            size=SIZES,
            codec="toy",
            fingerprint="ab",
            sample_rate=16000,
            frame_size=320,
            samples=frames * 320,
            original_rate=16000,
            original_samples=frames * 320,
        )
        rows.append((row_of(f"r{i}", each, i, {}), each))
    write_corpus(folder, CorpusInfo("toy", "ab", SIZES, 16000, 320, 1, ()), rows, limit=limit)
    return Corpus(folder)


def plain_decoder(data: bytes) -> list[list[int]]:
    """All codes of a file, by the format's description in Python's integers, and no library."""
    import json

    magic, length, _ = struct.unpack_from("<8sII", data)
    assert magic == b"\x93ATOKAN1"
    about = json.loads(data[16 : 16 + length])
    at = 16 + length
    table = zlib.decompress(data[at : at + about["weights"]])
    at += about["weights"]
    sizes = about["header"]["sizes"]
    weights, place = [], 0
    for size in sizes:
        weights.append(list(struct.unpack_from(f"<{size}I", table, 4 * place)))
        place += size
    codes: list[list[int]] = [[] for _ in sizes]
    for page in range(about["pages"]):
        offset, count, _ = struct.unpack_from("<QII", data, at + 16 * page)
        words = list(struct.unpack_from(f"<{count}I", data, offset))
        state = 0
        while words and state < 1 << 32:
            state = state << 32 | words.pop()
        frames = min(8192, about["frames"] - 8192 * page)

        def take(counts: list[int], words: list[int] = words) -> int:
            nonlocal state
            free = (1 << 24) - len(counts)
            freqs = [count * free // sum(counts) for count in counts]
            freqs[freqs.index(max(freqs))] += free - sum(freqs)
            quantile, low, entry = state % (1 << 24), 0, 0
            while low + freqs[entry] + 1 <= quantile:
                low += freqs[entry] + 1
                entry += 1
            state = (state >> 24) * (freqs[entry] + 1) + quantile - low
            if state < 1 << 32 and words:
                state = state << 32 | words.pop()
            return entry

        for k in range(len(sizes)):
            total = max(1, sum(weights[k]))
            counts = [1 + weight * (1 << 16) // total for weight in weights[k]]
            flags, last = [1, 1], -1
            for first in range(0, frames, 256):
                size = min(256, frames - first)
                repeats = [take(flags) if about["flagged"][k] else 0 for _ in range(size)]
                fresh = [take(counts) for again in repeats if not again]
                for code in fresh:
                    counts = [n + (i == code) for i, n in enumerate(counts)]
                flags = [flags[0] + repeats.count(0), flags[1] + repeats.count(1)]
                for again in repeats:
                    last = last if again else fresh.pop(0)
                    codes[k].append(last)
    return codes


def test_a_decoder_of_plain_integers_reads_the_same(tmp_path: Path):
    """No library, no numpy: two pages and a rest, repeats flagged in one codebook only."""
    frames = 2 * ans.PAGE + 300
    corpus = written(tmp_path / "c", [frames], limit=1 << 30)
    audiotok("corpus", "compress", corpus.path, "-o", tmp_path / "z")
    path = tmp_path / "z" / "shard-000000.ans"
    reader = ans.AnsReader(path)
    assert reader.flagged == [True, False]
    reader._file.close()
    assert plain_decoder(path.read_bytes()) == speechlike(frames).tolist()


def test_what_another_kind_of_machine_wrote_reads_the_same(tmp_path: Path):
    """Files of a big-endian s390x, with another coder: read here, and written here to the byte."""
    there = Path(__file__).parents[1] / "golden" / "elsewhere"
    assert audiotok("corpus", "verify", there).code == 0
    corpus = Corpus(there)
    for i, frames in enumerate(elsewhere.LENGTHS):
        assert (corpus[f"r{i}"].tokens.codes == elsewhere.codes(frames, i)).all()
    assert sum(elsewhere.LENGTHS) > ans.PAGE
    assert audiotok("corpus", "expand", there, "-o", tmp_path / "plain").code == 0
    assert audiotok("corpus", "compress", tmp_path / "plain", "-o", tmp_path / "here").code == 0
    for path in there.iterdir():
        if path.name != "corpus.json":  # written before that had a checksum
            assert (tmp_path / "here" / path.name).read_bytes() == path.read_bytes()
    assert read_info(tmp_path / "here") == read_info(there)


def test_frequencies_reach_the_coder_as_they_are():
    """What constriction's rounding must leave alone, measured at the coder itself."""
    draw = np.random.default_rng(0)
    for size in (2, 3, 64, 1024, 4096):
        counts = draw.integers(1, 1 << 16, size) ** 2
        freqs = ans.scaled(counts) + 1
        assert freqs.sum() == 1 << 24
        assert freqs.min() >= 1
        for entry in {0, size // 2, size - 1}:
            coder = constriction.stream.stack.AnsCoder()
            state = 1 << 40
            words = np.array([state & 0xFFFFFFFF, state >> 32], np.uint32)
            coder = constriction.stream.stack.AnsCoder(words)
            coder.encode_reverse(np.array([entry], np.int32), ans._model(counts))
            f, low = int(freqs[entry]), int(freqs[:entry].sum())
            head, emitted = state, []
            if head >= f << 40:
                emitted, head = [head & 0xFFFFFFFF], head >> 32
            head = (head // f << 24) + head % f + low
            expected = [*emitted, head & 0xFFFFFFFF, *([head >> 32] if head >> 32 else [])]
            assert coder.get_compressed().tolist() == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 700), st.integers(0, 9), st.booleans(), st.booleans())
def test_any_page_comes_back(frames: int, seed: int, one: bool, other: bool):
    codes = speechlike(frames, seed)
    weights = [np.bincount(row, minlength=size) for row, size in zip(codes, SIZES, strict=True)]
    weights[1][:] = 0  # none at all are weights too
    words, bits = ans.encode_page(codes, weights, [one, other])
    assert (ans.decode_page(words, frames, weights, [one, other]) == codes).all()
    assert abs(bits.sum() - 32 * len(words)) < 70  # what is reported is what it takes


def test_a_compressed_corpus_reads_the_same_and_expands_to_the_byte(tmp_path: Path):
    corpus = written(tmp_path / "c", [1 + 91 * i % 777 for i in range(60)])
    done = audiotok("corpus", "compress", corpus.path, "-o", tmp_path / "z", "--json")
    assert done.code == 0, done.err
    small = Corpus(tmp_path / "z")
    assert is_sound(small.path)
    assert [(e.id, e.row, e.tokens) for e in small] == [(e.id, e.row, e.tokens) for e in corpus]
    assert small["r17"].tokens == corpus[17].tokens
    sizes = [sum(f.bytes[s] for f in c.info.shards) for c, s in ((corpus, ".tok"), (small, ".ans"))]
    assert (done.json["before"], done.json["after"]) == tuple(sizes)
    assert sizes[1] < 0.8 * sizes[0]
    assert all(real < nominal for real, nominal in zip(done.json["real"], [6, 4], strict=True))
    done = audiotok("corpus", "expand", small.path, "-o", tmp_path / "back")
    assert done.code == 0, done.err
    for path in corpus.path.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
    other = written(tmp_path / "o", [0, 3])
    with pytest.raises(CorpusError, match="'r0' is in"):
        merge([small.path, other.path], tmp_path / "m")


def test_damage_is_found(tmp_path: Path):
    corpus = written(tmp_path / "c", [20000], limit=1 << 30)
    audiotok("corpus", "compress", corpus.path, "-o", tmp_path / "z")
    path = tmp_path / "z" / "shard-000000.ans"
    data = path.read_bytes()
    for at in (3, 30, len(data) - 100):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CorpusError, match="damaged"):
            Corpus(tmp_path / "z").shards[0].codes()
        assert audiotok("corpus", "verify", tmp_path / "z").code == 1
