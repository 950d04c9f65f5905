"""Codecs of latents keep the promises of codecs: in batches, streams, files and corpora."""

from __future__ import annotations

import io
import json
import math
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import contracts
import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import noise
from sizes import LATENTS, UNQUANTIZED, made

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.audio.pcm import to_bytes
from audiotok.codecs.checkpoint import load, save
from audiotok.codecs.conformance import conform
from audiotok.codecs.latents import latents_of, quantize
from audiotok.codecs.models.base import Codec
from audiotok.corpus import Corpus
from audiotok.corpus.build.state import State
from audiotok.runtime.stream import Stream
from audiotok.serving.live.pipe import encode_pcm
from audiotok.tokens import Latents, TokenReader, codebooks
from audiotok.tokens.codebooks import NoCodesError

ALL = [*LATENTS, *UNQUANTIZED]


@pytest.fixture(scope="module", params=ALL, ids=[f"{n} {i}" for i, (n, _) in enumerate(ALL)])
def codec(request: pytest.FixtureRequest) -> Codec:
    return made(*request.param)


def test_it_says_what_it_is(codec: Codec):
    assert (codec.kind, codec.codebooks, codec.sizes) == ("latents", 0, ())
    assert f"latents of {codec.width}" in repr(codec)
    assert math.isfinite(codec.latency)
    assert f"latents of {codec.width}" in repr(Stream(codec))
    assert codec.codebook_embeddings() == []


def test_lengths_are_exact(codec: Codec):
    frame, block = codec.frame_size, codec.block * codec.frame_size
    contracts.assert_lengths_exact(codec, [0, 1, frame - 1, frame, frame + 1, 12345, block + 1])


def test_any_cutting_gives_the_same_bits(codec: Codec):
    audio = noise(codec, 2 * codec.block * codec.frame_size + 1234)
    contracts.assert_cuttable(codec, audio, examples=8)


def test_batches_give_each_what_it_gets_alone(codec: Codec):
    audios = [noise(codec, n) for n in (30_000, 1, 0, 12_345)]
    contracts.assert_batches(codec, audios)
    if not codec.decodes:
        return
    mixed = [codec.encode(audio) for audio in audios]
    halves: list[Any] = [latents.half() for latents in mixed]  # pyright: ignore
    for one, other in zip(codec.decode_batch(halves), halves, strict=True):
        assert torch.equal(one.samples, codec.decode(other.single()).samples)


def test_tensors_give_each_what_it_gets_alone(codec: Codec):
    if codec.decodes:
        contracts.assert_tensors(codec)
        contracts.assert_differentiable(codec)


def test_streams_give_the_whole(codec: Codec):
    contracts.assert_conversations(codec, noise(codec, 20 * codec.frame_size + 7), most=0)
    contracts.assert_receptive_field(codec)
    if codec.decodes:
        contracts.assert_no_future(codec)
        contracts.assert_latency(codec)


def test_training_reaches_every_parameter(codec: Codec):
    torch.manual_seed(0)
    if codec.decodes:
        contracts.assert_trains(type(codec)(codec.config))


def test_it_has_a_certificate(codec: Codec):
    results = {result.check: result for result in conform(codec, noise(codec, 72_000))}
    assert {result.verdict for result in results.values()} == {"pass", "does not apply"}
    assert [n for n, r in results.items() if r.verdict != "pass"] in (["device"], [])
    assert "off by" in results["dtype"].message


def test_a_certificate_tells_of_latents_that_depend_on_the_past_too_far(
    monkeypatch: pytest.MonkeyPatch,
):
    """The checks of latents can fail."""
    codec = made(*LATENTS[1])
    step = type(codec).step_latent

    def later(self: Any, wave: Any, state: Any) -> Any:
        latent, state = step(self, wave, state)
        return latent + 10 * wave.mean(), state

    monkeypatch.setattr(type(codec), "step_latent", later)
    failed = {r.check for r in conform(codec, noise(codec, 72_000)) if r.verdict == "fail"}
    assert {"stream", "receptive field"} <= failed


def test_they_are_what_latents_of_gives_and_no_quantizer_takes(codec: Codec):
    audio = noise(codec, 9_000)
    latents: Any = codec.encode(audio)
    assert latents_of(codec, audio) == latents
    with pytest.raises(NoCodesError, match=r"^quantize: .* gives latents of \d+ numbers a frame"):
        quantize(codec, latents)
    with pytest.raises(ValueError, match="latents have no codebooks to choose from"):
        codec.encode(audio, codebooks=1)
    if not codec.decodes:
        return
    stream = Stream(codec)
    for wrong in (latents.values.astype(int), latents.values[:-1], np.nan * latents.values):
        with pytest.raises(ValueError, match="latents"):
            stream.decode(wrong)
        with pytest.raises(ValueError, match="latents"):
            codec.decode(wrong)


