"""Every kind of bad input: one line that names the file and the way out, and nothing left behind.

What is harmless though odd (one sample, silence, clipping, eight channels, 192 kHz, ten hours) has
to work.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commandline import (
    PEAK,
    Done,
    audiotok,
    background,
    ends,
    environment,
    files,
    group,
    noise,
    recording,
    small,
    until,
)

from audiotok import load
from audiotok.audio.audio import Audio
from audiotok.tokens.tokenizer import warn_mixing_down
from audiotok.tokens.tokens import Tokens

HOUR = 3600 * 16000


def encode(*arguments: str | Path) -> Done:
    return audiotok("encode", *arguments, "--codec", small())


def decode(*arguments: str | Path) -> Done:
    return audiotok("decode", *arguments, "--codec", small())


def fails(command: Callable[..., Done], bad: Path, *says: str | Path, out: Path) -> None:
    """Alone: one line, nothing left. Among others: they are done."""
    alone = command(bad, "-o", out)
    assert alone.code == 1
    assert not alone.out
    assert len(alone.lines) == 1
    assert all(str(word) in alone.err for word in [bad, *says]), alone.err
    assert files(out) == []
    recording(out.parent / "ok/ok.wav")
    if command is decode:
        encode(out.parent / "ok/ok.wav")
    ok = out.parent / "ok" / ("ok.wav" if command is encode else "ok.tok")
    among = command(bad, ok, "-o", out)
    assert among.code == 1
    assert among.lines == [*alone.lines, "1 of 2 failed"]
    assert files(out) == [f"ok.{'tok' if command is encode else 'wav'}"]


def works(path: Path, *options: str) -> Tokens:
    """Encodes, decodes to as many samples, and verifies."""
    tokens, wav = path.with_suffix(".tok"), path.with_name("back.wav")
    assert encode(path, *options).code == 0
    assert audiotok("verify", tokens).code == 0
    assert decode(tokens, "--rate", "original", "-o", wav).code == 0
    before, after = soundfile.info(path), soundfile.info(wav)
    assert (after.frames, after.samplerate) == (before.frames, before.samplerate)
    assert files(path.parent) == sorted([path.name, tokens.name, wav.name])
    return Tokens.load(tokens)


# ---- audio that cannot be encoded


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_missing(tmp_path: Path, out: Path):
    fails(encode, tmp_path / "missing.wav", "no such file; check the path", out=out)


def test_empty(tmp_path: Path, out: Path):
    (tmp_path / "empty.wav").touch()
    fails(encode, tmp_path / "empty.wav", "empty (0 bytes)", out=out)


@pytest.mark.parametrize("kind", ["wav", "aiff"])
def test_no_samples(tmp_path: Path, out: Path, kind: str):
    path = recording(tmp_path / f"none.{kind}", seconds=0)
    fails(encode, path, "holds no samples", out=out)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, out: Path, value: float):
    samples = noise(3)
    samples[40000] = value
    soundfile.write(tmp_path / "nan.wav", samples, 16000, "FLOAT")
    fails(encode, tmp_path / "nan.wav", "NaN or infinite", "first at 2.5", "mend", out=out)


def test_text_by_the_name_of_audio(tmp_path: Path, out: Path):
    (tmp_path / "text.wav").write_text("It was a dark and stormy night. " * 100)
    fails(encode, tmp_path / "text.wav", "this is text, not audio", out=out)


def test_random_bytes_by_the_name_of_audio(tmp_path: Path, out: Path):
    (tmp_path / "r.wav").write_bytes(np.random.default_rng(0).bytes(10000))
    fails(encode, tmp_path / "r.wav", out=out)


def test_truncated_flac(tmp_path: Path, out: Path):
    whole = recording(tmp_path / "whole.flac", seconds=5).read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    fails(encode, tmp_path / "cut.flac", "truncated or damaged after", "end=", out=out)


def test_a_folder_without_audio(tmp_path: Path, out: Path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("text")
    fails(encode, tmp_path / "notes", "no audio file in this folder", out=out)


# ---- audio that is odd, and works


def test_one_sample(tmp_path: Path):
    path = tmp_path / "one.wav"
    soundfile.write(path, np.array([0.5]), 16000)
    assert works(path).frames == 1


def test_silence(tmp_path: Path):
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    tokens = works(path)
    assert tokens == load(small()).encode(Audio.load(path))


def test_clipped(tmp_path: Path):
    path = tmp_path / "clipped.wav"
    soundfile.write(path, np.sign(noise(1)), 16000)
    works(path)


def test_louder_than_full_scale(tmp_path: Path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, 100 * noise(1), 16000, "FLOAT")
    works(path)


def test_eight_channels_are_mixed_down_and_it_is_said_once(tmp_path: Path):
    warn_mixing_down.cache_clear()
    for name in "ab":
        recording(tmp_path / f"{name}.wav", channels=8)
    done = encode(tmp_path / "a.wav", tmp_path / "b.wav")
    assert done.code == 0
    assert len(done.lines) == 1
    assert "8 channels are mixed down to one; --channels split" in done.err
    audio = Audio.load(tmp_path / "a.wav")
    assert Tokens.load(tmp_path / "a.tok") == load(small()).encode(audio)
    assert Tokens.load(tmp_path / "a.tok").channels == 1


def test_eight_channels_are_split(tmp_path: Path):
    path = recording(tmp_path / "eight.wav", channels=8)
    tokens = works(path, "--channels", "split")
    assert (tokens.channels, tokens.streams) == (8, 8)
    assert soundfile.info(tmp_path / "back.wav").channels == 8


def test_192_kilohertz(tmp_path: Path):
    path = recording(tmp_path / "fast.wav", rate=192000)
    assert works(path).original_rate == 192000


MEASURED = f"""
{PEAK}
from audiotok.__main__ import main
try:
    main()
