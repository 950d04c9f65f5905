"""HiFi-Codec is what InspireMusic's program computes; `inspiremusic` becomes 48 kHz through it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts import assert_close, latents, near_ties, noise
from golden import hificodec as golden
from sizes import SIZES, made
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load, save
from audiotok.codecs.decoders.base import Source
from audiotok.codecs.decoders.flow import Config as FlowConfig
from audiotok.codecs.decoders.flow import Flow
from audiotok.codecs.flow_fit import FlowTraining, fit_flow, flow_pairs
from audiotok.codecs.latents import latents_of
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.hificodec import Config
from audiotok.codecs.models.wavtokenizer import Wavtokenizer
from audiotok.data.manifest import read_manifest
from audiotok.nn.quantizers.grouped_rvq import GroupedRvq
from audiotok.nn.quantizers.grvq import Grvq

SMALL = Config(encoder=8, decoder=32, strides=(2, 4, 5), size=512)
PARTS = ("encoder", "quantizer", "generator")


def model_of(state: dict[str, Tensor], folder: Path, **options: Any) -> Path:
    """Write weights as they are published, with the options beside them; return the path."""
    parts = {
        part: {n.removeprefix(f"{part}."): w for n, w in state.items() if n.startswith(f"{part}.")}
        for part in PARTS
    }
    torch.save(parts, folder / "model.pt")
    options = {**golden.SMALL, "sampling_rate": 48000, "batch_size": 2, **options}
    (folder / "config.json").write_text(json.dumps(options), "utf-8")
    return folder / "model.pt"


@pytest.fixture(scope="module")
def state(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The program's weights."""
    return golden.weights(json.loads(str(stored["shapes"])), json.loads(str(stored["gains"])))


@pytest.fixture(scope="module")
def codec(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return load(model_of(state, tmp_path_factory.mktemp("model")))


def audio_of(samples: int) -> Audio:
    return Audio(golden.noise(samples)[0], 48000)


# -- the codec -------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_codes_latents_and_waves_are_those_of_the_program(
    codec: Codec, stored: dict[str, np.ndarray], samples: int
):
    assert codec.config == SMALL
    audio, codes = audio_of(samples), stored[f"codes {samples}"].astype(np.int64)
    tokens = codec.encode(audio)
    assert tokens.codes.shape == codes.shape
    assert near_ties(codec, audio, tokens.codes, codes) <= codes.size / 1000
    theirs = torch.from_numpy(stored[f"latents {samples}"])
    assert_close(latents(codec, audio)[:, : golden.LATENTS], theirs, 1e-5)
    assert_close(torch.tensor(latents_of(codec, audio).values), latents(codec, audio), 1e-6)
    wave = torch.from_numpy(stored[f"wave {samples}"][:, :samples])
    assert_close(codec.decode(replace(tokens, codes=codes)).samples, wave, 1e-5)


def test_the_rate_is_that_of_the_options(state: dict[str, Tensor], codec: Codec, tmp_path: Path):
    other = load(model_of(state, tmp_path, sampling_rate=24000))
    assert (codec.sample_rate, other.sample_rate) == (48000, 24000)
    presets = type(codec).presets
    assert [presets[f"hificodec_{rate}khz"].sample_rate for rate in (48, 24)] == [48000, 24000]


@pytest.mark.parametrize(
    ("option", "value"),
    [("resblock", "2"), ("resblock_kernel_sizes", [3, 5]), ("resblock_dilation_sizes", [[1, 3]])],
)
def test_blocks_of_another_kind_are_refused(
    state: dict[str, Tensor], tmp_path: Path, option: str, value: Any
):
    with pytest.raises(CheckpointError, match=f"config.json has {option}="):
        load(model_of(state, tmp_path, **{option: value}))


def test_weights_without_an_encoder_are_refused(state: dict[str, Tensor], tmp_path: Path):
    path = model_of({k: w for k, w in state.items() if not k.startswith("encoder.")}, tmp_path)
    with pytest.raises(CheckpointError, match="weights of no codec here"):
        load(path)


def test_a_width_that_cannot_be_normalised_is_refused():
    with pytest.raises(ValueError, match="encoder 12: a multiple of 8"):
        Config(encoder=12)


def test_codes_are_those_of_groups_by_themselves_in_another_order():
    """A stage of all groups, then the next; groups of residual codebooks, one after another."""
    torch.manual_seed(0)
    ours = Grvq(8, groups=2, codebooks=6, size=16)
    grouped = GroupedRvq(8, groups=((4, 3), (4, 3)), size=16)
    entries = {name: x for name, x in grouped.named_buffers() if name.endswith("entries")}
    for name, value in entries.items():
        group, stage = int(name.split(".")[1]), int(name.split(".")[3])
        ours.stages[2 * stage + group].get_buffer("book.entries").copy_(value)
    latent = torch.randn(2, 8, 30)
    codes, order = grouped.encode(latent), [0, 3, 1, 4, 2, 5]
    assert torch.equal(ours.encode(latent), codes[:, order])
    assert_close(ours.decode(codes[:, order]), grouped.decode(codes), 1e-6)
    assert not ours.decode(codes[:, :1])[:, 4:].any()
    for wrong in ({"groups": 3}, {"codebooks": 5}):
        with pytest.raises(ValueError, match="a number that divides both"):
            Grvq(8, **wrong)


