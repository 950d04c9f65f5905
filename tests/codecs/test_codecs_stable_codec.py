"""Stable Codec is what its packages compute, in all layouts, at any length and as a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok as commandline
from contracts import assert_close, latents
from golden import taae as golden
from random_weights import folder_of
from torch import Tensor

import audiotok
from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.stable_codec import LAYOUTS, Config, StableCodec
from audiotok.nn.quantizers.fsq import Fsq
from audiotok.runtime.stream import Stream
from audiotok.tokens.tokenizer import WrongTokensError

SMALL = Config(patch=16, widths=(128, 256), depths=(1, 2), earlier=5, later=6, snake=True)


@pytest.fixture(scope="module")
def state(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The package's weights."""
    return golden.weights(json.loads(str(stored["shapes"])), json.loads(str(stored["gains"])))


def written(state: dict[str, Tensor], options: Any, folder: Path) -> Path:
    """Return a folder in which weights and options have the names that are published."""
    folder_of(state, "{}", folder)
    (folder / "config.json").unlink()
    (folder / "model_config.json").write_text(json.dumps(options), "utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(state, golden.OPTIONS, tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return load(folder)


def audio_of(samples: int) -> Audio:
    return Audio(golden.noise(samples)[0], 16000)


def near_edges(codec: Codec, audio: Audio, one: np.ndarray, other: np.ndarray) -> int:
    """Return how many frames differ, asserting that a feature of each is at the edge of a cell."""
    levels, grids = LAYOUTS[codec.config.layout]
    steps = (levels - 1) ** grids / 2 if levels % 2 else 2.5  # of the finest grid, in a unit
    differ = np.flatnonzero((one != other).any(0))
    bounded = latents(codec, audio).tanh() * steps + (0 if levels % 2 else 0.5)
    for f in differ:
        assert ((bounded[:, f] - bounded[:, f].floor() - 0.5).abs() < 1e-3).any()
    return len(differ)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_codes_and_waves_are_those_of_the_packages(
    folder: Path, stored: dict[str, np.ndarray], samples: int, layout: str
):
    """The longest is many times the window of attention."""
    codec = audiotok.load(folder, layout=layout)
    audio, theirs = audio_of(samples), stored[f"codes {layout} {samples}"].astype(np.int64)
    tokens = codec.encode(audio)
    assert codec.config == replace(SMALL, layout=layout)
    assert tokens.codes.shape == theirs.shape
    assert near_edges(codec, audio, tokens.codes, theirs) <= theirs.shape[1] / 100
    if layout == "2x15625_700bps":
        wave = torch.from_numpy(stored[f"wave {samples}"][:, :samples])
        assert_close(codec.decode(replace(tokens, codes=theirs)).samples, wave, 1e-4)


def test_one_checkpoint_has_three_layouts(codec: Codec, folder: Path, tmp_path: Path):
    """Two of them hold exactly the values of the grid of 17 levels; each has its own tokens."""
    audio = audio_of(200 * codec.frame_size)
    codecs = {layout: audiotok.load(folder, layout=layout) for layout in LAYOUTS}
    tokens = {layout: one.encode(audio) for layout, one in codecs.items()}
    assert codec.layouts == tuple(LAYOUTS)
    rates = {layout: 25 * sum(np.log2(one.sizes)) for layout, one in codecs.items()}
    assert [round(rate, 1) for rate in rates.values()] == [387.7, 696.6, 951.0]
    assert len({one.fingerprint for one in codecs.values()}) == 3
    assert len({one.decoder_fingerprint for one in codecs.values()}) == 1
    fine = Fsq(6, levels=(17,) * 6)
    latent = latents(codec, audio)[None]
    single = fine.decode(fine.encode(latent))
    for layout in ("2x15625_700bps", "4x729_1000bps"):
        codes = torch.from_numpy(tokens[layout].codes.copy())[None]
        assert torch.equal(codecs[layout].quantizer.decode(codes), single)
    heard = [codecs[layout].decode(tokens[layout]).samples for layout in list(LAYOUTS)[1:]]
    assert torch.equal(*heard)
    with pytest.raises(WrongTokensError, match=r"layout='1x46656_400bps'\)$"):
        codecs["2x15625_700bps"].decode(tokens["1x46656_400bps"])
    done = commandline(
        "convert", folder, tmp_path / "c.safetensors", "--layout", "4x729_1000bps", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["config"]["layout"] == "4x729_1000bps"
    assert load(tmp_path / "c.safetensors").fingerprint == codecs["4x729_1000bps"].fingerprint
    other = load(tmp_path / "c.safetensors", layout="1x46656_400bps")
    assert other.fingerprint == codecs["1x46656_400bps"].fingerprint


def test_layouts_are_refused_where_there_are_none(folder: Path):
    known = ", ".join(LAYOUTS)
    with pytest.raises(InputError, match=rf"^layout '8x8': it is one of {known}$"):
        audiotok.load(folder, layout="8x8")
    with pytest.raises(InputError, match=r"^layout '8x8' of codec 'speech': it has but one$"):
        audiotok.load("speech", layout="8x8")


def test_a_stream_equals_the_whole(codec: Codec):
    frame = codec.frame_size
    audio = audio_of(150 * frame + 33)
    tokens, stream = codec.encode(audio), Stream(codec, block=codec.block)
    pieces = [stream.encode(piece) for piece in audio.samples.split(frame + 7, 1)]
    assert 0 < sum(piece.shape[1] for piece in pieces) < tokens.frames  # it lags
    live = torch.cat([*pieces, stream.finish_encode()], 1)
    assert np.array_equal(live.numpy(), tokens.codes)
    codes = torch.from_numpy(tokens.codes.copy())
    heard = [stream.decode(piece) for piece in codes.split(3, 1)]
    wave = torch.cat([*heard, stream.finish_decode()], 1)[:, : len(audio)]
    assert torch.equal(wave, codec.decode(tokens).samples)


def test_options_are_read_or_refused_by_name(state: dict[str, Tensor], tmp_path: Path):
    def changed(**side: Any) -> Any:
        options = json.loads(json.dumps(golden.OPTIONS))
        options["model"]["encoder"]["config"] |= side
        return options

    with pytest.raises(CheckpointError, match=r"encoder of model_config\.json .* here: rope$"):
        load(written(state, changed(rope=3), tmp_path))
    with pytest.raises(CheckpointError, match=r"conformer=True, and the network here False$"):
        load(written(state, changed(conformer=True), tmp_path))
    with pytest.raises(
        CheckpointError, match=r"of earlier 9 in the encoder, and 5 in the decoder$"
    ):
        load(written(state, changed(sliding_window=[9, 9]), tmp_path))
    written(state, golden.OPTIONS, tmp_path)
    (tmp_path / "model_config.json").unlink()  # as nothing else tells the window
    assert load(tmp_path / "model.safetensors").config == replace(SMALL, earlier=63, later=64)


# -- beside the packages, where they are installed -------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of their weight_norm
def test_parameters_of_the_paper():
    if not golden.available():
        pytest.skip("stable-codec 0.1.2 and stable-audio-tools 0.0.17 are not installed")
    with torch.device("meta"):
        theirs = golden.Theirs(golden.PAPER, 320)
        ours = StableCodec()
    assert sum(p.numel() for p in theirs.parameters()) == ours.parameters_trained
