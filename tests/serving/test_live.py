"""`audiotok stream`: pipes of PCM and tokens, frame by frame."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple, cast
from unittest import mock

import numpy as np
import pytest
import torch
from commandline import COMMAND, environment, noise, small

from audiotok.__main__ import main
from audiotok.audio import pcm
from audiotok.audio.audio import Audio
from audiotok.audio.pcm import PcmError, PcmReader
from audiotok.codecs.checkpoint import load
from audiotok.serving.live.pipe import decode_pcm, encode_pcm
from audiotok.tokens import TokenFileDamagedError, TokenSource
from audiotok.tokens.tokens import Tokens


class Ran(NamedTuple):
    code: int
    out: bytes
    err: str


def run(*arguments: str | Path, stdin: bytes) -> Ran:
    """In this process, between pipes of bytes."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    came, code = io.TextIOWrapper(io.BytesIO(stdin)), 0
    before = signal.getsignal(signal.SIGTERM)
    with (
        mock.patch.object(sys, "argv", ["audiotok", "stream", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", came),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            signal.signal(signal.SIGTERM, before)
    return Ran(code, cast(io.BytesIO, out.buffer).getvalue(), err.getvalue())


def started(*arguments: str | Path) -> subprocess.Popen[bytes]:
    def hears_ctrl_c() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        [*COMMAND, "stream", *map(str, arguments)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=hears_ctrl_c,
    )


def spoken(seconds: float, rate: int = 16000) -> bytes:
    return pcm.to_bytes(noise(seconds, rate).T, "s16le")


def whole(path: Path, data: bytes) -> Tokens:
    path.write_bytes(data)
    return Tokens.load(path)


# -- PCM --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_there_and_back(encoding: str, channels: int):
    samples = (np.arange(-40, 40).reshape(channels, -1) * 800 / 32768).astype("f4")
    data = pcm.to_bytes(samples, encoding)
    assert np.array_equal(pcm.to_samples(data, encoding, channels), samples)


def test_sixteen_bits_survive_exactly_and_loud_samples_are_clipped():
    every = np.arange(-32768, 32768, dtype="<i2").tobytes()
    assert pcm.to_bytes(pcm.to_samples(every, "s16le"), "s16le") == every
    loud = np.array([[2.0, -2.0, 1.0]], "f4")
    assert np.frombuffer(pcm.to_bytes(loud, "s16le"), "<i2").tolist() == [32767, -32768, 32767]


def test_a_reader_joins_halves_of_samples():
    class Drops(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(3)

    data = spoken(0.01)
    reader = PcmReader(Drops(data), "s16le")
    assert np.array_equal(np.hstack(list(reader)), pcm.to_samples(data, "s16le"))
    assert reader.samples == 160


@pytest.mark.parametrize(
    ("data", "encoding", "says"),
    [
        (b"RIFF....WAVEfmt ", "s16le", "not raw PCM: put `ffmpeg -i - -ac 1 -ar 16000 -f s16le -`"),
        (b"abc", "s16le", "1 bytes at the end are no whole sample"),
        (np.array([0, np.nan], "<f4").tobytes(), "f32le", "stdin: a sample is not a finite number"),
    ],
)
def test_what_is_no_pcm(data: bytes, encoding: str, says: str):
    with pytest.raises(PcmError) as caught:
        list(PcmReader(io.BytesIO(data), encoding))
    assert says in str(caught.value)


# -- through the functions --------------------------------------------------------------------


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 321, 8000])
def test_tokens_and_lengths_are_those_of_the_recording(samples: int, tmp_path: Path):
    codec = load(small())
    data, out = spoken(samples / 16000), io.BytesIO()
    done = encode_pcm(codec, io.BytesIO(data), out, block=1)
    tokens = whole(tmp_path / "a.tok", out.getvalue())
    audio = Audio(torch.from_numpy(pcm.to_samples(data, "s16le")), 16000)
    assert np.array_equal(tokens.codes, codec.encode(audio).codes)
    assert tokens.samples == done.seconds * 16000 == samples
    assert done.frames == tokens.frames
    back = io.BytesIO()
    heard = decode_pcm(codec, TokenSource(io.BytesIO(out.getvalue())), back, encoding="f32le")
    decoded = pcm.to_samples(back.getvalue(), "f32le")
    assert decoded.shape == (1, samples)
    assert np.allclose(decoded, codec.decode(tokens).samples.numpy(), atol=1e-5)
    assert codec.latency <= heard.latency <= codec.latency + 0.01  # of its last frame's end


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_at_another_rate_as_many_samples_come_back(rate: int, tmp_path: Path):
    codec, out = load(small()), io.BytesIO()
    samples = round(0.37 * rate)
    done = encode_pcm(codec, io.BytesIO(spoken(0.37, rate)), out, rate=rate)
    tokens = whole(tmp_path / "a.tok", out.getvalue())
    assert (tokens.original_rate, tokens.original_samples) == (rate, samples)
    assert done.latency > codec.latency
    back = io.BytesIO()
    decode_pcm(codec, TokenSource(io.BytesIO(out.getvalue())), back, rate=rate)
    assert len(back.getvalue()) == 2 * samples


def test_fewer_codebooks_either_way(tmp_path: Path):
    codec, out = load(small()), io.BytesIO()
    encode_pcm(codec, io.BytesIO(spoken(0.5)), out, codebooks=3)
    tokens = whole(tmp_path / "a.tok", out.getvalue())
    assert tokens.codebooks == 3
    back = io.BytesIO()
    source = TokenSource(io.BytesIO(out.getvalue()))
    decode_pcm(codec, source, back, codebooks=2, encoding="f32le")
    wanted = codec.decode(tokens.first(2)).samples.numpy()
    assert np.allclose(pcm.to_samples(back.getvalue(), "f32le"), wanted, atol=1e-5)


def test_what_came_before_a_cut_is_heard():
    codec, out, back = load(small()), io.BytesIO(), io.BytesIO()
    encode_pcm(codec, io.BytesIO(spoken(1)), out)
    with pytest.raises(TokenFileDamagedError, match=r"stdin: the token stream is cut short after"):
        decode_pcm(codec, TokenSource(io.BytesIO(out.getvalue()[:-60])), back)
    assert 2 * 16000 * 0.9 < len(back.getvalue()) < 2 * 16000


# -- as a person runs it ----------------------------------------------------------------------


def test_a_pipeline_of_two(tmp_path: Path):
    encoded = run("encode", "--codec", small(), "--stats", stdin=spoken(0.6))
    assert encoded.code == 0, encoded.err
    assert "p50" in encoded.err
    assert "ms algorithmic" in encoded.err
    assert whole(tmp_path / "a.tok", encoded.out).seconds == 0.6
    decoded = run("decode", "--codec", small(), stdin=encoded.out)
    assert decoded.code == 0, decoded.err
    assert len(decoded.out) == 2 * 9600
    assert decoded.err == ""


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        (["decode"], b"", 1, "stdin: an empty file"),
        (["decode"], b"RIFF" * 9, 1, "stdin: not a .tok file"),
        (["encode", "--codebooks", "5"], b"", 2, "has 1 to 4"),
        (["encode"], b"RIFF" * 9, 1, "not raw PCM"),
        (["encode", "--rate", "16001"], b"ab", 1, "share no useful factor"),
        (["encode", "--context", "1"], b"", 1, "no context is needed"),
    ],
)
def test_errors_are_one_line(arguments: list[str], stdin: bytes, code: int, says: str):
    codec = ["--codec", str(small())]
    done = run(*arguments, *(codec if arguments[0] == "encode" else []), stdin=stdin)
    assert done.code == code
    assert done.err.count("\n") == 1
    assert says in done.err