finally:
    print(peak(), file=sys.stderr)
"""


def sparse(path: Path, samples: int) -> Path:
    """A 16 kHz wav of silence that takes no room on the disk; past 4 GB it would be RF64."""
    sizes = 36 + 2 * samples, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16
    with path.open("wb") as file:
        file.write(struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", *sizes, b"data", 2 * samples))
        file.truncate(44 + 2 * samples)
    return path


def memory(*arguments: str | Path) -> float:
    """The most gigabytes that a command had in memory."""
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=7200, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1]) / 1e9


def test_twenty_minutes_take_no_more_memory_than_a_second(tmp_path: Path):
    """Held whole they would be 77 MB more, and what the network makes of them far more."""
    second, minutes = sparse(tmp_path / "s.wav", 16000), sparse(tmp_path / "m.wav", HOUR // 3)
    short, long = (memory("encode", p, "--codec", small()) for p in (second, minutes))
    assert long < 1
    assert long < short + 0.05
    assert Tokens.load(tmp_path / "m.tok").frames == 20 * 60 * 50


@pytest.mark.slow
def test_ten_hours(tmp_path: Path):
    path = sparse(tmp_path / "ten.wav", 10 * HOUR)
    assert memory("encode", path) < 1
    assert Tokens.load(tmp_path / "ten.tok", end=1).frames == 50
    assert memory("decode", tmp_path / "ten.tok", "-o", tmp_path / "back.flac") < 1
    assert soundfile.info(tmp_path / "back.flac").frames == 10 * HOUR


# ---- what the system refuses


@contextmanager
def nobody() -> Iterator[None]:
    """Root may do anything, so for a while this is nobody; what must be read is read before."""
    encode(recording(Path(os.environ["HOME"]) / "warm.wav"), "--force")
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A folder that nobody can get to, on a path that root made for itself."""
    folder = tmp_path
    while folder.parent != folder and folder.stat().st_uid == os.geteuid():
        folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are another matter there")
def test_no_permission_to_read(reachable: Path, out: Path):
    path = recording(reachable / "mine.wav")
    path.chmod(0)
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    with nobody():
        done = encode(path, "-o", out)
    assert (done.code, len(done.lines)) == (1, 1)
    assert f"{path}: no permission to read it; try `chmod +r`" in done.err
    assert files(out) == []


@pytest.mark.parametrize("deep", [False, True])
def test_no_permission_to_write(reachable: Path, deep: bool):
    path = recording(reachable / "a.wav")
    assert encode(path).code == 0
    closed = reachable / "closed"
    closed.mkdir(mode=0o555)
    target = closed / "new" if deep else closed
    with nobody():
        encoded = encode(path, "-o", target)
        decoded = decode(path.with_suffix(".tok"), "-o", target)
    for done in (encoded, decoded):
        assert (done.code, len(done.lines)) == (1, 1)
        assert str(closed) in done.err
        assert "ermission" in done.err
    assert files(closed) == []


def test_a_file_where_a_folder_should_be(tmp_path: Path):
    path = recording(tmp_path / "a.wav")
    done = encode(path, "-o", path / "sub")
    assert (done.code, len(done.lines)) == (1, 1)
    assert str(path / "sub") in done.err


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 4 kB; without the right to make one, files of at most 4 kB."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)]
    if os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_while_encoding(tmp_path: Path, full: Path):
    (tmp_path / "in").mkdir()
    large = sparse(tmp_path / "in/a.wav", 45 * 16000)  # 6.75 kB of codes
    sparse(tmp_path / "in/b.wav", 16000)
    done = encode(large, "-o", full)
    assert (done.code, len(done.lines)) == (1, 1)
    assert f"{full / 'a.tok'}: no space left" in done.err
    assert "free some and run again" in done.err
    assert files(full) == []
    assert encode(tmp_path / "in", "-o", full).lines == [*done.lines, "1 of 2 failed"]
    assert files(full) == ["b.tok"]


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus", "mp3"])
def test_a_full_disk_while_decoding(tmp_path: Path, full: Path, kind: str):
    codec = load(small())
    codec.encode(Audio.load(recording(tmp_path / "a.wav", seconds=4))).save(tmp_path / "a.tok")
    codec.encode(Audio.load(recording(tmp_path / "b.wav", seconds=0.05))).save(tmp_path / "b.tok")
    done = decode(tmp_path / "a.tok", "-o", full, "--format", kind)
    assert done.code == 1
    target = full / f"a.{kind}"
    assert [line for line in done.lines if "no space left" in line and str(target) in line]
    assert files(full) == []
    if kind != "ogg":  # of which the first page alone fills this disk
        both = decode(tmp_path / "a.tok", tmp_path / "b.tok", "-o", full, "--format", kind)
        assert both.code == 1
        assert files(full) == [f"b.{kind}"]


