"""Mimi is what moshi computes, and transformers as far as its window: same random weights, same
codes and samples, at any length, and as a stream long after attention has forgotten the start."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts import assert_close, assert_trains, near_ties, noise
from safetensors.torch import save_file
from sizes import SIZES
from torch import Tensor, nn

from audiotok.audio import _torchaudio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.mimi import Config, Mimi
from audiotok.codecs.models.qwen3_tts_12hz import Qwen3Tts12hz
from audiotok.nn.layers.attention import Attention
from audiotok.runtime.stream import Stream

SMALL = Config(
    width=8,
    strides=(2, 4, 5),
    latent=128,
    blocks=3,
    heads=2,
    window=12,
    hidden=96,
    codebooks=5,
    size=64,
    code_width=48,
)


def moshi(config: Config) -> Any:
    """Its MimiModel of these sizes, with weights that say something of the signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaders = pytest.importorskip(
            "moshi.models.loaders", reason="moshi is not installed", exc_type=ImportError
        )
        about = copy.deepcopy(loaders._mimi_config)
        about["frame_rate"] = config.sample_rate / Mimi(config).frame_size
        about["seanet"].update(
            dimension=config.latent, n_filters=config.width, ratios=list(reversed(config.strides))
        )
        about["transformer"].update(
            d_model=config.latent,
            input_dimension=config.latent,
            output_dimensions=[config.latent],
            num_heads=config.heads,
            num_layers=config.blocks,
            context=config.window,
            dim_feedforward=config.hidden,
        )
        about["quantizer"].update(
            dimension=config.code_width,
            n_q=config.codebooks,
            bins=config.size,
            input_dimension=config.latent,
            output_dimension=config.latent,
        )
        torch.manual_seed(0)
        theirs = loaders.get_mimi(None, about, num_codebooks=config.codebooks)
    return enlivened(theirs)


@torch.no_grad()
def enlivened(theirs: Any) -> Any:
    """New branches are all but silent, and new convolutions all but constant."""
    for name, parameter in theirs.named_parameters():
        if "scale" in name:
            parameter.copy_(0.3 + 0.3 * torch.rand_like(parameter))
        elif "norm" in name:
            parameter.add_(0.2 * torch.randn_like(parameter))
        elif name.endswith("conv.bias"):
            parameter.mul_(0.1)
        elif name.startswith("encoder") and name.endswith("conv.weight"):
            parameter.mul_(1.8)
    return theirs.eval().requires_grad_(False)


@torch.no_grad()
def spread(theirs: Any, frame: int, seed: int = 0) -> None:
    """Codebooks from latents of noise, kept as sums over usages, so that codes differ."""
    torch.manual_seed(seed)
    swell = 0.1 + 0.1 * torch.sin(torch.arange(400 * frame) / 3000)
    latent = theirs._encode_to_unquantized_latent((torch.randn(400 * frame) * swell)[None, None])
    for part in (theirs.quantizer.rvq_first, theirs.quantizer.rvq_rest):
        rest = part.input_proj(latent)[0].T
        for layer in part.vq.layers:
            book = layer._codebook
            # Small beside what is left over: of 32 stages of many dimensions each comes nearer, but
            # none so near that all entries are equally far but for rounding.
            entries = rest.mean(0) + 0.3 * rest.std(0) * torch.randn_like(book.embedding_sum)
            usage = 0.5 + 4 * torch.rand(book.codebook_size)
            book.cluster_usage.copy_(usage)
            book.embedding_sum.copy_(entries * usage[:, None])
            book._initialized.fill_(1)
            book._embedding = None
            rest = rest - book.decode(book.encode(rest))


def saved(state: dict[str, Tensor], folder: Path) -> Path:
    path = folder / "theirs.safetensors"
    save_file({name: value.contiguous().clone() for name, value in state.items()}, path)
    return path


