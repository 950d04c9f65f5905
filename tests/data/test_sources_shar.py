"""Lhotse Shar: what lhotse itself wrote is read with lhotse's ids, samples and words."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import recording
from test_sources import heard, listed, tar

from audiotok.audio.audio import AudioFileError
from audiotok.data.locator import ListingError
from audiotok.data.manifest import listing_of
from audiotok.data.recording import Recording, digest_of

lhotse: Any = pytest.importorskip("lhotse")
shar: Any = pytest.importorskip("lhotse.shar")
backend: Any = pytest.importorskip("lhotse.audio.backend")

# Lhotse leaves the tar files that it reads open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def _soundfile() -> Iterator[None]:
    """Let lhotse decode with libsndfile, as audiotok does."""
    with backend.audio_backend("LibsndfileBackend"):
        yield


def cuts(folder: Path, count: int = 5) -> Any:
    """Cuts of recordings of 0.5 s, with texts and speakers; each third has two channels."""
    made = []
    for i in range(count):
        path = recording(folder / "wav" / f"{i}.wav", 0.5, channels=1 + (i % 3 == 2), seed=i)
        whole = lhotse.Recording.from_file(path, recording_id=f"r{i}")
        spoken = lhotse.SupervisionSegment(
            f"s{i}", whole.id, 0.0, 0.5, channel=whole.channel_ids, text=f"say {i}", speaker=f"p{i}"
        )
        cut = whole.to_cut()
        cut.supervisions = [spoken]
        cut.id = f"c.{i}"
        cut.custom = {"score": i}
        made.append(cut.truncate(offset=0.05 * i, duration=0.3, preserve_id=True) if i % 2 else cut)
    return made


def written(folder: Path, kind: str = "flac", size: int | None = 2, made: Any = None) -> Path:
    """A folder of Shar that lhotse's writer made."""
    out = folder / "shar"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out.mkdir()
        with shar.SharWriter(out, fields={"recording": kind}, shard_size=size) as writer:
            for cut in cuts(folder) if made is None else made:
                writer.write(cut)
    return out


def oracle(folder: Path) -> list[Any]:
    """The cuts as lhotse reads them."""
    return list(lhotse.CutSet.from_shar(in_dir=folder))


def agree(items: list[Recording], folder: Path) -> None:
    """Raise unless the recordings are those of lhotse, to the sample."""
    known = oracle(folder)
    assert [item.id for item in items] == [cut.id for cut in known]
    for item, cut in zip(items, known, strict=True):
        assert np.array_equal(heard(item).numpy(), np.atleast_2d(cut.load_audio()))
        assert item.seconds == cut.duration
        assert item.rate == cut.sampling_rate
        if cut.supervisions:
            assert (item.text, item.speaker) == (
                cut.supervisions[0].text,
                cut.supervisions[0].speaker,
            )


@pytest.mark.parametrize("size", [2, 1000, None])
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_it_is_what_lhotse_reads(tmp_path: Path, kind: str, size: int | None):
    folder = written(tmp_path, kind, size)
    items = listed(folder)
    assert len(items) == 5
    assert items[1].fields == {"score": 1, "text": "say 1", "speaker": "p1"}
    assert all(item.locator.is_file is False and item.locator.data is None for item in items)
    agree(items, folder)