# -- commands --------------------------------------------------------------------------------------


@pytest.fixture(
    scope="module", params=[LATENTS[0], LATENTS[-1]], ids=["with a decoder", "without one"]
)
def codec_of_files(request: pytest.FixtureRequest) -> Codec:
    return made(*request.param)


@pytest.fixture(scope="module")
def place(codec_of_files: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a checkpoint, of recordings (one stereo, two of another rate), and of corpora."""
    codec, folder = codec_of_files, tmp_path_factory.mktemp("place")
    save(codec, folder / "codec.safetensors", dtype=torch.float32)
    (folder / "talks").mkdir()
    for i, rate in enumerate((codec.sample_rate, 16_000, 44_100)):
        audio = noise(codec, 5_000 + 777 * i, seed=i)
        Audio(audio.samples.expand(1 + i // 2, -1), rate).save(folder / f"talks/{i}.wav")
    ok(*building(folder), "-o", folder / "whole")
    ok(*building(folder), "-o", folder / "small", "--half")
    return folder


@pytest.fixture
def weights(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint, in the current folder."""
    monkeypatch.chdir(place)
    return place / "codec.safetensors"


def building(folder: Path) -> list[Any]:
    """Return the words that build a corpus of the recordings."""
    coded = ["--codec", folder / "codec.safetensors", "-j", 1]
    return ["corpus", "build", folder / "talks", *coded]


def ok(*words: Any) -> str:
    """Run a command that succeeds, and return its output."""
    done = audiotok(*words)
    assert done.code == 0, done.err
    return done.out


def refused(*words: Any) -> str:
    """Run a command that fails, and return its one line."""
    done = audiotok(*words)
    assert done.code, done.out
    errors = [line for line in done.lines if line.startswith("error")]
    assert len(errors) == 1, done.lines
    return errors[0]


def test_a_latent_beyond_half_precision_names_the_pipe(
    codec_of_files: Codec, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(codebooks, "BEYOND_HALF", 1e-6)
    wave = noise(codec_of_files, 9 * codec_of_files.frame_size).samples.numpy()
    pcm = io.BytesIO(to_bytes(wave, "s16le"))
    with pytest.raises(InputError, match=r"^stdin: a latent of .*: half precision holds up to"):
        encode_pcm(codec_of_files, pcm, io.BytesIO(), half=True)


def test_files_there_and_back(codec_of_files: Codec, weights: Path):
    codec = codec_of_files
    coded = ["--codec", weights]
    wanted: Any = codec.encode("talks/1.wav")
    ok("encode", "talks/1.wav", "-o", "one.tok", *coded)
    assert Latents.load("one.tok") == wanted
    ok("encode", "talks/1.wav", "-o", "half.tok", "--half", *coded)
    assert Latents.load("half.tok") == wanted.half()
    assert "1 done already" in ok("encode", "talks/1.wav", "-o", "half.tok", "--half", *coded)
    line = refused("encode", "talks/1.wav", "-o", "half.tok", *coded)
    assert "exists already, with latents in float16" in line
    replace(wanted, fingerprint="0" * 16).save("other.tok")
    line = refused("encode", "talks/1.wav", "-o", "other.tok", *coded)
    assert f"{'0' * 16} with latents of {codec.width};" in line
    assert "gives codes: half precision is for latents" in refused(
        "encode", "talks/1.wav", "-o", "x.tok", "--half", "--codec", "dmel_40hz"
    )
    assert "gives latents, and has none" in refused("encode", "talks/1.wav", "-k", 2, *coded)
    facts = json.loads(ok("info", "half.tok", "--json"))
    assert (facts["kind"], facts["width"], facts["dtype"]) == ("latents", codec.width, "float16")
    ok("verify", "half.tok")
    if not codec.decodes:
        assert "without a decoder" in refused("decode", "one.tok", "-o", "one.wav", *coded)
        return
    ok("decode", "one.tok", "-o", "one.wav", "--rate", "original", *coded)
    assert Audio.load("one.wav").rate == 16_000
    assert len(Audio.load("one.wav")) == len(Audio.load("talks/1.wav"))
    ok("encode", "talks/2.wav", "-o", "two.tok", "--channels", "split", *coded)
    split = Latents.load("two.tok")
    assert (split.streams, split.channel(1)) == (2, Latents.load("two.tok").channel(0))
    ok("decode", "two.tok", "-o", "two.wav", *coded)
    assert Audio.load("two.wav").channels == 2
    assert json.loads(ok("roundtrip", "talks/0.wav", "-o", "round", *coded, "--json"))["scores"]
    pytest.importorskip("matplotlib")
    ok("plot", "two.tok", "-o", "two.png")
    assert "latents have no codebooks" in refused("plot", "two.tok", "-o", "x.png", "-k", 1)


def test_corpora_and_exports(codec_of_files: Codec, weights: Path):
    codec = codec_of_files
    for i, entry in enumerate(Corpus("whole")):
        wanted: Any = codec.encode(f"talks/{i}.wav")
        assert entry.tokens == wanted
        assert Corpus("small")[i].tokens == wanted.half()
    for name in ("whole", "small"):
        ok("corpus", "verify", name)
    facts = json.loads(ok("corpus", "info", "small", "--json"))
    assert (facts["width"], facts["dtype"], facts["sizes"]) == (codec.width, "float16", [])
    if codec.decodes:
        ok("corpus", "sample", "small", "-o", "sample", "--codec", weights)
    Path("lm.toml").write_text('[data]\ncorpus = "whole"\ntrain = "a split that it has not"\n')
    for words, why in [
        (("corpus", "stats", "whole"), "statistics of codebooks"),
        (("corpus", "compress", "whole", "-o", "packed"), "entropy coding"),
        (("export-corpus", "whole", "--to", "megatron", "-o", "a"), "an export of ids"),
        (("export-corpus", "whole", "--to", "jsonl", "-o", "b", "-k", 1), "a layout of ids"),
        (("lm", "pieces", "whole", "-o", "layout.json"), "a layout of ids"),
        (("lm", "train", "lm.toml", "-o", "lm"), "a language model"),
        (("serve", "--codec", weights, "--port", 0), "a server"),
    ]:
        line = refused(*words)
        assert why in line
        assert "gives latents of" in line


@pytest.mark.parametrize("half", [False, True])
def test_exports_hold_the_latents(
    weights: Path, half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = "small" if half else "whole"
    monkeypatch.chdir(tmp_path)
    entries = list(Corpus(weights.parent / name))
    for form in ("npy", "webdataset", "jsonl"):
        ok("export-corpus", weights.parent / name, "--to", form, "-o", form)
    folder = Path("npy/shard-000000.latents")
    values, bounds = np.load(folder / "latents.npy"), np.load(folder / "bounds.npy")
    assert values.dtype == ("float16" if half else "float32")
    with tarfile.open("webdataset/shard-000000.tar") as tar:
        names = tar.getnames()
    assert [n for n in names if n.endswith(".npy")] == [
        f"000000-{i:09d}.latents.npy" for i in range(3)
    ]
    rows = [json.loads(line) for line in Path("jsonl/shard-000000.jsonl").read_text().splitlines()]
    for i, entry in enumerate(entries):
        wanted = entry.tokens.numbers
        assert np.array_equal(values[bounds[i] : bounds[i + 1]].T, wanted)
        assert np.array_equal(np.array(rows[i]["latents"], wanted.dtype), wanted)
    parquet = pytest.importorskip("pyarrow.parquet")
    for form in ("parquet", "arrow", "hf"):
        ok("export-corpus", weights.parent / name, "--to", form, "-o", form)
    table = parquet.read_table("parquet/shard-000000.parquet")
    assert str(table.schema.field("latents").type).count("halffloat" if half else "float") == 1
    for row, entry in zip(table.to_pylist(), entries, strict=True):
        wanted = entry.tokens.numbers
        assert np.array_equal(np.array(row["latents"], wanted.dtype), wanted)


def test_a_build_that_was_cut_off_ends_with_the_same_bytes(
    weights: Path, monkeypatch: pytest.MonkeyPatch
):
    """Latents wait in the log as they will be in the shards."""
    commit, count = State.commit, 0

    def dies(self: State, *args: Any) -> str:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return commit(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(State, "commit", dies)
        assert audiotok(*building(weights.parent), "--half", "-o", "cut").code == 130
    ok(*building(weights.parent), "--half", "-o", "cut")
    for name in ("corpus.json", "shard-000000.tok", "shard-000000.npy", "shard-000000.jsonl"):
        assert (Path("cut") / name).read_bytes() == (Path("small") / name).read_bytes()


def test_a_checkpoint_is_itself(codec_of_files: Codec, weights: Path):
    codec = codec_of_files
    again = load(weights)
    assert (again.config, again.fingerprint) == (codec.config, codec.fingerprint)
    with TokenReader(_encoded(weights)) as reader:
        again.check_tokens(reader.header)


def _encoded(weights: Path) -> str:
    ok("encode", "talks/0.wav", "-o", "zero.tok", "--codec", weights)
    return "zero.tok"
