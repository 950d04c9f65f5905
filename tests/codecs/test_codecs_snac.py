"""SNAC is what its own package computes: same random weights, same codes, and, the noise of its
decoder silenced or made ours, the same samples."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts import assert_close, near_ties, noise
from random_weights import folder_of
from torch import Tensor

from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.snac import Config, Snac
from audiotok.nn.layers.noise_block import NoiseBlock, normal

SMALL = Config(encoder=8, decoder=64, strides=(2, 4, 5), size=64, code_width=4)
# With attention in windows, of two heads in the encoder and one in the decoder.
MUSIC = Config(
    sample_rate=32000,
    encoder=16,
    decoder=64,
    strides=(2, 3, 8),
    size=64,
    code_width=4,
    spans=(8, 4, 2, 1),
    window=32,
)


@torch.no_grad()
def snac(config: Config) -> Any:
    """Its SNAC of these sizes, with codebooks among what they search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("snac", reason="snac is not installed")
    torch.manual_seed(0)
    theirs = package.SNAC(
        sampling_rate=config.sample_rate,
        encoder_dim=config.encoder,
        encoder_rates=list(config.strides),
        decoder_dim=config.decoder,
        decoder_rates=list(reversed(config.strides)),
        attn_window_size=config.window or None,
        codebook_size=config.size,
        codebook_dim=config.code_width,
        vq_strides=list(config.spans),
    ).eval()
    for name, parameter in theirs.named_parameters():
        if name.endswith("alpha"):
            parameter.copy_(0.5 + torch.rand_like(parameter))
        elif name.endswith("bias"):
            parameter.mul_(0.1)
    rest = theirs.encoder(swelling(400 * int(theirs.hop_length) * config.spans[0]))
    for stage in theirs.quantizer.quantizers:
        means = torch.nn.functional.avg_pool1d(rest, stage.stride, stage.stride)
        found = stage.in_proj(means)
        # Centred, so that directions, which are what is searched, are many.
        stage.in_proj.bias.sub_(found.mean((0, 2)))
        found = stage.in_proj(means)[0].T
        stage.codebook.weight.copy_(found[torch.randint(len(found), (config.size,))])
        rest = rest - stage(rest)[0]
    return theirs.requires_grad_(False)


def options(config: Config) -> str:
    """Their config.json, by the names of their arguments."""
    return json.dumps(
        {
            "sampling_rate": config.sample_rate,
            "encoder_dim": config.encoder,
            "encoder_rates": config.strides,
            "decoder_dim": config.decoder,
            "decoder_rates": config.strides[::-1],
            "attn_window_size": config.window or None,
            "codebook_size": config.size,
            "codebook_dim": config.code_width,
            "vq_strides": config.spans,
            "noise": True,
            "depthwise": True,
        }
    )


def swelling(samples: int) -> Tensor:
    swell = 0.1 + 0.1 * torch.sin(torch.arange(samples) / 3000)
    return (torch.randn(samples) * swell)[None, None]


def pair(config: Config, folder: Path) -> tuple[Any, Codec]:
    """Theirs, and ours from its folder."""
    theirs = snac(config)
    ours = load(folder_of(theirs.state_dict(), options(config), folder))
    assert isinstance(ours, Snac)
    assert ours.config == config
    return theirs, ours


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Codec]:
    return pair(SMALL, tmp_path_factory.mktemp("snac"))


def by_frame(codes: list[Tensor]) -> Tensor:
    """Their codes, a tensor `[1 n]` for each codebook, as `[k f]`."""
    frames = codes[0].shape[1]
    return torch.cat([book[0].view(frames, -1).T for book in codes])