def ours_of(state: dict[str, Tensor], config: Config, folder: Path) -> Codec:
    """Ours from a file of theirs; weights tell neither the window nor, of a small one, the rate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codec = load(saved(state, folder))
    assert isinstance(codec, Mimi)
    assert replace(codec.config, window=config.window) == config
    codec.config = config
    for layer in codec.modules():
        if isinstance(layer, Attention):
            layer.window = config.window
    return codec


def pair(config: Config, folder: Path) -> tuple[Any, Codec]:
    theirs = moshi(config)
    spread(theirs, Mimi(config).frame_size)
    return theirs, ours_of(theirs.state_dict(), config, folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Codec]:
    return pair(SMALL, tmp_path_factory.mktemp("small"))


@torch.no_grad()
def assert_parity(theirs: Any, ours: Codec, lengths: list[int]) -> None:
    for samples in lengths:
        audio = noise(ours, samples)
        tokens = ours.encode(audio)
        codes = theirs.encode(audio.samples[None])[0]
        assert tokens.codes.shape == codes.shape == (ours.codebooks, -(-samples // ours.frame_size))
        if tokens.frames > 20:  # as many codes as there are frames or entries, nearly
            distinct = min(len(row.unique()) for row in codes)
            assert distinct > min(tokens.frames, ours.sizes[0]) / 5
        differ = int((torch.from_numpy(tokens.codes.copy()) != codes).any(0).sum())
        assert near_ties(ours, audio, tokens.codes, codes.numpy()) == differ <= tokens.frames / 1000
        decoded = theirs.decode(codes[None])[0]
        same = replace(tokens, codes=codes.numpy())
        assert_close(ours.decode(same).samples, decoded[:, :samples], 1e-4)


def test_mimi_is_moshis(small: tuple[Any, Codec]):
    """Past the window too, which here is 6 frames; lengths that are no multiple of a frame as
    moshi pads them."""
    frame = small[1].frame_size
    assert_parity(
        *small, [200 * frame, 150 * frame + 1, 61 * frame - 1, 7 * frame + 3, frame + 1, 1]
    )


@pytest.mark.slow
def test_mimi_is_moshis_full_size(tmp_path: Path):
    config = Config()
    theirs, ours = pair(config, tmp_path)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())
    frame = ours.frame_size
    assert_parity(
        theirs, ours, [375 * frame + 1000, 150 * frame - 1, 20 * frame + 7, 3 * frame + 2, 5]
    )


@torch.no_grad()
def test_a_stream_equals_the_whole_long_past_the_window(small: tuple[Any, Codec]):
    theirs, ours = small
    frame, window = ours.frame_size, ours.config.window // 2
    audio = noise(ours, 30 * window * frame)
    codes = ours.encode(audio).codes
    whole = ours.decode(ours.encode(audio)).samples
    stream = Stream(ours)
    pieces = [(stream.encode(x), x) for x in audio.samples.split(frame, 1)]
    live = torch.cat([made for made, _ in pieces], 1)
    assert near_ties(ours, audio, codes, live.numpy()) <= codes.shape[1] / 1000
    heard = torch.cat([stream.decode(made) for made, _ in pieces], 1)
    if torch.equal(live, torch.from_numpy(codes.copy())):
        assert_close(heard, whole, 1e-4)
    # moshi's own stream is that as far as the window. Then each of its steps, of two latents, puts
    # two keys in the place of the two oldest, of which the first latent should still see one.
    with theirs.streaming(1):
        their = torch.cat([theirs.encode(x[None]) for _, x in pieces[:window]], 2)[0]
    first = audio[: window * frame]
    assert near_ties(ours, first, codes[:, :window], their.numpy()) == 0


def test_state_is_bounded_by_the_window(small: tuple[Any, Codec]):
    ours = small[1]

    def size(state: Any) -> int:
        if isinstance(state, tuple):
            return sum(map(size, state))
        return 0 if state is None else state.numel()

    state, sizes = ours.start_latent(1), set()
    for piece in noise(ours, 40 * ours.frame_size).samples[None].split(5 * ours.frame_size, 2):
        state = ours.step_latent(piece, state)[1]
        sizes.add(size(state))
    assert len(sizes) == 1


@torch.no_grad()
@pytest.mark.parametrize("layout", ["5", "4"])
def test_mimi_is_transformers_too(small: tuple[Any, Codec], layout: str, tmp_path: Path):
    """Its layout, in which queries and keys are halves already; within the window, where its own
    attention holds."""
    _torchaudio.load()
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    c, frame = SMALL, small[1].frame_size
    config = transformers.MimiConfig(
        hidden_size=c.latent,
        num_filters=c.width,
        upsampling_ratios=list(reversed(c.strides)),
        codebook_size=c.size,
        codebook_dim=c.code_width,
        vector_quantization_hidden_dimension=c.code_width,
        num_quantizers=c.codebooks,
        num_hidden_layers=c.blocks,
        intermediate_size=c.hidden,
        num_attention_heads=c.heads,
        num_key_value_heads=c.heads,
        head_dim=c.latent // c.heads,
        sliding_window=c.window,
        upsample_groups=c.latent,
        frame_rate=c.sample_rate / frame,
    )
    torch.manual_seed(1)
    theirs = enlivened(transformers.MimiModel(config))
    with torch.no_grad():
        for part in (
            theirs.quantizer.semantic_residual_vector_quantizer,
            theirs.quantizer.acoustic_residual_vector_quantizer,
        ):
            for layer in part.layers:
                book = layer.codebook
                book.embed_sum.copy_(3 * torch.randn_like(book.embed_sum))
                book.cluster_usage.uniform_(0.5, 4)
                book._embed = None
    state = theirs.state_dict()
    if layout == "4":  # names before its encoder and decoder were modules of their own
        old = {
            "encoder.encoder_seanet.": "encoder.",
            "decoder.decoder_seanet.": "decoder.",
            "encoder.encoder_transformer.": "encoder_transformer.",
            "decoder.decoder_transformer.": "decoder_transformer.",
            "encoder.downsample.": "downsample.",
            "decoder.upsample.": "upsample.",
        }
        state = {
            next((b + name.removeprefix(a) for a, b in old.items() if name.startswith(a)), name): x
            for name, x in state.items()
        }
    mine = ours_of(state, SMALL, tmp_path)
    audio = noise(mine, (SMALL.window // 2 - 1) * mine.frame_size)
    codes = theirs.encode(audio.samples[None]).audio_codes[0]
    tokens = mine.encode(audio)
    assert near_ties(mine, audio, tokens.codes, codes.numpy()) == 0
    decoded = theirs.decode(codes[None]).audio_values[0]
    assert_close(mine.decode(replace(tokens, codes=codes.numpy())).samples, decoded, 1e-4)


@torch.no_grad()
def test_the_published_file_has_older_names(small: tuple[Any, Codec], tmp_path: Path):
    """moshi's own loader takes them for the newer ones."""
    theirs, ours = small
    names = {
        "self_attn.in_projs.0.weight": "self_attn.in_proj_weight",
        "self_attn.out_projs.0.weight": "self_attn.out_proj.weight",
    }
    state = {}
    for name, value in theirs.state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old)
        state[name] = value
    assert sum("in_proj_weight" in name for name in state) == 2 * SMALL.blocks
    again = ours_of(state, SMALL, tmp_path)
    assert again.fingerprint == ours.fingerprint


def test_a_file_without_a_codebooks_usage_is_partial(small: tuple[Any, Codec], tmp_path: Path):
    state = small[0].state_dict()
    gone = "quantizer.rvq_rest.vq.layers.1._codebook.cluster_usage"
    state.pop(gone)
    with pytest.raises(CheckpointError, match=f"partial moshi 0.2.13: no {gone}$"):
        load(saved(state, tmp_path))


def test_attention_needs_no_parameters_of_its_own():
    """The rows that are reordered are queries' and keys', of every block on both sides."""
    mimi: nn.Module = Mimi(SMALL)
    assert sum("qkv" in name for name in mimi.state_dict()) == 2 * SMALL.blocks


@pytest.mark.parametrize("kind", [Mimi, Qwen3Tts12hz])
def test_codebooks_learn_from_a_teacher_of_the_width_that_is_asked(kind: type[Mimi | Qwen3Tts12hz]):
    config = SIZES[kind.name][0]
    assert kind(config).teacher_width == 0
    taught = kind(replace(config, teacher=12))
    assert taught.teacher_width == 12
    assert taught.distilled(torch.zeros(2, config.latent, 5)).shape == (2, 5, 12)
    assert_trains(taught)