# ---- ends that come early


def names(folder: Path) -> Callable[[], list[str]]:
    return lambda: [name for name in files(folder) if name.endswith(".part")]


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """A short recording and one that takes long, in this order."""
    (tmp_path / "in").mkdir()
    recording(tmp_path / "in/a.wav")
    sparse(tmp_path / "in/b.wav", 10 * HOUR)
    return tmp_path / "in"


def resumes(queue: Path, out: Path) -> None:
    """Run again, with the long recording cut short, it does what is left to do."""
    recording(queue / "b.wav")
    done = audiotok("encode", queue, "-o", out, "--json")
    assert done.code == 0, done
    assert [Path(row["source"]).name for row in done.json if "skipped" in row] == ["a.wav"]
    assert files(out) == ["a.tok", "b.tok"]  # what the dead process left is gone
    assert audiotok("verify", out).code == 0


def test_kill_in_the_middle_of_writing(queue: Path, out: Path):
    process = background("encode", queue, "-o", out)
    until(lambda: (out / "a.tok").exists() and names(out)(), process)
    process.kill()
    process.communicate()
    assert [name for name in files(out) if name[0] != "."] == ["a.tok"]
    resumes(queue, out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(queue: Path, out: Path, number: int):
    process = background("encode", queue, "-o", out)
    until(lambda: (out / "a.tok").exists() and names(out)(), process)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "error interrupted; nothing is half-written; run it again: what is finished is kept"
    ]
    assert said == ""
    assert files(out) == ["a.tok"]
    if number == signal.SIGINT:
        resumes(queue, out)


def test_interrupted_while_several_work(queue: Path, out: Path):
    """As a terminal does it: to every process of the group; none of them is left."""
    sparse(queue / "c.wav", 10 * HOUR)
    process = background("encode", queue, "-o", out, "--jobs", "2")
    until(lambda: (out / "a.tok").exists() and len(names(out)()) == 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "error interrupted; nothing is half-written; run it again: what is finished is kept"
    ]
    assert files(out) == ["a.tok"]
    assert ends(process.pid), group(process.pid)


# ---- tokens that cannot be decoded


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = recording(tmp_path / "a.wav", seconds=2)
    assert encode(path).code == 0
    return tmp_path / "a.tok"


def test_tokens_that_are_missing(tmp_path: Path, out: Path):
    fails(decode, tmp_path / "missing.tok", "no such file; check the path", out=out)


def test_tokens_that_are_empty(tmp_path: Path, out: Path):
    (tmp_path / "e.tok").touch()
    fails(decode, tmp_path / "e.tok", "an empty file", "audiotok encode", out=out)


def test_audio_for_tokens(tmp_path: Path, out: Path):
    fails(decode, recording(tmp_path / "a.wav"), "not a .tok file", "audiotok encode", out=out)


def test_tokens_of_another_codec(tokens: Path, out: Path):
    made = Tokens.load(tokens)
    other = {**vars(made), "codec": "other"}
    other.pop("_header")
    Tokens(**other).save(tokens, force=True)
    fails(decode, tokens, "codec 'other'", "--codec", out=out)
    done = audiotok("decode", tokens, "-o", out)
    assert (done.code, len(done.lines)) == (1, 1)
    assert f"{tokens}: tokens of codec 'other', which is not here" in done.err
    assert "--codec" in done.err


def test_tokens_of_other_weights(tokens: Path, out: Path):
    assert audiotok("encode", tokens.with_suffix(".wav"), "--codec", small(1), "--force").code == 0
    fails(decode, tokens, "other weights", "encode again", out=out)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, 40, -100, -20])
def test_tokens_with_a_byte_changed(tokens: Path, out: Path, at: int):
    flip(tokens, at)
    fails(decode, tokens, out=out)
    done = audiotok("verify", tokens)
    assert (done.code, len(done.lines)) == (1, 1)
    assert str(tokens) in done.err


def test_tokens_that_are_cut_short(tokens: Path, out: Path):
    tokens.write_bytes(tokens.read_bytes()[:-60])
    fails(decode, tokens, "cut short", "Tokens.recover", out=out)


def test_damaged_tokens_are_not_taken_for_done(tokens: Path):
    before = tokens.read_bytes()[:-60]
    tokens.write_bytes(before)
    done = encode(tokens.with_suffix(".wav"))
    assert (done.code, len(done.lines)) == (1, 1)
    assert "--force overwrites it" in done.err
    assert tokens.read_bytes() == before
    assert encode(tokens.with_suffix(".wav"), "--force").code == 0
    assert audiotok("verify", tokens).code == 0
