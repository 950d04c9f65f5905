"""Lhotse's cuts and recordings: the samples are lhotse's, and nothing that they say is lost."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import recording
from test_sources import heard, listed

from audiotok import Audio
from audiotok.audio.audio import AudioFileError
from audiotok.data.locator import ListingError


def made(path: Path, rate: int = 16000, seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    known = {"sampling_rate": rate, "num_samples": round(rate * seconds), "duration": seconds}
    audio = {"type": "file", "channels": [0], "source": str(path)}
    return {"id": "r", "sources": [audio], **known, "channel_ids": [0], **more}


def cut(path: Path, *spoken: dict[str, Any], **more: Any) -> dict[str, Any]:
    span = {"id": "c", "start": 0.0, "duration": 1.0, "channel": 0}
    return {
        **span,
        "supervisions": list(spoken),
        "recording": made(path),
        "type": "MonoCut",
        **more,
    }


def said(start: float, text: str, speaker: str = "a", **more: Any) -> dict[str, Any]:
    span = {"id": text, "recording_id": "r", "start": start, "duration": 0.1, "channel": 0}
    return {**span, "text": text, "speaker": speaker, **more}


def rows(folder: Path, *lines: dict[str, Any]) -> list[Any]:
    (folder / "c.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return listed(folder / "c.jsonl")


@pytest.mark.parametrize(
    ("start", "duration", "first", "count"),
    [
        (0.00003, 0.1, 0, 1600),  # 0.48 samples
        (0.00004, 0.1, 1, 1600),  # 0.64
        (0.03128125, 0.0001, 501, 2),  # 500.5 and 1.6: the start up, the length by itself
        (0.10003, 0.20003, 1600, 3200),  # 1600.48 and 3200.48, whose sum is 4800.96
        (0.10005, 0.20005, 1601, 3201),  # 1600.8 and 3200.8, whose sum is 4801.6
    ],
)
def test_start_and_length_are_rounded_each_as_lhotse_does(
    tmp_path: Path, start: float, duration: float, first: int, count: int
):
    path = recording(tmp_path / "a.wav", 1.0)
    (item,) = rows(tmp_path, cut(path, start=start, duration=duration))
    assert torch.equal(heard(item), Audio.load(path).samples[:, first : first + count])


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_the_samples_are_those_of_lhotse(tmp_path: Path, rate: int):
    lhotse = pytest.importorskip("lhotse")
    whole = lhotse.Recording.from_file(recording(tmp_path / "a.wav", 2.0, rate))
    chance, cuts = random.Random(rate), []
    for i in range(60):
        start = round(chance.uniform(0, 1), chance.choice([3, 4, 5]))
        length = round(chance.uniform(0.01, 0.9), chance.choice([3, 4, 5]))
        cuts.append(lhotse.MonoCut(f"c{i}", start, length, 0, recording=whole))
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl")
    items = listed(tmp_path / "cuts.jsonl")
    assert not any(item.locator.cut for item in items), "audiotok reads them itself"
    for item, each in zip(items, cuts, strict=True):
        assert np.array_equal(heard(item).numpy(), each.load_audio())


def test_what_is_said_is_joined_in_the_order_of_time(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 1.0)
    (item,) = rows(tmp_path, cut(path, said(0.6, "three"), said(0.0, "one"), said(0.3, "two")))
    assert item.fields == {"text": "one two three", "speaker": "a"}


def test_a_cut_of_two_speakers_has_neithers_name(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 1.0)
    spoken = [said(0.5, "yes", "b", language="en"), said(0.0, "no", "a", language="en")]
    (item,) = rows(tmp_path, cut(path, *spoken))
    assert item.fields == {"text": "no yes", "speakers": ["a", "b"], "language": "en"}


def test_what_is_said_in_a_mix_is_told_and_what_is_muted_is_not(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 1.0)
    tracks = [
        {"type": "MonoCut", "offset": 0.5, "cut": cut(path, said(0.1, "later"))},
        {"type": "MonoCut", "offset": 0.0, "cut": cut(path, said(0.2, "first"))},
        {"type": "MonoCut", "offset": 9.0, "cut": cut(path, said(0.0, "never")), "mute": True},
    ]
    (item,) = rows(tmp_path, {"id": "m", "type": "MixedCut", "tracks": tracks})
    assert item.fields == {"text": "first later", "speaker": "a"}
    assert item.seconds == 1.5


def test_a_mix_says_what_lhotse_says_of_it(tmp_path: Path):
    lhotse = pytest.importorskip("lhotse")
    whole = lhotse.Recording.from_file(recording(tmp_path / "a.wav", 1.0))
    spoken = [lhotse.SupervisionSegment("s", whole.id, 0.2, 0.5, text="hey", speaker="z")]
    one = lhotse.MonoCut("c", 0, 1, 0, recording=whole, supervisions=spoken)
    both = one.pad(2).append(one.with_id("d").perturb_speed(1.1)).pad(4, direction="left")
    lhotse.CutSet.from_cuts([both]).to_file(tmp_path / "cuts.jsonl")
    (item,) = listed(tmp_path / "cuts.jsonl")
    assert item.fields == {"text": "hey hey", "speaker": "z"}
    assert item.seconds == pytest.approx(both.duration)
    assert np.allclose(heard(item).numpy(), both.load_audio(), atol=1e-6)


def test_recordings_are_found_by_their_look(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 1.0, channels=2)
    one = made(path, sources=[{"type": "file", "channels": [0, 1], "source": str(path)}])
    (item,) = rows(tmp_path, one)
    assert (item.id, item.seconds, item.fields) == ("r", 1.0, {})
    assert torch.equal(heard(item), Audio.load(path).samples)


def test_recordings_that_lhotse_lists(tmp_path: Path):
    lhotse = pytest.importorskip("lhotse")
    for i in range(3):
        recording(tmp_path / f"{i}.wav", 0.5, seed=i)
    some = [lhotse.Recording.from_file(tmp_path / f"{i}.wav") for i in range(3)]
    two = lhotse.AudioSource("file", [1], str(tmp_path / "1.wav"))
    both = lhotse.Recording("two", [*some[0].sources, two], 16000, 8000, 0.5, [0, 1])
    every = [*some, some[0].perturb_speed(1.1), both]
    lhotse.RecordingSet.from_recordings(every).to_file(tmp_path / "recordings.jsonl.gz")
    items = listed(tmp_path / "recordings.jsonl.gz")
    assert [item.id for item in items] == [each.id for each in every]
    for item, each in zip(items, every, strict=True):
        assert np.allclose(heard(item).numpy(), each.load_audio(), atol=1e-6)


def test_a_file_that_is_shorter_than_its_manifest_says_is_refused(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 0.9)
    short, near = rows(tmp_path, cut(path), cut(path, duration=0.92))
    with pytest.raises(AudioFileError, match=r"c: asked for to 1.00 s, but it ends at 0.90 s"):
        heard(short)
    assert heard(near).shape == (1, 14400)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": -1}, "start is -1, not a number from 0"),
        ({"start": True}, "start is true, not a number"),
        ({"duration": "1"}, 'duration is "1", not a number'),
        ({"duration": 10**400}, "not a number|digits"),
        ({"duration": 1e300}, r"duration is 1e\+300, not a number from 0 to 1e\+09"),
        ({"channel": None}, "channel is null, not a whole number"),
        ({"id": None}, "its id is null"),
        ({"supervisions": [{"start": "x"}]}, 'start of a supervision is "x"'),
        ({"supervisions": 3}, "not a cut"),
        ({"custom": 3}, "not a cut"),
        ({"recording": []}, None),
        ({"recording": {"sources": ["x"]}}, "it has no 'sampling_rate'"),
        ({"type": "DanceCut"}, 'its type is "DanceCut"'),
        ({"type": "MixedCut", "tracks": []}, "not a cut"),
        ({"type": "MixedCut", "tracks": [[]]}, "not a cut"),
    ],
)
def test_a_cut_that_is_none_is_told_with_its_line(
    tmp_path: Path, change: dict[str, Any], words: str | None
):
    good = cut(Path("a.wav"))
    if words is None:  # lhotse will say it
        assert len(rows(tmp_path, good, good | change)) == 2
        return
    with pytest.raises(ListingError, match=rf"c\.jsonl, line 2: .*({words})") as caught:
        rows(tmp_path, good, good | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[" * 100_000, "nested more than 100 levels"),
        ('{"id": "c", "duration": 1e400}', "beyond the largest number"),
        ('{"id": "c", "duration": NaN}', "NaN is not a number"),
        ("[1]", "not a cut"),
        ("null", "not a cut"),
        ('{"id": "c"}', "it has no 'type'"),
    ],
)
def test_a_line_that_is_no_cut_is_told(tmp_path: Path, line: str, words: str):
    (tmp_path / "c.jsonl").write_text(json.dumps(cut(Path("a.wav"))) + "\n" + line)
    with pytest.raises(ListingError, match=rf"c\.jsonl, line 2: .*{words}"):
        listed(tmp_path / "c.jsonl")
