"""The command line as a person uses it: every command, every option, what it prints and leaves."""

from __future__ import annotations

import os
import pty
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commandline import COMMAND, Done, audiotok, environment, files, process, recording, small

import audiotok as package
from audiotok._platform.registry import presets
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load, save
from audiotok.tokens.tokens import Tokens

EXAMPLES = {
    "bench": [
        "audiotok bench --codec speech,opus:6 --data talks --metrics pesq,stoi -o out",
        "audiotok bench recipes/bench_speech.toml --data corpus.tsv -o out -j 2",
        "audiotok bench --codec folder:made --data talks --metrics wer,speaker -o out",
    ],
    "encode": [
        "audiotok encode talk.wav -o talk.tok",
        "audiotok encode recordings/ -o tokens/ --jobs 4",
        "ffmpeg -i film.mkv -f wav - | audiotok encode - -o film.tok",
    ],
    "decode": [
        "audiotok decode talk.tok -o talk.wav",
        "audiotok decode tokens/ -o decoded/ --format flac --codebooks 4",
    ],
    "info": ["audiotok info talk.tok", "audiotok info speech --json"],
    "codecs": ["audiotok codecs", "audiotok codecs --json"],
    "verify": ["audiotok verify talk.tok", "audiotok verify tokens/"],
    "metrics": [
        "audiotok metrics",
        "audiotok bench --codec speech --data talks/ --metrics pesq,stoi:extended",
    ],
    "report": [
        "audiotok report runs/bench",
        'audiotok report runs/bench --clips 20 --title "Four rates of speech"',
    ],
    "roundtrip": ["audiotok roundtrip talk.wav -o roundtrip/"],
    "plot": [
        "audiotok plot talk.wav",
        "audiotok plot talk.wav --codec speech --start 2 --end 5 -o talk.svg",
        "audiotok plot talk.tok --sound",
    ],
    "manifest": [
        "audiotok manifest recordings/ -o recordings.tsv",
        "audiotok manifest LibriSpeech/ -o ls.jsonl --split dev=0.02",
    ],
    "train": [
        "audiotok train recipes/speech.toml --dry-run",
        "audiotok train recipes/speech.toml -o runs/speech --set data.batch=32",
        "accelerate launch --module audiotok train recipes/speech.toml --device cuda",
    ],
}


def encode(*arguments: str | Path, stdin: bytes = b"") -> Done:
    return audiotok("encode", *arguments, "--codec", small(), stdin=stdin)


def decode(*arguments: str | Path) -> Done:
    return audiotok("decode", *arguments, "--codec", small())


def good(done: Done) -> Done:
    assert done.code == 0, done
    assert not done.lines
    return done


