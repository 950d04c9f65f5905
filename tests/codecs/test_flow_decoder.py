"""The decoder by flow matching: contracts of decoders, conditions, training, commands."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import audiotok
from contracts import assert_close, noise
from sizes import LATENTS, SIZES, SMALL, made

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import save
from audiotok.codecs.decoders.base import Source
from audiotok.codecs.decoders.flow import Config, Flow
from audiotok.codecs.flow_fit import FlowTraining, Pair, fit_flow, flow_loss, flow_pairs
from audiotok.codecs.load import load, load_decoder
from audiotok.data.manifest import read_manifest
from audiotok.nn.flow import Sampling
from audiotok.runtime.sessions import Decoding
from audiotok.runtime.stream import Stream
from audiotok.testing.checks import Sizes, for_all, pieces
from audiotok.tokens.codebooks import NoCodesError
from audiotok.tokens.tokenizer import WrongTokensError

SIZE: dict[str, Any] = {"width": 16, "reading": 1, "blocks": 2, "kernel": 3, "times": 4, "steps": 3}
SPEECH = {"codec": "speech", "sizes": asdict(SMALL), "features": 16}
POCKET = {"codec": "pocket_tts", "sizes": asdict(LATENTS[0][1]), "features": 8}
MUSIC_SIZES = replace(SIZES["dac"][0], sample_rate=48000, strides=(4, 8, 10))
MUSIC = {"codec": "dac", "sizes": asdict(MUSIC_SIZES), "features": 16}
KINDS = [
    (Source("dmel_40hz", 16000, 400, (16,) * 80), SPEECH),  # 4 frames are 5 of the codec
    (Source("units", 16000, 640, (50,), "0123456789abcdef"), SPEECH),
    (Source("others", 24000, 480, (5, 5, 5)), SPEECH),
    (Source("others", 16000, 200, (5,)), SPEECH),
    # InspireMusic: 75 Hz tokens of 24 kHz become 150 Hz latents of a codec of 48 kHz.
    (Source("wavtokenizer_75hz", 24000, 320, (64,), "0123456789abcdef"), MUSIC),
    (Source("others", 12000, 320, (5, 7)), POCKET),  # up to 24 kHz, 4 of 160 samples there
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda p: f"{p[0].codec}-{p[0].frame_size}")
def decoder(request: pytest.FixtureRequest) -> Flow:
    """A small decoder whose every part matters."""
    torch.manual_seed(0)
    source, codec = request.param
    flow = Flow(Config(**SIZE, **codec, source=asdict(source)))
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    flow.sampler.mean.normal_()
    flow.sampler.deviation.uniform_(0.5, 2)
    return flow.eval().requires_grad_(False)


def codes_for(flow: Flow, frames: int) -> torch.Tensor:
    """Return random codes `[k f]`."""
    random = torch.Generator().manual_seed(frames)
    return torch.stack([torch.randint(n, (frames,), generator=random) for n in flow.sizes])


def test_lengths_are_exact(decoder: Flow):
    for frames in [0, 1, 2, 3, 4, 5, 9, decoder.block + 1]:
        audio = decoder.decode(codes_for(decoder, frames))
        assert (len(audio), audio.rate) == (frames * decoder.frame_size, decoder.sample_rate)
        assert audio.samples.isfinite().all()
        if frames:
            samples = frames * decoder.source.frame_size - 1
            short = decoder.decode(codes_for(decoder, frames), samples=samples)
            assert torch.equal(short.samples, audio.samples[:, : decoder.decoded_samples(samples)])


def test_any_cutting_gives_the_same_bits(decoder: Flow):
    codes = codes_for(decoder, decoder.block + 21)
    whole = decoder.decode(codes).samples
    executor = decoder.executor

    def check(sizes: list[int]) -> None:
        decoding = Decoding(executor)
        parts = [decoding.push(piece) for piece in pieces(codes[None], sizes)]
        assert torch.equal(executor.join([*parts, decoding.finish()], 2)[0], whole)

    for_all(check, Sizes(most=codes.shape[1], longest=30, common=(0, 1, 127, 128)), examples=4)


def test_a_batch_gives_each_what_it_gets_alone(decoder: Flow):
    many = [codes_for(decoder, n) for n in (30, 1, 0, 70, 7)]
    for one, codes in zip(decoder.decode_batch(many), many, strict=True):
        assert torch.equal(one.samples, decoder.decode(codes).samples)
    for one, codes in zip(decoder.decode_batch(many, group=3), many, strict=True):
        assert_close(one.samples, decoder.decode(codes).samples, 1e-4)


def test_it_needs_the_whole_recording(decoder: Flow):
    assert not decoder.constant_memory
    with pytest.raises(ValueError, match=r"^decoder '.*' takes all tokens before it gives"):
        Stream(decoder)


def test_a_seed_repeats_to_the_bit_and_conditions_matter(decoder: Flow):
    codes = codes_for(decoder, 12)
    one = decoder.conditioned(seed=5).decode(codes).samples
    assert torch.equal(one, decoder.conditioned(seed=5).decode(codes).samples)
    assert not torch.equal(one, decoder.conditioned(seed=6).decode(codes).samples)
    assert torch.equal(decoder.decode(codes).samples, decoder.conditioned().decode(codes).samples)
    plain = decoder.conditioned(guidance=1.0, steps=3, method="midpoint")
    assert torch.equal(decoder.decode(codes).samples, plain.decode(codes).samples)
    others: list[dict[str, Any]] = [{"steps": 4}, {"method": "euler"}, {"guidance": 2}]
    for other in others:
        changed = decoder.conditioned(**other)
        assert not torch.equal(decoder.decode(codes).samples, changed.decode(codes).samples)
    bad: list[dict[str, Any]] = [{"steps": 0}, {"steps": 2.5}, {"method": "heun"}]
    for wrong in [*bad, {"guidance": "x"}, {"way": 3}]:
        with pytest.raises(ValueError, match=next(iter(wrong)) + "|steps"):
            decoder.conditioned(**wrong)


def test_how_it_samples_is_in_its_fingerprint(decoder: Flow):
    ways: list[dict[str, Any]] = [{}, {"seed": 1}, {"steps": 4}, {"guidance": 2.0}]
    ways.append({"method": "euler"})
    assert len({decoder.conditioned(**way).decoder_fingerprint for way in ways}) == 5
    assert decoder.conditioned().decoder_fingerprint == decoder.decoder_fingerprint


def test_fewer_codebooks_decode(decoder: Flow):
    codes = codes_for(decoder, 5)
    for k in range(1, len(codes)):
        assert len(decoder.decode(codes[:k])) == 5 * decoder.frame_size


def test_what_does_not_fit_is_refused():
    sizes = {**SIZE, **SPEECH}
    with pytest.raises(ValueError, match="whole number"):
        Flow(Config(**sizes, source=asdict(Source("x", 22050, 512, (5,)))))
    with pytest.raises(ValueError, match="no codebooks"):
        Config(source=asdict(Source("x", 16000, 320)))
    with pytest.raises(ValueError, match="without a decoder"):
        Flow(Config(codec="dmel", source=asdict(Source("x", 16000, 320, (5,)))))
    two = asdict(SIZES["xcodec2"][1])
    with pytest.raises(ValueError, match="16000 Hz and decodes to 24000"):
        Flow(Config(codec="xcodec2", sizes=two, source=asdict(Source("x", 16000, 320, (5,)))))


# -- training --------------------------------------------------------------------------------------


def lines(count: int = 6, frames: int = 200) -> tuple[Any, Any, list[Pair]]:
    """Return a tokenizer, a codec and pairs, in which every code has a latent of its own."""
    tokenizer, codec = made("speech", SMALL), made(*LATENTS[0])
    random = torch.Generator().manual_seed(0)
    table = 5 * torch.randn(8, 64, generator=random) + 2
    pairs = []
    for _ in range(count):
        codes = torch.randint(64, (4, frames), generator=random)
        near = table[:, codes[0]].repeat_interleave(3, 1)  # 20 ms are 3 frames of 160 at 24 kHz
        pairs.append(Pair(codes, near + 0.1 * torch.randn(near.shape, generator=random)))
    return tokenizer, codec, pairs


def test_training_lowers_the_loss_and_more_steps_come_nearer_to_the_flow():
    tokenizer, codec, pairs = lines()
    config = Config(width=48, reading=1, blocks=2, kernel=3)
    quick = FlowTraining(batch=8, seconds=0.4, rate=3e-3, whole=1.0)
    before, after, again = (
        fit_flow(pairs[1:], tokenizer, codec, config, replace(quick, steps=n))
        for n in (1, 500, 500)
    )
    assert after.fingerprint == tokenizer.fingerprint
    assert after.decoder_fingerprint == again.decoder_fingerprint
    first, last = (flow_loss(flow, pairs[:1], quick) for flow in (before, after))
    assert last < 0.5 * first
    sounding = codec.decoder.state_dict()
    for name, value in after.sampler.codec.decoder.state_dict().items():
        assert torch.equal(value, sounding[name])
    codes, latents = pairs[0]
    embedded = after.quantizer.decode(codes[None])

    def sampled(steps: int, method: str = "euler") -> torch.Tensor:
        sampling = after.conditioned(steps=steps, method=method).sampling
        return after.sampler.sampled(embedded, sampling)[0]

    exact = sampled(200, "midpoint")
    errors = [float((sampled(steps) - exact).square().mean()) for steps in (2, 8, 32)]
    assert errors[2] < errors[1] < errors[0]
    assert float((sampled(16, "midpoint") - exact).square().mean()) < errors[2]
    spread = float((latents - latents.mean(1, keepdim=True)).square().mean())
    assert float((exact - latents).square().mean()) < 0.5 * spread


def test_tokens_become_latents_of_twice_the_rate_better_than_by_stretching():
    """As InspireMusic bridges WavTokenizer and a codec of 48 kHz, at small sizes.

    Beside the flow: the mean latent of each code, stretched to the codec's rate.
    """
    torch.manual_seed(0)
    tokenizer = made("wavtokenizer", replace(SIZES["wavtokenizer"][0], strides=(4, 8, 10)))
    codec = made("dac", MUSIC_SIZES)
    assert (tokenizer.frame_rate, codec.frame_rate) == (75, 150)
    random = torch.Generator().manual_seed(0)
    table = torch.randn(16, 2 * 64, generator=random)  # two latents that differ, for each code
    pairs = []
    for _ in range(5):
        codes = torch.randint(64, (1, 150), generator=random)
        rows = table.unflatten(1, (64, 2))[:, codes[0]].flatten(1)
        pairs.append(Pair(codes, rows + 0.1 * torch.randn(rows.shape, generator=random)))
    config = Config(width=64, reading=1, blocks=2, kernel=3)
    training = FlowTraining(steps=500, batch=8, seconds=0.4, rate=3e-3, whole=1.0)
    flow = fit_flow(pairs[1:], tokenizer, codec, config, training)
    assert (flow.sample_rate, flow.frame_size) == (48000, 640)
    codes, latents = pairs[0]
    made_by_flow = flow.sampler.sampled(flow.quantizer.decode(codes[None]), Sampling(steps=8))[0]
    means = table.unflatten(1, (64, 2)).mean(2)[:, codes[0]][None]
    stretched = torch.nn.functional.interpolate(means, scale_factor=2, mode="linear")[0]
    errors = [float((x - latents).square().mean()) for x in (made_by_flow, stretched)]
    assert errors[0] < 0.8 * errors[1]
    assert len(flow.decode(codes)) == 640 * 150


def test_embeddings_may_begin_as_the_tokenizers_entries():
    tokenizer, codec, pairs = lines(2)
    training = FlowTraining(steps=1, batch=2, seconds=0.4, rate=1e-9, entries=True)
    config = Config(width=24, reading=1, blocks=1)
    flow = fit_flow(pairs, tokenizer, codec, config, training)
    books = [book - book.mean(0) for book in tokenizer.codebook_embeddings()]
    begun = flow.tables.entries[:, :16] / torch.cat(books)
    assert_close(begun / begun[0, 0], torch.ones_like(begun), 1e-3)
    random = fit_flow(pairs, tokenizer, codec, config, replace(training, entries=False))
    assert_close(random.tables.entries[:, 16:], flow.tables.entries[:, 16:], 1e-6)
    with pytest.raises(ValueError, match="entries of 16 features in a network of width 8"):
        fit_flow(pairs, tokenizer, codec, replace(config, width=8), training)
    without = made("encodec", SIZES["encodec"][3])
    with pytest.raises(ValueError, match="encodec: its codes have no entries at hand"):
        fit_flow(
            [Pair(torch.zeros(303, 9).long(), pairs[0].latents)], without, codec, config, training
        )


def test_pairs_that_are_too_short_are_refused():
    tokenizer, codec, pairs = lines(2, 10)
    with pytest.raises(ValueError, match=r"^no recording has the 2 s of a stretch"):
        fit_flow(pairs, tokenizer, codec)
    with pytest.raises(ValueError, match=r"^no recording has"):
        fit_flow([], tokenizer, codec)
    bad: list[dict[str, Any]] = [{"steps": 0}, {"seconds": 0.0}, {"drop": 1.0}, {"rate": 0.0}]
    for wrong in bad:
        with pytest.raises(ValueError, match=r"at least one of each|shares"):
            FlowTraining(**wrong)


def test_the_command_trains_a_decoder(tmp_path: Path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    tokenizer, codec = made("speech", SMALL), made(*LATENTS[0])
    save(tokenizer, tmp_path / "tokens.safetensors", dtype=torch.float32)
    save(codec, tmp_path / "codec.safetensors", dtype=torch.float32)
    for i in range(3):
        noise(tokenizer, 9000 + 1234 * i, seed=i).save(folder / f"{i}.wav")
    pairs = flow_pairs(tokenizer, codec, read_manifest(folder))
    assert [pair.codes.shape for pair in pairs] == [(4, 29), (4, 32), (4, 36)]
    with pytest.raises(NoCodesError, match="a flow: speech gives latents of 16 numbers"):
        flow_pairs(made("speech", replace(SMALL, quantizer="none")), codec, [])
    out = tmp_path / "flow.safetensors"
    words = ["flow", tmp_path / "tokens.safetensors", folder, "-o", out, "--split", ""]
    words += ["--codec", tmp_path / "codec.safetensors", "--held-out", "", "--steps", "2"]
    words += ["--batch", "2", "--seconds", "0.2", "--width", "8", "--blocks", "1"]
    facts = json.loads(audiotok(*words, "--json").out)
    assert facts["recordings"] == 3
    assert facts["training"]["entries"] is False
    done = audiotok(*words, "--entries", "--force")
    assert done.lines[-1] == "error entries of 16 features in a network of width 8: give more width"
    assert audiotok(*words).lines == [f"error {out}: exists already; --force overwrites it"]
    decoder = load_decoder(out)
    assert decoder.card["flow"]["tokenizer"]["fingerprint"] == tokenizer.fingerprint
    tok, wav = tmp_path / "a.tok", tmp_path / "a.wav"
    first = ["--codec", tmp_path / "tokens.safetensors", "-o", tok]
    assert audiotok("encode", folder / "0.wav", *first).code == 0
    ways = ["decode", tok, "--decoder", out, "-o", wav, "--force"]
    sounds = []
    for more in ([], ["--seed", "3"], ["--condition", "steps=2"], []):
        assert audiotok(*ways, *more).code == 0
        sounds.append(Audio.load(wav).samples)
    assert (len(sounds[0][0]), Audio.load(wav).rate) == (13500, 24000)
    assert torch.equal(sounds[0], sounds[3])
    assert not torch.equal(sounds[0], sounds[1])
    assert not torch.equal(sounds[0], sounds[2])
    for wrong, message in (
        (["--condition", "steps=0"], "0 steps"),
        (["--condition", "steps=true"], "condition 'steps' must be an integer, not True"),
        (["--condition", "guidance=NaN"], "condition 'guidance' must be a number, not nan"),
        (["--condition", "steps"], "--condition steps: give NAME=VALUE"),
        (["--condition", "steps=[1]"], "one value"),
        (["--condition", "seed=2"], "--condition seed: give --seed"),
        (["--condition", "guidance=1e38"], "samples that are not finite"),
        (["--condition", "speed=2"], "no condition 'speed'"),
    ):
        done = audiotok(*ways, *wrong)
        assert done.code
        assert message in done.lines[0]
    done = audiotok("decode", tok, "-o", wav, "--condition", "steps=2")
    assert done.lines == ["error --condition: for a --decoder that takes one"]
    with pytest.raises(WrongTokensError):
        decoder.decode(load("dmel_40hz").encode(noise(tokenizer, 4000)))