def test_a_group_that_is_not_in_use_has_no_gradient():
    quantizer = Grvq(8, groups=2, codebooks=4, size=16)
    latent = torch.randn(3, 8, 20, requires_grad=True)
    quantized = quantizer(latent, torch.tensor([1, 2, 4]))
    assert quantized.first is not None
    (decoded,) = torch.autograd.grad(quantized.latent.sum(), latent, retain_graph=True)
    assert decoded[:, :4].all()
    assert not decoded[0, 4:].any()
    assert decoded[1:, 4:].all()
    (first,) = torch.autograd.grad(quantized.first.sum(), latent, retain_graph=True)
    assert first[:, :4].all()
    assert not first[:, 4:].any()


# -- inspiremusic ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def music() -> Codec:
    """Its tokenizer in a small size: 75 frames/s of 24 kHz."""
    codec = made("wavtokenizer", replace(SIZES["wavtokenizer"][0], strides=(4, 8, 10)))
    codec.name = "inspiremusic"
    return codec


@pytest.fixture(scope="module")
def acoustic() -> Codec:
    """The codec of 48 kHz in a small size: 150 frames/s."""
    return made("hificodec", replace(SIZES["hificodec"][0], strides=(4, 8, 10)))


def test_rates_are_those_of_inspiremusic():
    assert Wavtokenizer.presets["inspiremusic"] == Wavtokenizer.presets["wavtokenizer_75hz"]
    with torch.device("meta"):
        music = Wavtokenizer(Wavtokenizer.presets["inspiremusic"])
        kind = find("codecs", "hificodec")
        acoustic = kind(kind.presets["hificodec_48khz"])
    assert (music.sample_rate, music.frame_rate, music.sizes) == (24000, 75, (4096,))
    assert (acoustic.sample_rate, acoustic.frame_rate) == (48000, 150)
    with torch.device("meta"):
        source = asdict(Source("inspiremusic", 24000, 320, (4096,), "0123456789abcdef"))
        flow = Flow(FlowConfig(source=source, codec="hificodec", features=acoustic.config.latent))
    assert (flow.sample_rate, flow.frame_rate, flow.frame_size) == (48000, 75, 640)


def test_tokens_decode_at_24_khz_or_through_latents_at_48(
    music: Codec, acoustic: Codec, tmp_path: Path
):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for i in range(2):
        noise(music, 30_000 + 77 * i, seed=i).save(folder / f"{i}.wav")
    pairs = flow_pairs(music, acoustic, read_manifest(folder))
    for pair in pairs:
        assert pair.latents.shape[1] in (2 * pair.codes.shape[1] - 1, 2 * pair.codes.shape[1])
    config = FlowConfig(width=8, reading=1, blocks=1, kernel=3, steps=2)
    training = FlowTraining(steps=2, batch=2, seconds=0.2)
    flow = fit_flow(pairs, music, acoustic, config, training)
    save(flow, tmp_path / "flow.safetensors", dtype=torch.float32)
    for samples in (0, 1, 319, 320, 321, 12_345):
        tokens = music.encode(noise(music, samples))
        assert tokens.codec == "inspiremusic"
        plain, wide = music.decode(tokens), flow.decode(tokens)
        assert (plain.rate, len(plain)) == (24000, samples)
        assert (wide.rate, len(wide)) == (48000, 2 * samples)
        frames = tokens.codes.shape[1]
        embedded = flow.quantizer.decode(torch.from_numpy(tokens.codes.copy())[None])
        if frames:
            made_latents = flow.sampler.sampled(embedded, flow.sampling)
            assert made_latents.shape == (1, acoustic.config.latent, 2 * frames)
            assert torch.equal(wide.samples, flow.conditioned(seed=0).decode(tokens).samples)
            other = flow.conditioned(seed=1).decode(tokens).samples
            assert samples == 1 or not torch.equal(wide.samples, other)


def test_its_weights_are_wavtokenizers_by_another_name(music: Codec, tmp_path: Path):
    save(music, tmp_path / "music.safetensors", dtype=torch.float32)
    other = load(tmp_path / "music.safetensors")
    assert (other.name, other.fingerprint) == ("inspiremusic", music.fingerprint)
    made_75hz = made("wavtokenizer", music.config)
    assert made_75hz.fingerprint != music.fingerprint  # tokens of one are not the other's


# -- beside the program, where it is installed -----------------------------------------------------


@pytest.mark.slow
def test_full_size(tmp_path: Path):
    if not golden.available():
        pytest.skip("no checkout of InspireMusic in PYTHONPATH")
    theirs, _ = golden.loaded(golden.FULL)
    codec = load(model_of(theirs.state_dict(), tmp_path, **golden.FULL))
    assert (codec.name, codec.config) == ("hificodec_48khz", Config())
    assert sum(p.numel() for p in theirs.parameters()) == codec.parameters_with_codebooks
    samples = 2 * 48000 + 77
    audio, codes = audio_of(samples), golden.encode(theirs, golden.noise(samples)).numpy()
    tokens = codec.encode(audio)
    assert near_ties(codec, audio, tokens.codes, codes) <= codes.size / 1000
    wave = golden.decode(theirs, torch.from_numpy(codes))[:, :samples]
    assert_close(codec.decode(replace(tokens, codes=codes)).samples, wave, 1e-5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"decoder": 8}, "decoder 8: a multiple of 16"),
        ({"decoder": 0}, "decoder 0: a multiple of 16"),
        ({"strides": ()}, "strides"),
        ({"strides": (2, 0)}, "from 1, one at least"),
        ({"groups": 0}, "groups 0"),
    ],
)
def test_sizes_that_leave_no_network_are_refused(sizes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Config(**sizes)