def refused(done: Done, code: int, *says: str | Path) -> None:
    """One line on stderr, with these words in it, and nothing on stdout."""
    assert done.code == code, done
    assert len(done.lines) == 1
    assert all(str(word) in done.err for word in says), done.err
    assert not done.out


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    return recording(tmp_path / "talk.wav")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of recordings, with things in it that are none."""
    folder = tmp_path / "in"
    recording(folder / "a.wav", seed=1)
    recording(folder / "deep/er/b.flac", seed=2)
    recording(folder / "deep/C.WAV", seed=3)
    recording(folder / ".hidden/d.wav")
    (folder / "notes.txt").write_text("no audio")
    return folder


# ---- encode


def test_a_file_is_encoded_beside_itself(talk: Path):
    done = good(encode(talk))
    tokens = Tokens.load(talk.with_suffix(".tok"))
    assert tokens == package.load(small()).encode(Audio.load(talk))
    assert files(talk.parent) == ["talk.tok", "talk.wav"]
    facts = dict(line.split(None, 1) for line in done.out.splitlines())
    assert facts["file"] == str(talk.with_suffix(".tok"))
    assert facts["duration"] == "0.500 s"
    assert facts["frames"] == "25"
    assert facts["nominal"] == "rate  1.200 kbps"
    assert {"real", "time", "speed"} <= facts.keys()


def test_the_codec_that_ships_is_the_default(talk: Path):
    good(audiotok("encode", talk))
    assert Tokens.load(talk.with_suffix(".tok")).fingerprint == package.load().fingerprint
    good(audiotok("decode", talk.with_suffix(".tok"), "-o", talk.with_name("back.wav")))
    assert soundfile.info(talk.with_name("back.wav")).frames == 8000


def test_several_files_into_a_folder(tmp_path: Path):
    a, b = recording(tmp_path / "a.wav"), recording(tmp_path / "b.ogg")
    done = good(encode(a, b, "-o", tmp_path / "out"))
    assert files(tmp_path / "out") == ["a.tok", "b.tok"]
    assert done.out == "encoded 2 files, 0.0 minutes of audio\n"


def test_several_files_beside_themselves(tmp_path: Path):
    a, b = recording(tmp_path / "x/a.wav"), recording(tmp_path / "y/a.wav")
    good(encode(a, b))
    assert files(tmp_path) == ["x/a.tok", "x/a.wav", "y/a.tok", "y/a.wav"]


def test_a_folder_keeps_its_tree(tree: Path, tmp_path: Path):
    good(encode(tree, "-o", tmp_path / "out"))
    assert files(tmp_path / "out") == ["a.tok", "deep/C.tok", "deep/er/b.tok"]


def test_a_glob_keeps_the_tree_below_its_first_wildcard(tree: Path, tmp_path: Path):
    good(encode(f"{tree}/**/*.[wf]*", "-o", tmp_path / "out"))
    assert files(tmp_path / "out") == ["a.tok", "deep/er/b.tok"]


def test_stdin(talk: Path, tmp_path: Path):
    good(encode("-", "-o", tmp_path / "piped.tok", stdin=talk.read_bytes()))
    good(encode("-", "-o", tmp_path, stdin=talk.read_bytes()))
    good(encode(talk))
    expected = (tmp_path / "talk.tok").read_bytes()
    assert (tmp_path / "piped.tok").read_bytes() == expected
    assert (tmp_path / "stdin.tok").read_bytes() == expected


def test_stdin_that_never_comes(tmp_path: Path):
    refused(encode("-", "-o", tmp_path / "x.tok"), 1, "<stdin>: nothing came")
    assert files(tmp_path) == []


def test_out_as_a_file_a_folder_and_a_new_folder(talk: Path, tmp_path: Path):
    (tmp_path / "there.tok").mkdir()
    good(encode(talk, "-o", tmp_path / "new/x.tok"))
    good(encode(talk, "-o", tmp_path / "there.tok"))
    good(encode(talk, "-o", tmp_path / "folder"))
    made = ["folder/talk.tok", "new/x.tok", "talk.wav", "there.tok/talk.tok"]
    assert files(tmp_path) == made


@pytest.mark.parametrize(
    ("paths", "out", "says"),
    [
        (["talk.wav", "talk2.wav"], "x.tok", "name a folder"),
        (["."], "x.tok", "name a folder"),
        (["talk.wav"], "x.zip", "neither a folder nor a new file (.tok)"),
        (["talk.wav", "talk2.wav"], "talk.wav", "neither a folder nor a new file"),
        (["-"], None, "--out"),
        (["."], None, "--out"),
    ],
)
def test_an_out_that_does_not_suit(
    paths: list[str], out: str | None, says: str, talk: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(talk.parent)
    recording(talk.with_name("talk2.wav"))
    refused(encode(*paths, *([] if out is None else ["-o", out])), 2, says)
    assert files(talk.parent) == ["talk.wav", "talk2.wav"]


def test_codebooks(talk: Path):
    good(encode(talk, "--codebooks", "2"))
    whole = package.load(small()).encode(Audio.load(talk))
    assert Tokens.load(talk.with_suffix(".tok")) == whole.first(2)


@pytest.mark.parametrize("codebooks", ["0", "5"])
def test_codebooks_that_there_are_not(talk: Path, codebooks: str):
    refused(encode(talk, "-k", codebooks), 2, f"--codebooks {codebooks}", "1 to 4")


def test_channels(tmp_path: Path):
    stereo = recording(tmp_path / "stereo.wav", channels=2)
    done = encode(stereo, "--channels", "split")
    assert good(done).out.count("2 x 4") == 1
    codec, audio = package.load(small()), Audio.load(stereo)
    split = Tokens.load(stereo.with_suffix(".tok"))
    assert split == codec.encode(audio, split=True)
    assert [split.channel(i).codes.tolist() for i in (0, 1)] == [
        codec.encode(one).codes.tolist() for one in audio.split()
    ]
    refused(encode(stereo), 1, "stereo.tok", "channels split", "--force")
    assert encode(stereo, "--force").code == 0
    assert Tokens.load(stereo.with_suffix(".tok")) == codec.encode(audio)
    refused(encode(stereo, "--channels", "split"), 1, "stereo.tok", "channels mixed", "--force")


def test_what_is_done_is_skipped(tree: Path, tmp_path: Path):
    out = tmp_path / "out"
    good(encode(tree, "-o", out))
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.tok")}
    recording(tree / "new.wav")
    assert "3 done already, skipped" in good(encode(tree, "-o", out)).out
    assert files(out) == ["a.tok", "deep/C.tok", "deep/er/b.tok", "new.tok"]
    assert before == {p: p.stat().st_mtime_ns for p in before}
    rows = good(encode(tree, "-o", out, "--json")).json
    assert [row["skipped"] for row in rows] == [True] * 4


def test_mono_is_done_however_channels_are_treated(talk: Path):
    good(encode(talk))
    assert "skipped" in good(encode(talk, "--channels", "split")).out


def test_other_tokens_are_not_overwritten_unless_forced(talk: Path):
    good(encode(talk))
    target = talk.with_suffix(".tok")
    before = target.read_bytes()
    refused(encode(talk, "-k", "2"), 1, target, "4 codebooks", "--force")
    refused(audiotok("encode", talk), 1, target, "made by speech", "--force")
    assert target.read_bytes() == before
    good(encode(talk, "-k", "2", "--force"))
    assert Tokens.load(target).codebooks == 2


def test_two_files_of_one_name(tmp_path: Path):
    for name in ("a.wav", "a.flac", "b.wav"):
        recording(tmp_path / "in" / name)
    done = encode(tmp_path / "in", "-o", tmp_path / "out")
    assert done.code == 1
    assert files(tmp_path / "out") == ["a.tok", "b.tok"]
    assert len(done.lines) == 2
    assert "a.wav: would become" in done.lines[0]
    assert "a.flac does" in done.lines[0]
    assert done.lines[1] == "1 of 3 failed"


def test_one_file_said_twice_is_done_once(talk: Path, tmp_path: Path):
    rows = good(encode(talk, f"{tmp_path}/*.wav", "-o", tmp_path / "out", "--json")).json
    assert len(rows) == 1


def test_a_bad_file_is_reported_and_the_rest_go_on(tree: Path, tmp_path: Path):
    (tree / "b.wav").write_text("not audio")
    done = encode(tree, tmp_path / "missing.wav", f"{tmp_path}/*.mp3", "-o", tmp_path / "out")
    assert done.code == 1
    assert len(done.lines) == 4
    assert str(tmp_path / "missing.wav") in done.lines[0]
    assert f"{tmp_path}/*.mp3: no file matches" in done.lines[1]
    assert "b.wav: this is text, not audio" in done.lines[2]
    assert done.lines[3] == "3 of 6 failed"
    assert files(tmp_path / "out") == ["a.tok", "deep/C.tok", "deep/er/b.tok"]


def test_json_is_all_there_is_on_stdout(tree: Path, tmp_path: Path):
    (tree / "b.wav").write_text("not audio")
    good(encode(tree / "a.wav", "-o", tmp_path / "out"))
    done = encode(tree, "-o", tmp_path / "out", "--json")
    assert done.code == 1
    made = [row for row in done.json if "seconds" in row]
    assert {row["frames"] for row in made} == {25}
    assert {"source", "target", "codebooks", "took", "speed", "file_kbps"} <= made[0].keys()
    assert [row["skipped"] for row in done.json if "skipped" in row] == [True]
    assert ["not audio" in row["error"] for row in done.json if "error" in row] == [True]
    assert len(done.json) == 4


def test_batch(tree: Path, tmp_path: Path):
    """The same files, the same errors; the codec's own warning comes once, not once a process."""
    recording(tree / "s1.wav", channels=2)
    recording(tree / "s2.wav", channels=2)
    (tree / "bad.wav").write_text("not audio")
    done = process("encode", tree, "-o", tmp_path / "two", "-j", "2", "--codec", small(), "--json")
    assert done.code == 1
    assert len(done.json) == 6
    assert sorted(line.split()[0] for line in done.lines) == ["1", "error", "warning"]
    encode(tree, "-o", tmp_path / "one")
    assert len(files(tmp_path / "one")) == 5
    assert files(tmp_path / "one") == files(tmp_path / "two")
    for name in files(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_device_that_is_not_there(talk: Path):
    refused(encode(talk, "--device", "warp"), 2, "device warp")
    refused(encode(talk, "--device", "meta9"), 2, "device meta9")
    assert files(talk.parent) == ["talk.wav"]


def test_a_codec_that_is_not_there(talk: Path):
    refused(audiotok("encode", talk, "--codec", "speach"), 1, "speach", "speech")
    refused(audiotok("encode", talk, "--codec", "x.safetensors"), 1, "x.safetensors", "no such")


NAMES = [
    "[bold].wav",
    "[red]a[end].wav",
    ":smile:.wav",
    "ünïcödé 语音.wav",
    "a  b.wav",
    "x" * 251 + ".wav",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_kept_as_it_is(tmp_path: Path, name: str):
    path = recording(tmp_path / name)
    done = good(encode(path))
    assert f"file          {path.with_suffix('.tok')}\n" in done.out
    refused(encode(path, "-k", "1"), 1, path.with_suffix(".tok"))
    good(decode(path.with_suffix(".tok"), "-o", tmp_path / "out"))
    assert files(tmp_path / "out") == [name]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / name).write_text("text")
    refused(encode(tmp_path / "bad" / name), 1, tmp_path / "bad" / name)


@pytest.mark.parametrize(
    ("name", "shown"), [("a\nb.wav", r"a\nb.wav"), ("\x1b[2J.wav", r"\x1b[2J")]
)
def test_a_name_does_nothing_to_the_terminal(tmp_path: Path, name: str, shown: str):
    (tmp_path / name).write_text("text")
    done = encode(tmp_path / name)
    assert done.code == 1
    assert shown in done.err
    assert len(done.lines) == 1


def test_an_undecodable_name(tmp_path: Path):
    path = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.tok"))
    path.write_bytes(b"damaged")
    done = audiotok("verify", tmp_path)
    assert done.code == 1
    assert len(done.lines) == 1
    assert r"\udcff.tok" in done.err


# ---- decode


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Tokens of stereo audio at 44.1 kHz, its two channels coded apart; 22001 samples."""
    path = tmp_path / "original.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((22001, 2)), 44100)
    good(encode(path, "--channels", "split", "-o", tmp_path / "t.tok"))
    return tmp_path / "t.tok"


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "opus"])
def test_formats(tokens: Path, kind: str):
    good(decode(tokens, "--format", kind))
    info = soundfile.info(tokens.with_suffix(f".{kind}"))
    assert (info.samplerate if kind != "opus" else 16000, info.channels) == (16000, 2)
    if kind in ("wav", "flac"):
        assert info.frames == Tokens.load(tokens).samples == 7983
        expected = package.load(small()).decode(Tokens.load(tokens)).samples
        got = Audio.load(tokens.with_suffix(f".{kind}")).samples
        assert torch.allclose(got, expected.clamp(-1, 1), atol=1 / 32768)


def test_the_extension_of_out_says_the_format(tokens: Path):
    good(decode(tokens, "-o", tokens.with_name("x.flac")))
    assert soundfile.info(tokens.with_name("x.flac")).format == "FLAC"


def test_the_original_rate_gives_the_original_length(tokens: Path):
    good(decode(tokens, "--rate", "original"))
    info = soundfile.info(tokens.with_suffix(".wav"))
    assert (info.samplerate, info.frames, info.channels) == (44100, 22001, 2)


def test_fewer_codebooks(tokens: Path):
    codec = package.load(small())
    whole = codec.decode(Tokens.load(tokens)).samples
    coarse = codec.decode(Tokens.load(tokens).first(1)).samples
    assert not torch.allclose(whole, coarse, atol=1e-3)
    good(decode(tokens, "-k", "1"))
    got = Audio.load(tokens.with_suffix(".wav")).samples
    assert torch.allclose(got, coarse.clamp(-1, 1), atol=1 / 32768)


def test_decoding_skips_what_is_done_and_nothing_else(tokens: Path):
    good(decode(tokens))
    wav = tokens.with_suffix(".wav")
    before = wav.read_bytes()
    assert "1 done already" in good(decode(tokens)).out
    refused(decode(tokens, "-k", "1"), 1, wav, "--force")
    refused(decode(tokens, "--rate", "original"), 1, wav, "--force")
    assert wav.read_bytes() == before
    good(decode(tokens, "-k", "1", "--force"))
    assert "1 done already" in good(decode(tokens, "-k", "1")).out
    refused(decode(tokens), 1, wav, "--force")


def test_a_recording_is_not_taken_for_its_copy(talk: Path):
    before = talk.read_bytes()
    good(encode(talk))
    refused(decode(talk.with_suffix(".tok")), 1, talk, "--force")
    assert talk.read_bytes() == before


def test_a_folder_is_decoded_with_its_tree(tree: Path, tmp_path: Path):
    good(encode(tree, "-o", tmp_path / "out"))
    rows = good(decode(tmp_path / "out", "-o", tmp_path / "back", "--json")).json
    assert files(tmp_path / "back") == ["a.wav", "deep/C.wav", "deep/er/b.wav"]
    assert {row["seconds"] for row in rows} == {0.5}


def test_a_format_that_is_none(tokens: Path):
    refused(decode(tokens, "--format", "xyz"), 2, "--format xyz", ".flac")
    refused(decode(tokens, "-o", tokens.with_name("a.xyz")), 2, "a.xyz", ".flac")


# ---- info, codecs, verify


def facts_of(done: Done) -> dict[str, str]:
    return dict(line.split(None, 1) for line in good(done).out.splitlines())


def test_info_on_tokens(tokens: Path):
    facts = audiotok("info", tokens, "--json").json
    assert facts["codec"] == "speech"
    assert (facts["samples"], facts["original_samples"]) == (7983, 22001)
    assert (facts["channels"], facts["streams"], facts["sizes"]) == (2, 2, [64] * 4)
    assert facts["bytes"] == tokens.stat().st_size
    assert facts["nominal_kbps"] == 2.4
    assert {key: str(value) for key, value in facts.items() if key != "sizes"}.items() <= (
        facts_of(audiotok("info", tokens)).items()
    )


def test_info_on_audio(tokens: Path):
    facts = audiotok("info", tokens.with_name("original.wav"), "--json").json
    assert (facts["rate"], facts["channels"], facts["samples"]) == (44100, 2, 22001)
    assert facts_of(audiotok("info", tokens.with_name("original.wav")))["rate"] == "44100"


def test_info_on_codecs_and_checkpoints():
    assert audiotok("info", "speech", "--json").json["frame_size"] == 320
    facts = audiotok("info", small(), "--json").json
    assert (facts["codebooks"], facts["weights"]) == (4, str(small()))
    assert facts["parameters"] < audiotok("info", "speech", "--json").json["parameters"]


def test_info_on_a_training_card_is_short(tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    card = {"steps": 600, "recipe": {"codec": "speech"}, "curves": {"mel": 0.8}}
    save(load(small()), path, card=card)
    assert audiotok("info", path, "--json").json["card"] == card
    said = facts_of(audiotok("info", path))["card"]
    assert said == "steps 600, and recipe, curves (--json shows all)"
    save(load(small()), path, card={"flow": card})
    assert facts_of(audiotok("info", path))["card"] == "flow (--json shows all)"


def test_info_on_an_id_of_a_hub():
    assert audiotok("info", "kyutai/mimi", "--json").json["name"] == "mimi"


def test_info_on_nothing(tmp_path: Path):
    refused(audiotok("info", "nothing"), 1, "nothing: neither a file nor a codec", "speech")
    refused(audiotok("info", tmp_path / "no.tok"), 1, tmp_path / "no.tok", "No such file")
    refused(audiotok("info", tmp_path / "no.wav"), 1, tmp_path / "no.wav", "no such file")


def test_info_on_a_corpus_names_the_command_for_it(tmp_path: Path):
    (tmp_path / "corpus.json").write_text("{}")
    refused(audiotok("info", tmp_path), 1, f"`audiotok corpus info {tmp_path}`")


def test_info_says_the_latency_of_whatever_streams():
    assert audiotok("info", "dac_24khz", "--json").json["latency_ms"] == 250.88
    assert audiotok("info", "wavtokenizer_75hz", "--json").json["latency_ms"] is None


def test_the_tables_of_codecs_fit_a_terminal():
    lines = good(audiotok("codecs")).out.splitlines()
    assert max(len(line) for line in lines if "://" not in line) <= 80
    heads = [line.split() for line in lines if line.split()[:1] == ["name"]]
    columns = ["name", "rate", "frames/s", "codebooks", "kbps", "M", "all", "M", "causal", "here"]
    kinds = ["name", "encoder", "decoder", "quantizer", "training", "domain"]
    assert heads == [columns, kinds]
    rows = [line.split() for line in lines if line.split()[:1] == ["encodec_24khz"]]
    assert rows[0] == "encodec_24khz 24000 75 32 24 14.9 19.0 yes no".split()  # noqa: SIM905
    assert rows[1] == "encodec_24khz SEANet SEANet RVQ joint audio".split()  # noqa: SIM905
    assert rows[2][:4] == ["encodec_24khz", "unstated;", "code", "MIT"]
    named = [line.split()[0] for line in lines if line.split()[:1] and line[1:2].strip()]
    assert [name for name in named if name in presets("codecs")][: len(presets("codecs"))] == [
        *presets("codecs")
    ]


def test_codecs_for_machines():
    rows = good(audiotok("codecs", "--json")).json
    assert [row["name"] for row in rows] == [*presets("codecs")]
    for row in rows:
        assert row["parameters"] > 0 or row["name"].startswith(("dmel", "beats_random"))
        assert {"sample_rate", "frame_rate", "codebooks", "kbps", "causal", "weights"} <= set(row)
        assert {"entries", "decodes", "published"} <= set(row)
        both = row["parameters"] + row["entries"]
        assert row["parameters"] <= row["parameters_with_codebooks"] <= both
        kind = [row[key] for key in ("encoder", "decoder", "quantizer", "training", "domain")]
        assert all(kind)


def test_verify(tokens: Path, tmp_path: Path):
    assert good(audiotok("verify", tokens)).out == "1 of 1 files are whole\n"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/t.tok").write_bytes(tokens.read_bytes()[:-50])  # of the same name
    done = audiotok("verify", tmp_path, tmp_path / "no.tok")
    assert done.code == 1
    assert done.out == "1 of 3 files are whole\n"
    assert len(done.lines) == 2
    assert "sub/t.tok" in done.err
    assert "can be recovered" in done.err
    rows = audiotok("verify", tmp_path, tmp_path / "no.tok", "--json").json
    assert sorted(row["ok"] for row in rows) == [False, False, True]
    assert {"file", "damage", "recoverable_seconds"} <= rows[0].keys()


# ---- roundtrip


def test_roundtrip(tmp_path: Path):
    talk = recording(tmp_path / "talk $\\x$ [b].wav", seconds=1.0)
    out = tmp_path / "out"
    arguments = ("roundtrip", talk, "-o", out, "--codec", small(), "-k", "3")
    done = good(audiotok(*arguments))
    assert files(out) == [f"{talk.stem}{suffix}" for suffix in (".png", ".tok", ".wav")]
    facts = dict(line.split(None, 1) for line in done.out.splitlines())
    assert {"pesq", "stoi", "mel", "si_sdr", "picture", "decoded", "speed"} <= facts.keys()
    head = (out / f"{talk.stem}.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    assert 800 <= width <= 3000
    assert 400 <= height <= 3000
    refused(audiotok(*arguments), 1, out, "--force")
    result = good(audiotok(*arguments, "--force", "--json")).json
    assert isinstance(result["scores"]["mel"], float)
    assert isinstance(result["scores"]["si_sdr"], float)
    assert result["encode"]["codebooks"] == 3
    assert Path(result["picture"]).is_file()


def test_roundtrip_never_overwrites_the_recording(talk: Path):
    before = talk.read_bytes()
    arguments = ("roundtrip", talk, "-o", talk.parent, "--force", "--codec", small())
    refused(audiotok(*arguments), 1, talk, "another folder")
    refused(audiotok("roundtrip", "-", "-o", talk.parent), 1, "stdin")
    assert talk.read_bytes() == before
    assert files(talk.parent) == ["talk.wav"]


def test_roundtrip_without_the_extras(talk: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out = talk.parent / "out"
    done = audiotok("roundtrip", talk, "-o", out, "--codec", small(), "--json")
    assert done.code == 0
    assert "audiotok[plot]" in done.err
    assert "audiotok[metrics]" in done.json["scores"]["pesq"]
    assert done.json["picture"] is None
    assert files(out) == ["talk.tok", "talk.wav"]


# ---- the program itself


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_shows_the_examples_as_written(command: str):
    lines = [line.strip() for line in good(audiotok(command, "--help")).out.splitlines()]
    start = lines.index("Examples:")
    count = len(EXAMPLES[command])
    assert lines[start + 1 : start + 1 + count] == EXAMPLES[command]
    assert max(map(len, lines)) <= 80
    assert any("Exit codes: 0 all done" in line for line in lines)


def test_help_lists_every_command():
    out = good(audiotok("--help")).out
    assert all(f"│ {command} " in out for command in EXAMPLES)
    bare = audiotok()
    assert bare.code == 2
    assert "Usage: audiotok" in bare.out + bare.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "nope"),
        (["encode", "--nope"], "--nope"),
        (["encode"], "paths"),
        (["encode", "a.wav", "--jobs", "0"], "--jobs"),
        (["encode", "a.wav", "--channels", "both"], "split"),
        (["decode", "a.tok", "--rate", "x"], "original"),
        (["train", "a.toml", "--minutes", "-1"], "--minutes"),
        (["lm", "generate", "model", "--top-k", "-1"], "--top-k"),
        (["lm", "generate", "model", "--seconds", "1e9"], "--seconds"),
        (["lm", "generate", "model", "--steps", "0"], "--steps"),
        (["lm", "score", "model", "corpus", "--frames", "0"], "--frames"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str):
    refused(audiotok(*arguments), 2, says, "--help`")


@pytest.mark.parametrize(
    ("command", "option"), [(["bench", "--data", "a"], "--model"), (["decode", "a"], "--condition")]
)
def test_no_value_is_given_twice(command: list[str], option: str):
    done = audiotok(*command, option, "x=1", option, "x=2")
    refused(done, 2, f"{option} x: given twice")


def test_the_script_and_the_module_are_one_program():
    script = Path(sys.executable).with_name("audiotok")
    both = [
        subprocess.run([*start, "encode", "--help"], env=environment(), capture_output=True)
        for start in (COMMAND, [str(script)])
    ]
    assert both[0].stdout == both[1].stdout != b""
    assert both[0].returncode == both[1].returncode == 0


@pytest.mark.parametrize("arguments", [["encode", "--help"], ["--version"]])
def test_what_needs_no_torch_loads_none(arguments: list[str]):
    code = (
        f"import sys; from audiotok.__main__ import main; sys.argv[1:] = {arguments}\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy', 'soundfile'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("arguments", [["codecs", "--json"], ["--help"]])
def test_a_reader_that_has_seen_enough(arguments: list[str]):
    """As `audiotok ... | head -0`: the pipe is shut before the first word comes."""
    out, into = os.pipe()
    os.close(out)
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment(), stdout=into, stderr=subprocess.PIPE, text=True
    )
    os.close(into)
    assert done.stderr == ""
    assert done.returncode == 1


def test_progress_goes_to_stderr_and_only_to_a_terminal(tree: Path, tmp_path: Path):
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "encode", tree, "-o", tmp_path / "out", "--codec", small(), "--json"],
        env={**environment(), "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # what Linux says at the end of a terminal
        pass
    os.close(ours)
    text = seen.decode()
    assert "encoding" in text
    assert "3/3" in text
    assert "x real time" in text
    assert len(Done(done.returncode, done.stdout.decode(), "").json) == 3
