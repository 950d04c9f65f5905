"""The vocoder: the contracts of decoders at any frame rate, its voices, its files, its commands."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.catalogue import CheckpointError
from audiotok.codecs.checkpoint import save
from audiotok.codecs.decoders.base import Source
from audiotok.codecs.decoders.vocoder import Config, Vocoder
from audiotok.codecs.load import load, load_decoder
from audiotok.evaluation.bench.subjects import Spec, load_system
from audiotok.runtime.sessions import Decoding
from audiotok.runtime.stream import Stream
from audiotok.testing.checks import Sizes, for_all, pieces
from audiotok.tokens.tokenizer import WrongTokensError

ROOT = Path(__file__).parents[2]
READING = ROOT / "egs/data/reading.flac"
SMALL: dict[str, Any] = {
    "width": 16,
    "reading": 1,
    "blocks": 1,
    "kernel": 3,
    "speaker": 4,
    "speech": {"decoder": 16, "decoder_blocks": 2, "heads": 2, "window": 5, "latent": 8},
}
DMEL = Source("dmel_40hz", 16000, 400, (16,) * 80)
SOURCES = [
    DMEL,  # 4 frames are 5 of `speech`
    Source("units", 16000, 320, (50,), "0123456789abcdef"),
    Source("kmeans", 16000, 640, (9, 7)),
    Source("units", 16000, 1280, (50,)),
    Source("others", 24000, 480, (5, 5, 5)),
    Source("others", 16000, 200, (5,)),
]


def made(source: Source, **more: Any) -> Vocoder:
    """Return a small vocoder whose every part matters."""
    torch.manual_seed(0)
    codec = Vocoder(Config(**{**SMALL, "pitch": source != DMEL, **more}, source=asdict(source)))
    for parameter in codec.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return codec.eval().requires_grad_(False)


def codes_for(decoder: Vocoder, frames: int) -> torch.Tensor:
    """Return random codes `[k f]`."""
    random = torch.Generator().manual_seed(frames)
    return torch.stack([torch.randint(n, (frames,), generator=random) for n in decoder.sizes])


@pytest.fixture(scope="module", params=SOURCES, ids=lambda s: f"{s.codec}-{s.frame_size}")
def decoder(request: pytest.FixtureRequest) -> Vocoder:
    return made(request.param)


def test_lengths_are_exact(decoder: Vocoder):
    block = decoder.block
    for frames in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, block - 1, block, block + 1]:
        audio = decoder.decode(codes_for(decoder, frames))
        assert (len(audio), audio.rate) == (frames * decoder.frame_size, 16000)
        if frames:
            short = decoder.decode(
                codes_for(decoder, frames), samples=frames * decoder.source.frame_size - 1
            )
            assert len(short) == decoder.decoded_samples(frames * decoder.source.frame_size - 1)
            assert torch.equal(short.samples, audio.samples[:, : len(short)])


def test_any_cutting_gives_the_same_bits(decoder: Vocoder):
    codes = codes_for(decoder, 2 * decoder.block + 21)
    whole = decoder.decode(codes).samples
    executor = decoder.executor

    def check(sizes: list[int]) -> None:
        decoding = Decoding(executor)
        parts = [decoding.push(piece) for piece in pieces(codes[None], sizes)]
        wave = executor.join([*parts, decoding.finish()], 2)[0]
        assert torch.equal(wave, whole)

    for_all(check, Sizes(most=codes.shape[1], longest=30, common=(0, 1, 127, 128)), examples=10)


def test_a_batch_gives_each_what_it_gets_alone(decoder: Vocoder):
    many = [codes_for(decoder, n) for n in (30, 1, 0, 300, 7)]
    for one, codes in zip(decoder.decode_batch(many), many, strict=True):
        assert torch.equal(one.samples, decoder.decode(codes).samples)
        assert one.samples.isfinite().all()


def test_streams_give_the_samples_of_the_whole(decoder: Vocoder):
    codes, stream = codes_for(decoder, 61), Stream(decoder)
    parts = [stream.decode(piece) for piece in codes.split(7, 1)]
    wave = torch.cat([*parts, stream.finish_decode()], 1)
    whole = decoder.decode(codes).samples
    assert wave.shape == whole.shape
    assert (wave - whole).abs().max() <= 1e-4 * max(1.0, float(whole.abs().max()))
    assert decoder.constant_memory
    assert decoder.latency < 1.5


def test_each_frame_reaches_as_far_as_is_declared(decoder: Vocoder):
    latent = decoder.quantizer.decode(codes_for(decoder, 24)[None]).requires_grad_()
    for sample in (2000, 2399, 3000):
        (slope,) = torch.autograd.grad(decoder.waves(latent)[0, 0, sample], latent)
        seen = slope.abs().sum((0, 1)).nonzero().flatten()
        assert int(seen.max()) == decoder.decoder.input_span(sample, sample)[1]


def test_fewer_codebooks_decode_to_something_else():
    decoder = made(DMEL)
    codes = codes_for(decoder, 12)
    some = [decoder.decode(codes[:k]).samples for k in (1, 40, 79, 80)]
    assert all(not torch.equal(a, b) for a, b in pairwise(some))
    keep = torch.tensor([80, 40])
    mixed = decoder.tables.dropped(torch.stack([codes, codes]), keep)
    assert torch.allclose(mixed[0], decoder.quantizer.decode(codes[None])[0], atol=1e-5)
    assert torch.allclose(mixed[1], decoder.quantizer.decode(codes[None, :40])[0], atol=1e-5)


def test_a_voice_is_a_condition():
    decoder, reading = made(DMEL), Audio.load(READING)
    codes = codes_for(decoder, 20)
    plain = decoder.decode(codes).samples
    voice = decoder.speaker_of(reading)
    assert voice.shape == (4,)
    prompted = decoder.conditioned(prompt=READING)
    said = prompted.decode(codes).samples
    assert not torch.equal(said, plain)
    assert torch.equal(said, decoder.conditioned(speaker=voice, seed=3).decode(codes).samples)
    assert torch.equal(plain, prompted.conditioned().decode(codes).samples)
    assert torch.equal(plain, decoder.decode(codes).samples)  # itself as before
    louder = decoder.speaker_of(Audio(0.5 * reading.samples, reading.rate))
    assert torch.allclose(voice, louder, atol=1e-3)  # a voice is one at any level


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ({"text": "a"}, "vocoder: no condition 'text'; it takes speaker, prompt"),
        ({"speaker": [1.0, 2.0]}, "vocoder: speaker is 4 finite numbers"),
        ({"speaker": [1.0, 2.0, 3.0, float("nan")]}, "vocoder: speaker is 4 finite numbers"),
        ({"speaker": [0.0] * 4, "prompt": "a.wav"}, "vocoder: a speaker or a prompt, not both"),
        ({"prompt": Audio(torch.zeros(1, 99), 16000)}, "this one is silent"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(conditions: dict[str, Any], says: str):
    with pytest.raises(InputError, match=says):
        made(DMEL).conditioned(**conditions)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"frames of 'x' are 213\.333 samples at 16000 Hz"):
        Vocoder(Config(**SMALL, source=asdict(Source("x", 24000, 320, (4,)))))
    with pytest.raises(InputError, match="its tokens have no codebooks"):
        Config(source=asdict(Source("x", 16000, 320)))
    with pytest.raises(InputError, match="must be at least 1"):
        Config(reading=0)


def test_a_file_holds_all_that_it_needs(tmp_path: Path):
    decoder = made(SOURCES[1])
    save(decoder, tmp_path / "voice.safetensors", dtype=torch.float32)
    again = load_decoder(tmp_path / "voice.safetensors")
    assert isinstance(again, Vocoder)
    assert (again.config, again.source) == (decoder.config, decoder.source)
    assert again.decoder_fingerprint == decoder.decoder_fingerprint
    codes = codes_for(decoder, 9)
    assert torch.equal(again.decode(codes).samples, decoder.decode(codes).samples)
    other = made(Source("units", 16000, 320, (50,), "f" * 16)).to_tokens(codes)
    with pytest.raises(WrongTokensError, match="decoder 'vocoder' takes those of 0123456789abcdef"):
        again.decode(other)


def test_the_vocoder_of_units_ships(tmp_path: Path):
    units, decoder = load("units"), load_decoder("vocoder_units")
    audio = Audio.load(ROOT / "egs/data/reading.flac")[: 3 * 16000 + 77]
    tokens = units.encode(audio)
    heard = decoder.conditioned(prompt=audio).decode(tokens)
    assert (heard.rate, len(heard)) == (16000, tokens.samples)
    assert 0.1 < heard.samples.std() / audio.samples.std() < 10
    assert load_decoder("vocoder").decoder_fingerprint == decoder.decoder_fingerprint
    with pytest.raises(WrongTokensError, match="decoder 'vocoder_units' takes those of 'units'"):
        decoder.decode(load("units_50hz").encode(audio))
    tokens.save(tmp_path / "a.tok")
    done = audiotok("decode", tmp_path / "a.tok", "--decoder", "vocoder_units")
    assert done.code == 0, done.err
    assert len(Audio.load(tmp_path / "a.wav")) == tokens.samples


def test_weights_that_do_not_ship_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("audiotok.codecs.catalogue.WEIGHTS", tmp_path)
    with pytest.raises(CheckpointError, match="decoder 'vocoder' has no weights here"):
        load_decoder("vocoder")


def test_commands_take_a_file_and_a_prompt(tmp_path: Path):
    file, tokens, wave = (tmp_path / f"a{s}" for s in (".safetensors", ".tok", ".wav"))
    save(made(DMEL), file)
    audiotok("encode", READING, "--codec", "dmel_40hz", "-o", tokens)
    decode = ("decode", tokens, "-o", wave, "--decoder")
    assert audiotok(*decode, file).code == 0
    plain = Audio.load(wave)
    assert audiotok(*decode, file, "--prompt", READING, "--force").code == 0
    assert len(Audio.load(wave)) == len(plain)
    assert not torch.equal(Audio.load(wave).samples, plain.samples)
    refused = audiotok(*decode, "griffin_lim", "--prompt", READING, "--force")
    says = "griffin_lim_40hz: no condition 'prompt'; it takes none"
    assert (refused.code, refused.lines) == (1, [f"error {tokens}: {says}"])
    assert audiotok("decode", tokens, "-o", wave, "--prompt", READING, "--force").code == 2
    missing = audiotok(*decode, file, "--prompt", tmp_path / "none.wav", "--force")
    assert missing.code == 1
    assert "none.wav" in missing.lines[0]
    both = audiotok(
        *("roundtrip", READING, "-o", tmp_path / "heard", "--codec", "dmel_40hz"),
        *("--decoder", file, "--prompt", READING),
    )
    assert both.code == 0


def test_a_bench_prompts_with_each_recording(tmp_path: Path):
    file = tmp_path / "voice.safetensors"
    save(made(DMEL), file)
    reading = Audio.load(READING)[:20_000].mono()
    plain, prompted = (
        load_system(Spec.parse(f"dmel_40hz+{file}{more}")) for more in ("", "+prompt")
    )
    assert plain.id != prompted.id
    outputs = [s.output(reading, "a", tmp_path / "a").audio for s in (plain, prompted)]
    assert outputs[0]
    assert outputs[1]
    assert len(outputs[0]) == len(outputs[1]) == len(reading)
    assert not np.array_equal(outputs[0].samples, outputs[1].samples)
    with pytest.raises(InputError, match="decoder 'griffin_lim_40hz' takes no prompt"):
        load_system(Spec.parse("dmel_40hz+griffin_lim+prompt"))
    with pytest.raises(InputError, match="no condition 'seed' for all recordings; there are none"):
        load_system(Spec.parse("dmel_40hz+griffin_lim+seed=1"))
    assert load("dmel_40hz").name == plain.describe().name.partition("+")[0]
