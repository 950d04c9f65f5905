"""egs/pack_speech.py: what is trained on from its tar file is the speech that was packed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from audiotok import Audio
from audiotok.data import read_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    audio = Audio.load(ROOT / "egs/data/reading.flac")
    rows = ["path\tsplit\tspeaker\ttext"]
    for i in range(6):
        audio[i * audio.rate : (i + 1) * audio.rate].save(tmp_path / f"{i}.wav")
        rows.append(f"{i}.wav\t{'dev' if i == 5 else 'train'}\tann\tword {i}")
    path = tmp_path / "list.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def packed(listing: Path, *options: str) -> Path:
    out = listing.with_suffix(".tar")
    example = str(ROOT / "egs/pack_speech.py")
    subprocess.run([sys.executable, example, str(listing), str(out), *options], check=True)
    return out


def test_texts_splits_and_lengths_are_kept(listing: Path):
    recordings = read_manifest(packed(listing), split=None)
    assert sorted(r.text for r in recordings) == [f"word {i}" for i in range(6)]
    assert [r.text for r in recordings if r.split == "dev"] == ["word 5"]
    assert {r.speaker for r in recordings} == {"ann"}
    assert all(r.load().seconds == pytest.approx(1, abs=1e-3) for r in recordings)


def test_no_more_than_the_megabytes_asked_for(listing: Path):
    assert packed(listing, "0.03").stat().st_size <= 30_000
    assert 0 < len(read_manifest(packed(listing, "0.03"), split=None)) < 6


def test_a_size_alone_leaves_the_rate_as_it_is(listing: Path):
    def sizes(*options: str) -> list[int]:
        with tarfile.open(packed(listing, *options)) as tar:
            return [member.size for member in tar]

    alone = sizes("1")
    assert alone == sizes() == sizes("1", "32")
    assert sum(alone) < sum(sizes("1", "64"))