def by_book(codes: Tensor, spans: tuple[int, ...]) -> list[Tensor]:
    """The reverse."""
    counts = [spans[0] // span for span in spans]
    return [part.T.reshape(1, -1) for part in codes.split(counts)]


@torch.no_grad()
def assert_parity(theirs: Any, ours: Codec, lengths: list[int], *, ties: int = 0) -> None:
    quiet = Snac(replace(ours.config, noise=0.0)).eval().requires_grad_(False)
    quiet.name = ours.name
    quiet.load_state_dict(ours.state_dict())
    blocks = [m for m in theirs.modules() if type(m).__name__ == "NoiseBlock"]
    weights = [block.linear.parametrizations.weight for block in blocks]
    loud = [weight.original0.clone() for weight in weights]
    for samples in lengths:
        audio = noise(ours, samples)
        codes = by_frame(theirs.encode(audio.samples[None]))
        tokens = ours.encode(audio)
        # Theirs codes the silence, too, that fills up the last window of attention.
        assert codes.shape[1] == -(-tokens.frames // ours.period) * ours.period
        assert tokens.codes.shape == (len(codes), -(-samples // ours.frame_size))
        if tokens.frames > 20:
            distinct = min(len(row.unique()) for row in codes)
            assert distinct > min(tokens.frames, ours.sizes[0]) / 5
        heard = codes[:, : tokens.frames].numpy()
        assert near_ties(ours, audio, tokens.codes, heard) <= max(ties, tokens.frames / 1000)
        samples = codes.shape[1] * ours.frame_size if ours.config.window else samples
        same = replace(tokens, codes=codes.numpy(), samples=samples, fingerprint=quiet.fingerprint)
        for weight in weights:
            weight.original0.zero_()
        silent = theirs.decode(by_book(codes, ours.config.spans))[0, :, :samples]
        for weight, gain in zip(weights, loud, strict=True):
            weight.original0.copy_(gain)
        assert_close(quiet.decode(same).samples, silent, 1e-4)
        made = ours.decode(replace(same, fingerprint=ours.fingerprint)).samples
        assert not torch.allclose(made, silent, atol=1e-3)
        with pytest.MonkeyPatch.context() as patch:
            for seed, block in enumerate(blocks):
                patch.setattr(block, "forward", with_our_noise(block, seed))
            heard = theirs.decode(by_book(codes, ours.config.spans))[0, :, :samples]
        assert_close(made, heard, 1e-4)


def with_our_noise(block: Any, seed: int) -> Any:
    """Their formula, with our numbers for theirs."""
    return lambda x: x + normal(torch.arange(x.shape[2]), seed) * block.linear(x)


def test_snac_is_its_packages(small: tuple[Any, Codec]):
    frame = small[1].frame_size
    lengths = [100 * frame, 45 * frame + 1, 22 * frame + 99, 3 * frame - 1, frame + 1, 1]
    assert_parity(*small, lengths)


def test_snac_for_music_is_its_packages(tmp_path: Path):
    theirs, ours = pair(MUSIC, tmp_path)
    frame = ours.frame_size
    assert ours.period == 4
    lengths = [100 * frame, 42 * frame + 1, 15 * frame - 9, frame + 1, 1]
    assert_parity(theirs, ours, lengths, ties=1)  # its codebooks are small, and many


def test_a_file_that_fits_two_rates_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Only config.json tells 32 from 44.1 kHz."""
    presets = {"snac_32khz": MUSIC, "snac_44khz": replace(MUSIC, sample_rate=44100)}
    monkeypatch.setattr(Snac, "presets", presets)
    torch.save(snac(MUSIC).state_dict(), tmp_path / "snac.bin")
    assert load(tmp_path / "snac.bin").sample_rate == 32000
    (message,) = caplog.messages
    assert message.endswith(
        "its weights do not tell snac_32khz from snac_44khz; another name makes it that"
    )
    assert load(tmp_path / "snac.bin", name="snac_44khz").sample_rate == 44100
    assert len(caplog.messages) == 1


def test_options_are_refused_by_name(small: tuple[Any, Codec], tmp_path: Path):
    theirs, told = small[0].state_dict(), json.loads(options(SMALL))
    for change, words in {
        "rope": "has options that are not known here: rope$",
        "noise": "has noise=False, and the network here True$",
        "attn_window_size": "attn_window_size 32, and the weights no attention$",
        "encoder_dim": "has encoder 32, and the weights 8$",
    }.items():
        value = False if change == "noise" else 32
        folder_of(theirs, json.dumps({**told, change: value}), tmp_path)
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("snac_24khz", 19_842_914), ("snac_32khz", 54_546_338)]
)
def test_snac_is_its_packages_full_size(name: str, count: int, tmp_path: Path):
    theirs, ours = pair(Snac.presets[name], tmp_path)
    assert ours.name == name
    with torch.device("meta"):
        trained = Snac(Snac.presets[name])
        trained.split_weights()
    counts = [sum(p.numel() for p in model.parameters()) for model in (theirs, trained)]
    assert counts == [count] * 2
    frame = ours.frame_size
    assert_parity(theirs, ours, [60 * frame + 1000, 21 * frame - 1, 3 * frame + 2, frame + 1, 5])


def test_codes_of_a_frame_are_by_codebook_and_in_time(small: tuple[Any, Codec]):
    """The one of the coarsest, then two, then four: the order that README promises."""
    ours = small[1]
    audio = noise(ours, 12 * ours.frame_size)
    tokens = ours.encode(audio)
    books = small[0].encode(audio.samples[None])
    assert [book.shape[1] // tokens.frames for book in books] == [1, 2, 4]
    for f in (0, 5, 11):
        want = [int(books[0][0, f]), *books[1][0, 2 * f : 2 * f + 2].tolist()]
        want += books[2][0, 4 * f : 4 * f + 4].tolist()
        assert tokens.codes[:, f].tolist() == want


# -- the noise ----------------------------------------------------------------------------------


def test_decoding_is_repeatable_and_theirs_is_not(small: tuple[Any, Codec]):
    theirs, ours = small
    tokens = ours.encode(noise(ours, 9 * ours.frame_size))
    assert torch.equal(ours.decode(tokens).samples, ours.decode(tokens).samples)
    codes = by_book(torch.from_numpy(tokens.codes.copy()), ours.config.spans)
    assert not torch.equal(theirs.decode(codes), theirs.decode(codes))


def test_noise_is_standard_normal_and_white():
    x = normal(torch.arange(400_000), 3)
    assert abs(x.mean()) < 5e-3
    assert abs(x.square().mean() - 1) < 1e-2
    assert abs(x.pow(4).mean() - 3) < 5e-2
    for lag in (1, 2, 3, 64, 1000):
        assert abs((x[:-lag] * x[lag:]).mean()) < 1e-2
    # In each of 20 stretches of equal chance, as many as chance gives (chi-square, 19 degrees).
    counts = torch.histc((1 + torch.erf(x / 2**0.5)) / 2, 20, 0, 1)
    assert ((counts - 20_000).square() / 20_000).sum() < 50
    for seed in (0, 1, 2):
        assert abs((normal(torch.arange(400_000), seed) * x).mean()) < 1e-2
    assert torch.equal(normal(torch.arange(100, 200), 3), x[100:200])


def test_noise_is_drawn_anew_in_training():
    block, x = NoiseBlock(3), torch.randn(2, 3, 50)
    assert torch.equal(block.eval()(x), block(x))
    block.train()
    assert not torch.equal(block(x), block(x))