def test_each_frame_comes_when_its_last_sample_has():
    with started("encode", "--codec", small()) as child:
        assert child.stdin
        assert child.stdout
        data = spoken(1)
        child.stdin.write(data[:640])
        child.stdin.flush()
        source = TokenSource(cast(BufferedIOBase, child.stdout))
        blocks = source.blocks()
        for i in range(1, 6):  # the next is not sent before one has come
            child.stdin.write(data[640 * i : 640 * (i + 1)])
            child.stdin.flush()
            if i > 1:
                assert next(blocks).shape == (4, 1)
        child.stdin.close()
        assert sum(block.shape[1] for block in blocks) == 2
        assert source.samples == 6 * 320
        assert child.wait(60) == 0


def test_ctrl_c_ends_a_stream_in_good_order(tmp_path: Path):
    none, half = io.BytesIO(), io.BytesIO()
    encode_pcm(load(small()), io.BytesIO(b""), none)
    encode_pcm(load(small()), io.BytesIO(spoken(0.5)), half)
    each = (len(half.getvalue()) - len(none.getvalue())) // 25  # bytes a frame
    with started("encode", "--codec", small()) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(spoken(0.5))
        child.stdin.flush()
        head = b""
        while len(head) < len(none.getvalue()) + 20 * each:  # all has come, and most is said
            head += os.read(child.stdout.fileno(), 1000)
        os.killpg(child.pid, signal.SIGINT)
        rest, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.count(b"\n") == 1
    assert b"Traceback" not in said
    assert whole(tmp_path / "a.tok", head + rest).seconds == 0.5


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_who_reads_no_more_ends_it_quietly(way: str):
    data = spoken(20)
    if way == "decode":
        out = io.BytesIO()
        encode_pcm(load(small()), io.BytesIO(spoken(3)), out)
        data = out.getvalue()
    with started(way, "--codec", small()) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.close()
        child.stdout = None
        _, said = child.communicate(data, timeout=100)
        assert (child.returncode, said) == (1, b"")


@pytest.mark.skipif(not shutil.which("sox") or not shutil.which("ffmpeg"), reason="no sox, ffmpeg")
def test_between_ffmpeg_and_sox(tmp_path: Path):
    Audio(torch.from_numpy(noise(0.7, 44100).T), 44100).save(tmp_path / "in.wav")
    python = " ".join(COMMAND)
    line = (
        f"ffmpeg -v error -i in.wav -f s16le -ac 1 -ar 44100 - | {python} stream encode"
        f" --rate 44100 --codec {small()} | {python} stream decode --codec {small()} --rate 44100"
        " | sox -t raw -e signed -b 16 -c 1 -r 44100 - out.wav"
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(Audio.load(tmp_path / "out.wav")) == len(Audio.load(tmp_path / "in.wav"))