def edit(folder: Path, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a cut in the only file of cuts."""
    path = folder / "cuts.000000.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    change(rows[number])
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))


@pytest.mark.parametrize(("start", "duration"), [(0.1, 0.2), (0.03128125, 0.1), (0.0, 0.25)])
def test_a_cut_may_be_a_part_of_its_recording(tmp_path: Path, start: float, duration: float):
    folder = written(tmp_path, "wav", 1000)
    for i in (0, 2):
        edit(folder, i, lambda cut: cut.update(start=start, duration=duration))
    agree(listed(folder), folder)


def test_one_channel_of_two(tmp_path: Path):
    folder = written(tmp_path, "wav", 1000)
    edit(folder, 2, lambda cut: cut.update(type="MonoCut", channel=1))
    agree(listed(folder), folder)
    edit(folder, 2, lambda cut: cut.update(type="MultiCut", channel=[1, 0]))
    with pytest.raises(ListingError, match=r"line 3: not a cut \(a MultiCut that is no stretch"):
        listed(folder)


def test_cuts_without_audio_are_named(tmp_path: Path):
    made = cuts(tmp_path)
    made[1].recording = None
    folder = written(tmp_path, made=made)
    items = listed(folder)
    assert [item.id for item in items] == [f"c.{i}" for i in range(5)]
    assert items[1].fields["text"] == "say 1"
    with pytest.raises(AudioFileError, match=r"^recording\.000000\.tar/c\.1: no audio in this cut"):
        heard(items[1])
    heard(items[2])


def test_tables_beside_the_cuts_are_carried_through(tmp_path: Path):
    folder = written(tmp_path)
    for i, ids in enumerate((["c.0", "c.1"], ["c.2", "c.3"], ["c.4"])):
        rows = [{"cut_id": name, "accent": name[-1]} for name in ids]
        text = "\n".join(map(json.dumps, rows))
        (folder / f"accent.00000{i}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    items = listed(folder)
    assert [item.fields["accent"] for item in items] == list("01234")
    assert [cut.accent for cut in oracle(folder)] == list("01234")
    (folder / "accent.000001.jsonl.gz").write_bytes(gzip.compress(b'{"cut_id": "c.9"}\n'))
    with pytest.raises(ListingError, match=r"cuts\.000001.*line 1: .*`accent` has \"c\.9\" in its"):
        listed(folder)


def test_other_fields_in_tar_files_do_not_disturb(tmp_path: Path):
    made = cuts(tmp_path, 3)
    for cut in made:
        cut.target = cut.recording
    out = tmp_path / "shar"
    out.mkdir()
    with (
        warnings.catch_warnings(),
        shar.SharWriter(out, fields={"recording": "wav", "target": "wav"}) as writer,
    ):
        warnings.simplefilter("ignore")
        for cut in made:
            writer.write(cut)
    items = listed(out)
    assert [item.fields.get("score") for item in items] == [0, 1, 2]
    assert "target" not in items[0].fields
    agree(items, out)


def swap(folder: Path) -> None:
    path = folder / "cuts.000000.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    path.write_bytes(gzip.compress(b"\n".join(lines[::-1])))


def shorten(folder: Path) -> None:
    path = folder / "cuts.000000.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).splitlines()[0]))


def cut_off(folder: Path) -> None:
    path = folder / "recording.000001.tar"
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            swap,
            r"cuts\.000000\.jsonl\.gz, line 1: .*recording\.000000\.tar has \"c\.0\" in its place",
        ),
        (shorten, r"recording\.000000\.tar: has more recordings than cuts\.000000\.jsonl\.gz"),
        (cut_off, r"recording\.000001\.tar: damaged"),
        (lambda f: (f / "recording.000001.tar").unlink(), r"cuts\.000001.*: no tar file of rec"),
        (lambda f: tar(f / "recording.000000.tar", {"c.0.wav": b"x"}), "not followed by its descr"),
        (
            lambda f: tar(f / "recording.000000.tar", {}),
            r"recording\.000000\.tar has nothing",
        ),
    ],
)
def test_what_does_not_fit_together_is_one_line(
    tmp_path: Path, damage: Callable[[Path], object], words: str
):
    folder = written(tmp_path)
    damage(folder)
    with pytest.raises(ListingError, match=words) as raised:
        listed(folder)
    assert "\n" not in str(raised.value)


def test_one_file_of_cuts_or_a_range_is_a_source_too(tmp_path: Path):
    folder = written(tmp_path)
    assert [r.id for r in listed(folder / "cuts.000001.jsonl.gz")] == ["c.2", "c.3"]
    assert len(listed(f"{folder}/cuts.{{000000..000001}}.jsonl.gz")) == 4
    plain = tmp_path / "cuts.jsonl"
    plain.write_text(
        json.dumps(lhotse.Recording.from_file(tmp_path / "wav/0.wav").to_cut().to_dict())
    )
    assert type(listing_of(str(plain))).__name__ == "Lhotse"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "other"


def test_shards_one_by_one_are_the_listing(elsewhere: Path, monkeypatch: pytest.MonkeyPatch):
    written(elsewhere.parent)
    source = listing_of("shar")
    files = source.files("shar")
    assert files == [f"shar/cuts.00000{i}.jsonl.gz" for i in range(3)]
    whole = list(source.items("shar"))
    samples = list(map(heard, whole))
    assert [r for file in files for r in source.items_of("shar", file)] == whole
    monkeypatch.chdir(elsewhere)
    folder = str(elsewhere.parent)
    there = [r for file in files for r in source.absolute_items_of("shar", file, folder)]
    assert list(map(digest_of, there)) == list(map(digest_of, whole))
    assert all(map(torch.equal, map(heard, there), samples))
