"""DualCodec is what its package computes, at any length, in three files or in one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts import assert_close, near_ties
from golden import dualcodec as golden
from random_weights import dac_weights, folder_of
from sizes import SIZES, made
from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load, save
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.dualcodec import Config, Dualcodec
from audiotok.nn.pretrained.state_dicts import StateDictError
from audiotok.runtime import windows
from audiotok.runtime.stream import Stream

FRAME = golden.FRAME
LOST = 4  # samples that the package's decoder lacks, as it cuts one too many at a stride of 5
END = 400  # samples that depend on those
SMALL = Config(
    encoder=4,
    decoder=32,
    strides=(4, 5, 12, 8),
    codebooks=3,
    size=32,
    semantic_size=64,
    semantic=16,
    blocks=2,
    teacher_blocks=golden.BLOCKS,
    teacher_hidden=32,
    teacher_kernel=7,
    teacher_before=20,
    teacher_after=5,
)


@pytest.fixture(scope="module")
def state(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The package's weights of the codec."""
    return dac_weights(json.loads(str(stored["shapes"])), json.loads(str(stored["gains"])))


@pytest.fixture(scope="module")
def folder(
    stored: dict[str, np.ndarray],
    state: dict[str, Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The three files as they are published."""
    path = tmp_path_factory.mktemp("folder")
    torch.save(state, path / "codec.pt")
    torch.save({k: torch.from_numpy(stored[k]) for k in ("mean", "var")}, path / "stats.pt")
    teacher = dac_weights(json.loads(str(stored["teacher shapes"])))
    folder_of(teacher, str(stored["teacher"]), path)
    return path


def of(folder: Path) -> Dualcodec:
    return Dualcodec.joined(folder / "codec.pt", folder, folder / "stats.pt", blocks=golden.BLOCKS)


@pytest.fixture(scope="module")
def codec(folder: Path) -> Dualcodec:
    return of(folder)


@pytest.fixture(scope="module")
def small() -> Codec:
    return made("dualcodec", SIZES["dualcodec"][0])


def audio_of(samples: int) -> Audio:
    return Audio(golden.noise(samples)[0], 24000)


@pytest.mark.parametrize("samples", golden.LENGTHS)
def test_codes_and_waves_are_those_of_the_package(
    codec: Dualcodec, stored: dict[str, np.ndarray], samples: int
):
    """Of as many frames as there, which lacks one or two; but of one with a masked feature."""
    audio, theirs = audio_of(samples), stored[f"codes {samples}"].astype(np.int64)
    tokens = codec.encode(audio)
    assert tokens.frames == -(-samples // FRAME)
    assert 0 <= tokens.frames - theirs.shape[1] <= 2
    same = theirs.shape[1] - (samples == golden.ODD)
    assert near_ties(codec, audio, tokens.codes[:, :same], theirs[:, :same]) <= 1
    wave = torch.from_numpy(stored[f"wave {samples}"])
    decoded = codec.decode(theirs).samples
    assert decoded.shape[1] - wave.shape[1] == LOST
    assert_close(decoded[:, :-END], wave[:, : LOST - END], 1e-5)


def test_sizes(codec: Dualcodec):
    assert codec.config == SMALL
    assert codec.sizes == (64, 32, 32, 32)
    assert (codec.frame_rate, codec.semantic_codebooks) == (12.5, 1)


def test_the_semantic_code_alone_decodes_as_in_the_package(codec: Dualcodec):
    """The sum without acoustic codes is what the ConvNeXt blocks make of the semantic ones."""
    tokens = codec.encode(audio_of(20 * FRAME)).first(1)
    latent = codec.quantizer.decode(torch.from_numpy(tokens.codes[None].copy()))
    semantic = codec.sum.semantic(latent[:, : codec.config.semantic])
    wave = codec.decoder(semantic)[0]
    assert_close(codec.decode(tokens).samples, wave, 1e-5)
    assert wave.std() > 0.01


def test_one_file_is_made_of_three(codec: Dualcodec, folder: Path, tmp_path: Path):
    save(codec, tmp_path / "ours.safetensors", dtype=torch.float32)
    again = load(tmp_path / "ours.safetensors")
    assert (again.fingerprint, again.config) == (codec.fingerprint, codec.config)
    with pytest.raises(CheckpointError, match=r"Dualcodec\.joined\(codec, w2v_bert, statistics\)"):
        load(folder / "codec.pt")


def test_files_that_do_not_fit_are_refused(folder: Path, state: dict[str, Tensor], tmp_path: Path):
    codec, stats = folder / "codec.pt", folder / "stats.pt"
    with pytest.raises(StateDictError, match=r"stats\.pt: no weights of dualcodec 0\.4\.2$"):
        Dualcodec.joined(stats, folder, stats)
    with pytest.raises(StateDictError, match=r": 2 blocks of 1024 features, where .* takes 17 of"):
        Dualcodec.joined(codec, folder, stats)
    with pytest.raises(StateDictError, match=r"codec\.pt: no 'mean' of 1024 features"):
        Dualcodec.joined(codec, folder, codec, blocks=1)
    torch.save(state | {"dac.convnext.0.weight": torch.ones(2)}, tmp_path / "more.pt")
    with pytest.raises(StateDictError, match=r"unexpected: dac\.convnext\.0\.weight$"):
        Dualcodec.joined(tmp_path / "more.pt", folder, stats, blocks=1)


def test_frames_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"strides=\(2, 4\): a frame of 8 samples at 24000 Hz is"):
        Config(strides=(2, 4))


def test_what_codes_depend_on_is_in_their_fingerprint(small: Codec):
    """Also the blocks after the semantic codebook, which the decoder has too."""
    before = small.fingerprint, small.decoder_fingerprint
    value = small.get_parameter("sum.semantic.layers.0.up.weight")
    with torch.no_grad():
        value[0, 0] += 1e-3
    assert small.fingerprint != before[0]
    assert small.decoder_fingerprint == before[1]
    with torch.no_grad():
        value[0, 0] -= 1e-3


def test_it_streams_in_windows_only(codec: Dualcodec):
    with pytest.raises(ValueError, match=r"^codec 'dualcodec' hears a recording"):
        Stream(codec)
    audio = audio_of(40 * FRAME)
    lost = windows.loss(codec, audio, 10.0)  # one window holds it all
    assert (lost.codes, lost.snr) == (0, np.inf)
    assert 0 < windows.loss(codec, audio, 0.4).codes < 1


def test_the_published_sizes():
    for name, parameters in (("dualcodec", 84_014_578), ("dualcodec_25hz", 102_291_874)):
        with torch.device("meta"):
            codec = Dualcodec(Dualcodec.presets[name])
        assert codec.parameters_trained == parameters


@pytest.mark.slow
def test_full_size(tmp_path: Path):
    """With a small w2v-BERT, whose full size has 600 M parameters."""
    if not golden.available():
        pytest.skip("dualcodec 0.4.2 is not here")
    pytest.importorskip("transformers")
    theirs, _ = golden.loaded(golden.FULL)
    codec = golden.joined(theirs, tmp_path)
    small = replace(SMALL, teacher_hidden=32)
    kept = {key: value for key, value in vars(small).items() if key.startswith("teacher")}
    assert codec.config == replace(Config(), **kept)
    assert sum(p.numel() for p in theirs.model.parameters()) == codec.parameters_trained
    audio = audio_of(20 * FRAME + 77)
    codes = golden.encode(theirs, audio.samples[None]).numpy()
    tokens = codec.encode(audio)
    assert near_ties(codec, audio, tokens.codes[:, : codes.shape[1]], codes) <= 1
    wave = golden.decode(theirs, torch.from_numpy(codes))
    decoded = codec.decode(codes).samples
    assert_close(decoded[:, :-END], wave[:, : LOST - END], 1e-4)
