"""Tasks that hold codes against phones, speakers and text: on codes that carry them, or do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import coded, found, value

from audiotok.audio.audio import Audio
from audiotok.data import alignment as phones
from audiotok.data.alignment import align, words_of
from audiotok.evaluation.probes.readout import Budget
from audiotok.evaluation.tasks.base import Bench
from audiotok.evaluation.tasks.dasb import Dasb
from audiotok.evaluation.tasks.information import Information, frame_labels
from audiotok.evaluation.tasks.nearest import Nearest
from audiotok.evaluation.tasks.text_alignment import TextAlignment

READING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"
QUICK = Budget(width=16, hidden=32, steps=120, batch=8, rate=1e-2)

# -- phones -------------------------------------------------------------------------------------


def test_words_of_a_text():
    assert words_of("Lord, but I'm 'glad' -- Phil!") == ["lord", "but", "i'm", "glad", "phil"]


def test_alignment_of_real_speech():
    pytest.importorskip("pocketsphinx")
    text = "It was the best of times, it was the worst of times, it was the age of wisdom, it was "
    text += "the age of foolishness, it was the epoch of belief,"
    found = align(Audio.load(READING), text)
    assert [word.label for word in found.words] == words_of(text)
    starts = [span.start for span in found.phones]
    assert starts == sorted(starts)
    assert 0 <= starts[0] < found.phones[-1].end <= 9.65
    best = found.words[3]
    inside = [p.label for p in found.phones if best.start <= p.start < best.end]
    assert inside == ["B", "EH", "S", "T"]  # as CMU's dictionary has it
    assert not any("SIL" in p.label for p in found.phones)
    # "times" ends in a pause, so what follows comes later than it ends.
    assert found.words[6].start - found.words[5].end > 0.1


def test_what_cannot_be_aligned_is_said():
    pytest.importorskip("pocketsphinx")
    audio = Audio(torch.zeros(1, 16000), 16000)
    with pytest.raises(ValueError, match="not in pocketsphinx's dictionary: qwrtz"):
        align(audio, "a qwrtz")
    with pytest.raises(ValueError, match="no text"):
        align(audio, "?!")


def test_a_frame_has_the_phone_of_its_middle():
    spans = [phones.TimedSpan("a", 0.0, 0.025), phones.TimedSpan("b", 0.035, 0.07)]
    # Middles at 0.01, 0.03, 0.05, 0.07 s.
    assert frame_labels(spans, ["a", "b"], 4, 50).tolist() == [0, -1, 1, -1]


# -- information ----------------------------------------------------------------------------------


def spoken(folder: Path, *, tied: bool, n: int = 24, frames: int = 120) -> tuple[Bench, str]:
    """Recordings of four phones by four speakers: codebook 1 says the phone, codebook 2 the
    speaker, or both say nothing."""
    random = np.random.default_rng(0)
    rows, fields, lines = [], [], ["path\tspeaker\tphone\tstart\tend"]
    for i in range(n):
        said = random.integers(0, 4, frames // 4).repeat(4)  # a phone lasts 4 frames
        codes = np.stack([2 * said + random.integers(0, 2, frames), np.full(frames, i % 4)])
        rows.append(codes if tied else random.integers(0, 8, (2, frames)))
        fields.append({"path": f"{i}.wav", "speaker": f"s{i % 4}"})
        lines += [
            f"{i}.wav\ts{i % 4}\t{'aeiu'[said[f]]}\t{f / 50}\t{(f + 4) / 50}"
            for f in range(0, frames, 4)
        ]
    table = folder / "phones.tsv"
    table.write_text("\n".join(lines) + "\n")
    return coded(rows, fields), str(table)


def test_codes_that_say_phone_and_speaker(tmp_path: Path):
    bench, table = spoken(tmp_path, tied=True)
    got = found(Information(table), bench)
    assert value(got, "information of codebook 1 on phones") == pytest.approx(2, abs=0.05)
    assert value(got, "information of codebook 2 on phones") == pytest.approx(0, abs=0.03)
    assert value(got, "information of codebook 2 on the speaker") == pytest.approx(2, abs=0.4)
    assert value(got, "information of codebook 1 on the speaker") == pytest.approx(0, abs=0.03)
    assert value(got, "phones right, from the code of codebook 1") == 100
    # It looks at codebook 1, which says nothing of the speaker.
    assert value(got, "speakers right, from a second of codebook 1") < 60


def test_codes_that_say_nothing(tmp_path: Path):
    bench, table = spoken(tmp_path, tied=False)
    got = found(Information(table), bench)
    for what in ("phones", "the speaker"):
        for k in (1, 2):
            name = f"information of codebook {k} on {what}"
            assert value(got, name) == pytest.approx(0, abs=0.02)
    right = value(got, "phones right, from the code of codebook 1")
    assert right == pytest.approx(25, abs=8)


def test_speakers_are_told_by_a_codebook_that_knows_them(tmp_path: Path):
    bench, table = spoken(tmp_path, tied=True)
    made = {r.path: bench.encode(r) for r in bench.recordings}
    swapped = {path: replace(t, codes=t.codes[::-1].copy()) for path, t in made.items()}
    got = found(Information(table), replace(bench, encode=lambda r: swapped[r.path]))
    assert value(got, "speakers right, from a second of codebook 1") == 100


def test_what_is_missing_for_information_is_said(tmp_path: Path):
    bench = coded([np.zeros((1, 20), int)] * 2)
    (tmp_path / "empty.tsv").write_text("path\tphone\tstart\tend\n")
    got = found(Information(str(tmp_path / "empty.tsv")), bench)
    assert "2 recordings are not in" in got["information on phones"].note
    assert "two speakers" in got["information on the speaker"].note
    (tmp_path / "bad.tsv").write_text("path\tphone\tstart\nx\ta\t0\n")
    with pytest.raises(ValueError, match=r"bad\.tsv: not a table of path, phone, start and end"):
        found(Information(str(tmp_path / "bad.tsv")), bench)
    with pytest.raises(ValueError, match="cannot be read"):
        found(Information(str(tmp_path / "none.tsv")), bench)


# -- text -----------------------------------------------------------------------------------------


def texts(*, tied: bool, n: int = 48, codebooks: int = 2) -> Bench:
    """Random words of random letters by six speakers; a code of codebook 1 for every letter, which
    lasts three frames, or codes that have nothing to do with it."""
    random = np.random.default_rng(0)
    rows, fields = [], []
    for i in range(n):
        text = " ".join("".join(random.choice(list("aeiou"), 3)) for _ in range(3))
        codes = random.integers(0, 8, (codebooks, 3 * len(text)))
        if tied:
            codes[0] = np.array(["aeiou ".index(c) for c in text]).repeat(3)
            codes[0, 2::3] = 6  # between letters, so that a double one is two
        rows.append(codes)
        fields.append({"text": text, "speaker": str(i % 6)})
    return coded(rows, fields)


def aligned(bench: Bench, **more: int) -> dict:
    task = TextAlignment()
    task.budget = replace(QUICK, **more)
    return found(task, bench)


def test_codes_that_spell_the_text_are_read_and_tell_it():
    got = aligned(texts(tied=True))
    for of in ("codebook 1", "codebooks 1 to 2"):
        assert value(got, f"WER* of {of}") < 10
        # At least the entropy of a letter: other texts are as good as impossible.
        assert value(got, f"information on the text of {of}") > np.log2(5)
        assert value(got, f"texts left out of {of}") == 0


def test_codes_that_have_nothing_to_do_with_the_text_tell_nothing_of_it():
    got = aligned(texts(tied=False), steps=40)
    assert value(got, "WER* of codebook 1") > 80
    told = got["information on the text of codebook 1"]
    assert told.low is not None
    assert told.high is not None
    assert told.low - 0.05 <= 0 <= told.high + 0.05
    assert value(got, "information on the text of codebook 1") == pytest.approx(0, abs=0.1)


def test_texts_longer_than_their_codes_are_left_out_and_counted():
    bench = texts(tied=True, codebooks=1)
    made = {r.path: bench.encode(r) for r in bench.recordings}
    for i, recording in enumerate(bench.recordings):
        if i % 2:
            made[recording.path] = made[recording.path].cut(0, 0.1)
    got = aligned(replace(bench, encode=lambda r: made[r.path]), steps=2)
    assert 20 < value(got, "texts left out of codebook 1") < 80
    assert "codebooks 1 to 1" not in str(got)


def test_what_is_missing_for_text_is_said():
    with pytest.raises(ValueError, match="no recording has text"):
        TextAlignment().run(coded([np.zeros((1, 20), int)]))
    with pytest.raises(ValueError, match="at least two in `speaker`"):
        TextAlignment().run(coded([np.zeros((1, 20), int)], [{"text": "a"}]))
    with pytest.raises(ValueError, match="small, paper"):
        TextAlignment("large")


# -- DASB -----------------------------------------------------------------------------------------


def classes(order: tuple[int, ...] = (0, 1, 2), n: int = 48) -> Bench:
    """The second of three codebooks (before `order`) says which of two classes a recording is of,
    in every other frame; the rest is chance."""
    random = np.random.default_rng(0)
    rows, fields = [], []
    for i in range(n):
        codes = random.integers(0, 8, (3, 30))
        codes[1, ::2] = i % 2
        rows.append(codes[list(order)])
        mood = ("calm", "angry")[i % 2]
        fields.append({"speaker": str(i % 8), "mood": mood})
    return coded(rows, fields)


def judged(option: str, bench: Bench, **more: int) -> dict:
    task = Dasb(option)
    task.budget = replace(QUICK, **more)
    return found(task, bench)


def test_a_class_is_found_and_so_is_the_codebook_that_carries_it():
    got = judged("classify=mood", classes())
    for head in ("x-vector", "linear"):
        assert value(got, f"mood right, {head} head") == 100
        weights = [value(got, f"weight of codebook {k}, {head} head") for k in (1, 2, 3)]
        assert sum(weights) == pytest.approx(1, abs=1e-4)
        assert max(weights) == weights[1]
    assert "2 classes" in got["mood right, linear head"].note


def test_the_order_of_codebooks_does_not_matter():
    got = judged("classify=mood", classes(order=(1, 2, 0)))
    for head in ("x-vector", "linear"):
        assert value(got, f"mood right, {head} head") == 100
        weights = [value(got, f"weight of codebook {k}, {head} head") for k in (1, 2, 3)]
        assert max(weights) == weights[0]


def test_a_class_that_is_not_in_the_codes_is_not_found():
    bench = classes()
    random = np.random.default_rng(1)
    recordings = [
        replace(r, fields={**r.fields, "mood": str(random.integers(2))}) for r in bench.recordings
    ]
    got = judged("classify=mood", replace(bench, recordings=recordings), steps=30)
    mood = got["mood right, linear head"]
    assert mood.low is not None
    assert mood.low < 60


def test_speakers_are_tested_on_other_recordings_of_theirs():
    random = np.random.default_rng(0)
    rows = [np.where(random.random((1, 30)) < 0.7, i % 3, 5) for i in range(24)]
    bench = coded(rows, [{"speaker": str(i % 3)} for i in range(24)])
    got = judged("", bench)
    assert value(got, "speaker right, linear head") == 100
    assert got["speaker right, linear head"].n == 6
    assert value(got, "nominal rate") == pytest.approx(0.15)
    assert "low" in got["nominal rate"].note


def test_a_keyword_column_is_taken_as_it_is():
    bench = classes()
    recordings = [
        replace(r, fields={**r.fields, "keyword": r.fields["mood"]}) for r in bench.recordings
    ]
    got = judged("keyword", replace(bench, recordings=recordings))
    assert value(got, "keyword right, linear head") == 100


def uttered(n: int = 24) -> Bench:
    """Recordings of four phones of five frames each, in an order of their own, which the second
    codebook spells; the third says who speaks."""
    random, rows, fields, alignments = np.random.default_rng(0), [], [], []
    for i in range(n):
        said = random.permutation(4)
        codes = np.stack([random.integers(0, 8, 20), said.repeat(5), np.full(20, i % 6)])
        rows.append(codes)
        fields.append({"speaker": str(i % 6), "text": "said", "language": "en"})
        step = 5 * 0.02
        spans = [phones.TimedSpan("ABCD"[p], k * step, (k + 1) * step) for k, p in enumerate(said)]
        alignments.append(phones.Alignment(spans, [phones.TimedSpan("said", 0.0, 4 * step)]))
    bench = coded(rows, fields)
    known = {id(r): each for r, each in zip(bench.recordings, alignments, strict=True)}
    return replace(bench, alignments=known)


def test_phones_are_cut_out_of_codes():
    bench = uttered()
    assert float(bench.codec.frame_rate) == 50
    got = judged("phone", bench)
    for head in ("x-vector", "linear"):
        right = got[f"phone right, {head} head"]
        assert right.value == 100
        assert right.n == 8  # recordings of the two speakers held out, not their 32 phones
        assert "4 classes, 64 to learn from" in right.note
        assert max(value(got, f"weight of codebook {k}, {head} head") for k in (1, 3)) < value(
            got, f"weight of codebook 2, {head} head"
        )


def test_an_alignment_is_made_once_for_all_codecs(monkeypatch: pytest.MonkeyPatch):
    bench, calls = uttered(8), []
    known = list(bench.alignments.values())

    def counted(audio: Audio, text: str) -> phones.Alignment:
        calls.append(text)
        return known[(len(calls) - 1) % 8]

    monkeypatch.setattr("audiotok.evaluation.tasks.base.align", counted)
    monkeypatch.setattr(Bench, "original", lambda bench, recording: None)
    bench = replace(bench, alignments={})
    judged("phone", bench, steps=1)
    found(Information(), replace(bench, seed=1))
    assert calls == ["said"] * 8


def test_the_nearest_recording_has_the_label_that_codes_tell():
    bench = uttered()
    right = found(Nearest(), bench)["speaker of the nearest recording"]
    assert (right.value, right.n) == (100, 24)  # by the third codebook
    assert "6 of them; chance 13.0 %" in right.note
    spelt = replace(bench, encode=lambda r: bench.encode(r).first(2))  # which say the phones
    by_phones = found(Nearest(), replace(spelt, codebooks=2))[right.name].value
    assert by_phones is not None
    assert by_phones < 60
    with pytest.raises(ValueError, match="the manifest's 'mood' must name two or more"):
        Nearest("classify=mood").run(bench)


def test_asr_reads_codes_that_spell():
    got = judged("asr", texts(tied=True))
    assert value(got, "word error rate") < 10
    assert value(got, "character error rate") < 5
    assert value(got, "weight of codebook 1") + value(got, "weight of codebook 2") == pytest.approx(
        1, abs=1e-4
    )


def test_options_of_dasb():
    assert Dasb("asr=paper").seeds == 3
    assert Dasb("classify=emotion").kind == "emotion"
    assert Dasb("classify=emotion=paper").seeds == 3
    for wrong in ("classify", "classify=", "asr=large", "emotion"):
        with pytest.raises(
            ValueError, match="dasb reads speaker, keyword, phone, asr or classify="
        ):
            Dasb(wrong)
    with pytest.raises(ValueError, match="nothing in a column 'mood'"):
        Dasb("classify=mood").run(coded([np.zeros((1, 20), int)]))
    with pytest.raises(ValueError, match="needs two classes with 4 recordings"):
        Dasb("speaker").run(coded([np.zeros((1, 20), int)], [{"speaker": "a"}]))
