"""A corpus on disk: what is written is what is read, and what can be done with it."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
from commandline import audiotok, recording, small
from hypothesis import given, settings

from audiotok.corpus import Corpus, CorpusError
from audiotok.corpus.base import CorpusInfo
from audiotok.corpus.change import dedup, duplicates, merge, split
from audiotok.corpus.check import damage, describe, is_sound
from audiotok.corpus.usage import usage
from audiotok.corpus.write import row_of, sha256, write_corpus, write_info
from audiotok.tokens.tokens import Tokens

ABOUT = CorpusInfo("toy", "ab12", (64, 64, 32), 16000, 320, 1, ())


def tokens(frames: int, seed: int, *, rest: int = 0, rate: int = 16000) -> Tokens:
    codes = np.random.default_rng(seed).integers(0, [[64], [64], [32]], (3, frames))
    samples = max(0, frames * 320 - rest)
    return Tokens(
        codes=codes,
        size=ABOUT.sizes,
        codec="toy",
        fingerprint="ab12",
        sample_rate=16000,
        frame_size=320,
        samples=samples,
        original_rate=rate,
        original_samples=samples * rate // 16000,
    )


def some(count: int, prefix: str = "talk") -> list[tuple[dict[str, Any], Tokens]]:
    made = []
    for i in range(count):
        each = tokens(1 + 7 * i % 90, i, rest=i % 320, rate=(16000, 44100)[i % 2])
        more = {"text": f"said {i} “ü”", "speaker": f"s{i % 9}", "frames": "not ours"}
        made.append((row_of(f"{prefix}/{i}", each, 1000 + i, more), each))
    return made


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    write_corpus(tmp_path / "corpus", ABOUT, some(60), limit=1000)
    return Corpus(tmp_path / "corpus")


def test_what_is_written_is_read(corpus: Corpus):
    expected = some(60)
    assert len(corpus.shards) > 3
    assert [(e.id, e.row, e.tokens) for e in corpus] == [(r["id"], r, t) for r, t in expected]
    for i in (0, 59, 31, -1, -60):
        row, made = expected[i]
        assert (corpus[i].row, corpus[i].tokens) == (row, made)
        assert corpus[row["id"]].tokens == made
        assert (corpus.codes(i) == made.codes).all()
    assert corpus.seconds == pytest.approx(sum(t.seconds for _, t in expected))
    assert corpus.frames == sum(t.frames for _, t in expected)


def test_a_shard_is_one_array_and_its_bounds(corpus: Corpus):
    expected = iter(some(60))
    for shard in corpus.shards:
        codes = shard.codes()
        for a, b in zip(shard.bounds, shard.bounds[1:], strict=False):
            assert (codes[:, a:b] == next(expected)[1].codes).all()


def test_a_shard_is_a_tok_file(corpus: Corpus):
    done = audiotok("verify", corpus.path, "--json")
    assert done.code == 0
    assert len(done.json) == len(corpus.shards)
    first = corpus.shards[0]
    assert (Tokens.load(first.path(".tok")).codes == first.codes()).all()


@pytest.mark.parametrize("which", [60, -61])
def test_what_is_not_there(corpus: Corpus, which: int):
    with pytest.raises(IndexError):
        corpus[which]
    with pytest.raises(KeyError, match="talk/60"):
        corpus["talk/60"]
    with pytest.raises(IndexError):
        corpus.shards[0].codes(0, 1000)


def test_no_corpus_is_said(tmp_path: Path, corpus: Corpus):
    with pytest.raises(CorpusError, match="no corpus"):
        Corpus(tmp_path)
    about = corpus.path / "corpus.json"
    text = about.read_text()
    about.write_text(text.replace("audiotok corpus 2", "audiotok corpus 9"))
    with pytest.raises(CorpusError, match="update audiotok"):
        Corpus(corpus.path)
    about.write_text(text[:100])
    with pytest.raises(CorpusError, match="restore it"):
        Corpus(corpus.path)


def test_an_empty_corpus_is_one(tmp_path: Path):
    write_corpus(tmp_path / "none", ABOUT, [])
    none = Corpus(tmp_path / "none")
    assert len(none) == 0
    assert list(none) == []
    assert is_sound(none.path)
    assert duplicates(none) == []
    assert usage(none).frames == 0
    assert describe(none)["recordings"] == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 300))
def test_any_lengths_in_any_shards(tmp_path_factory: Any, frames: list[int], limit: int):
    folder = tmp_path_factory.mktemp("any")
    made = [tokens(n, i) for i, n in enumerate(frames)]
    rows = [(row_of(str(i), each, i, {}), each) for i, each in enumerate(made)]
    write_corpus(folder, ABOUT, rows, limit=limit)
    corpus = Corpus(folder)
    assert [entry.tokens for entry in corpus] == made
    assert [corpus[i].tokens for i in range(len(corpus))] == made
    assert [number for _, found in damage(corpus) for number in found] == []
    corpus.close()


def _codes(corpus: Corpus, i: int) -> np.ndarray:
    return corpus[i].tokens.codes


def test_it_can_be_carried_into_other_processes(corpus: Corpus):
    expected = corpus[17].tokens.codes  # its files are open from here on
    other = pickle.loads(pickle.dumps(corpus))
    assert (other[17].tokens.codes == expected).all()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        made = pool.starmap(_codes, [(corpus, i % 60) for i in range(120)])
    assert all((codes == corpus.codes(i % 60)).all() for i, codes in enumerate(made))


# ---- damage


@pytest.mark.parametrize("suffix", [".tok", ".jsonl", ".npy"])
@pytest.mark.parametrize("how", ["flip", "short", "gone"])
def test_any_damage_is_found(corpus: Corpus, suffix: str, how: str):
    path = corpus.shards[1].path(suffix)
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data if how == "flip" else data[:-3])
    done = audiotok("corpus", "verify", corpus.path, "--json")
    assert done.code == 1
    assert [row["ok"] for row in done.json] == [i != 1 for i in range(len(corpus.shards))]
    assert path.name in done.json[1]["damage"][0]


def test_codes_that_are_not_their_rows_are_found(corpus: Corpus):
    """Files whose checksums are right, as a program with a mistake would write them."""
    shard = corpus.shards[0]
    index = np.load(shard.path(".npy"))
    index["crc"][3] += 1
    np.save(shard.path(".npy"), index)
    files = corpus.info.shards[0]
    files.sha256[".npy"] = sha256(shard.path(".npy"))
    files.bytes[".npy"] = shard.path(".npy").stat().st_size
    write_info(corpus.path, corpus.info)
    found = dict(damage(Corpus(corpus.path)))
    assert found[shard.name] == ["recordings 3: codes, row and index do not agree"]


# ---- changes


def test_merge_keeps_all_in_order_and_is_whole(tmp_path: Path, corpus: Corpus):
    write_corpus(tmp_path / "more", ABOUT, some(20, "other"), limit=300)
    merge([tmp_path / "more", corpus.path], tmp_path / "both")
    both = Corpus(tmp_path / "both")
    assert [(e.id, e.tokens) for e in both] == [
        (row["id"], each) for row, each in [*some(20, "other"), *some(60)]
    ]
    assert is_sound(both.path)
    shutil.rmtree(tmp_path / "more")
    assert is_sound(both.path)


def test_merge_refuses_what_does_not_go_together(tmp_path: Path, corpus: Corpus):
    with pytest.raises(CorpusError, match="'talk/0' is in"):
        merge([corpus.path, corpus.path], tmp_path / "both")
    other = CorpusInfo("toy", "cd34", ABOUT.sizes, 16000, 320, 1, ())
    write_corpus(tmp_path / "other", other, [])
    with pytest.raises(CorpusError, match="made by toy cd34"):
        merge([corpus.path, tmp_path / "other"], tmp_path / "both")
    with pytest.raises(CorpusError, match="exists already"):
        merge([corpus.path], tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "other"]


def test_split_keeps_speakers_whole_and_loses_nothing(tmp_path: Path, corpus: Corpus):
    done = audiotok(
        "corpus",
        "split",
        corpus.path,
        "-o",
        tmp_path / "s",
        "--share",
        "dev=0.3",
        "--share",
        "x=0.2",
    )
    assert done.code == 0, done.err
    parts = {name: Corpus(tmp_path / "s" / name) for name in ("train", "dev", "x")}
    speakers = {name: {e.row["speaker"] for e in part} for name, part in parts.items()}
    assert all(speakers.values())
    assert sum(map(len, speakers.values())) == len(set().union(*speakers.values())) == 9
    ids = sorted(e.id for part in parts.values() for e in part)
    assert ids == sorted(e.id for e in corpus)
    assert all(e.row["split"] == name for name, part in parts.items() for e in part)
    for part in parts.values():
        for entry in part:
            whole = corpus[entry.id]
            assert {**entry.row, "split": None} == {**whole.row, "split": None}
            assert entry.tokens == whole.tokens
    assert all(is_sound(part.path) for part in parts.values())
    with pytest.raises(CorpusError, match=r"s: a folder of 3 corpora, as .*/s/dev: name one"):
        Corpus(tmp_path / "s")
    again = split(corpus, tmp_path / "again", {"dev": 0.3, "x": 0.2})
    assert again["dev"].shards == parts["dev"].info.shards


def test_dedup_leaves_the_first(tmp_path: Path):
    rows = some(12)
    for i, of in ((5, 2), (9, 2), (7, 0)):
        name = rows[i][0]["id"]
        rows[i] = ({**rows[of][0], "id": name}, rows[of][1])
    rows[11] = ({**rows[11][0], "audio": rows[3][0]["audio"]}, rows[11][1])  # the hash alone
    write_corpus(tmp_path / "c", ABOUT, rows, limit=200)
    corpus = Corpus(tmp_path / "c")
    assert duplicates(corpus) == [(5, 2), (7, 0), (9, 2)]
    dedup(corpus, tmp_path / "d")
    thin = Corpus(tmp_path / "d")
    assert [e.id for e in thin] == [f"talk/{i}" for i in range(12) if i not in (5, 7, 9)]
    assert "talk/9\ttalk/2" in (tmp_path / "d" / "duplicates.tsv").read_text()
    assert is_sound(thin.path)


def test_audio_that_is_the_same_is_found_whatever_its_file(tmp_path: Path):
    """FLAC and WAV of one recording, and another that differs by one step of one sample."""
    wave, rate = soundfile.read(recording(tmp_path / "in" / "a.wav", 0.4), dtype="int16")
    soundfile.write(tmp_path / "in" / "b.flac", wave, rate)
    soundfile.write(tmp_path / "in" / "a16.wav", wave, rate)
    wave[100] += 1
    soundfile.write(tmp_path / "in" / "c.wav", wave, rate)
    audiotok(
        "corpus", "build", tmp_path / "in", "-o", tmp_path / "c", "--codec", small(), "-j", "1"
    )
    done = audiotok("corpus", "dedup", tmp_path / "c")
    assert done.out.splitlines()[:2] == ["a16.wav is a.wav", "b.flac is a.wav"]
    assert "2 of 4 recordings" in done.out


def test_sample_decodes_what_is_there(tmp_path: Path):
    recording(tmp_path / "in" / "a.wav", 0.4)
    recording(tmp_path / "in" / "b.wav", 0.3)
    audiotok(
        "corpus", "build", tmp_path / "in", "-o", tmp_path / "c", "--codec", small(), "-j", "1"
    )
    options = ["-n", "5", "--codec", small()]
    done = audiotok("corpus", "sample", tmp_path / "c", "-o", tmp_path / "heard", *options)
    assert done.code == 0, done.err
    lengths = [soundfile.info(path).frames for path in sorted((tmp_path / "heard").iterdir())]
    assert lengths == [6400, 4800]


def test_usage_counts_as_a_person_would(corpus: Corpus):
    found = usage(corpus, pairs=64)
    whole_codes = [entry.tokens.codes for entry in corpus]
    joined = np.concatenate(whole_codes, 1)
    for k, book in enumerate(found.books):
        _, counts = np.unique(joined[k], return_counts=True)
        p = counts / counts.sum()
        assert book.used == len(counts)
        assert book.entropy == pytest.approx(-(p * np.log2(p)).sum())
        same = sum(int((c[k, 1:] == c[k, :-1]).sum()) for c in whole_codes)
        steps = sum(c.shape[1] - 1 for c in whole_codes)
        assert book.repeats == pytest.approx(same / steps)
        assert str(book.entries).startswith(f"{book.used} of {book.size} entries seen")
        assert book.frames == found.frames
        assert book.dead == (book.size - book.used if found.frames >= 10 * book.size else None)
    assert found.speakers == 9
    assert found.fields["text"] == 60
    printed = audiotok("corpus", "stats", corpus.path)
    assert printed.code == 0
    assert f"codebook  1: {found.books[0].entries}; " in printed.out
    assert audiotok("corpus", "info", corpus.path, "--json").json["recordings"] == 60
