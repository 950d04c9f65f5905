"""BEATs: features and codes of its own programs, any length, and labels of a seed alone."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok, recording
from contracts import assert_close, near_ties, noise
from golden import beats as golden
from random_weights import random_weights
from sizes import made, ready
from test_state_dicts import table
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load, save
from audiotok.codecs.load import load as by_name
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.beats import CONTEXT, Config
from audiotok.codecs.models.beats import Beats as Tokenizer
from audiotok.codecs.models.beats_random import BeatsRandom
from audiotok.codecs.models.beats_random import Config as Random
from audiotok.data.features.base import TeacherError
from audiotok.data.features.beats import Beats, renamed, sizes
from audiotok.nn.layers.kaldi_patches import KaldiPatches
from audiotok.nn.layers.relative_transformer import RelativeTransformer
from audiotok.nn.pretrained.reader import fold
from audiotok.nn.quantizers.shared_vq import SharedVq
from audiotok.runtime.stream import Stream

ROOT = Path(__file__).parents[2]
FRAME = 2560
Stored = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def reading() -> Tensor:
    return Audio.load(ROOT / "egs/data/reading.flac").resample(16000).samples


@pytest.fixture(scope="module")
def clip(reading: Tensor) -> Tensor:
    return reading[:, golden.BEGIN : golden.BEGIN + golden.CLIP]


@pytest.fixture(scope="module")
def long(reading: Tensor) -> Tensor:
    return reading[:, golden.BEGIN : golden.BEGIN + golden.LONG]


def weights_of(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Return the weights that the programs had."""
    given = {name: torch.empty(shape) for name, shape in shapes.items()}
    return golden.weights_of(type("Program", (), {"state_dict": lambda _: given})())


@pytest.fixture(scope="module")
def theirs(stored: Stored) -> dict[str, Tensor]:
    """Return the tokenizer's weights by the program's names."""
    weights = weights_of(json.loads(str(stored["tokenizer shapes"])))
    return weights | {golden.ENTRIES: torch.from_numpy(stored["entries"])}


@pytest.fixture(scope="module")
def file(theirs: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of the tokenizer as published."""
    path = tmp_path_factory.mktemp("beats") / "Tokenizer.pt"
    torch.save({"cfg": golden.SMALL, "model": theirs}, path)
    return path


@pytest.fixture(scope="module")
def codec(file: Path) -> Codec:
    return load(file)


# -- the encoder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", golden.KINDS)
def test_features_are_those_of_the_program(kind: str, stored: Stored, clip: Tensor, tmp_path: Path):
    """Stored by golden/beats.py: with all positions, with some, and with none."""
    options = json.loads(str(stored[f"{kind} options"]))
    state = weights_of(json.loads(str(stored[f"{kind} shapes"])))
    head = {"predictor.weight": torch.ones(5, 32), "predictor.bias": torch.ones(5)}
    torch.save({"cfg": options | {"their_own": 1}, "model": state | head}, tmp_path / "beats.pt")
    teacher = Beats.load(tmp_path / "beats.pt", beside=True)
    states = teacher.hidden(clip).unflatten(3, (8, -1)).flatten(2, 3)[:, 0, ::7]
    for own, other in zip(states, torch.from_numpy(stored[f"{kind} states"]), strict=True):
        assert_close(own, other, 1e-5)
    mean = Beats.load(tmp_path / "beats.pt")
    beside = teacher.features(Audio(clip, 16000), layer=2)
    assert_close(mean.features(Audio(clip, 16000), layer=2), beside.view(19, 8, 32).mean(1), 1e-6)
    assert mean.name != teacher.name
    again = Beats(**mean.sizes or {}, **mean.settings)
    again.load_state_dict(mean.state_dict())


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (2800, 1), (5359, 1), (5360, 2)])
def test_a_frame_ends_with_its_last_window(samples: int, frames: int):
    teacher = Beats(width=16, layers=1, heads=2, hidden=8, kernel=4, groups=2).eval()
    features = teacher.features(noise(Tokenizer(TINY), samples), layer=1)
    assert features.shape == (frames, 16)
    assert features.isfinite().all()


TINY = Config(
    width=16, layers=1, heads=2, hidden=8, patch_width=8, kernel=4, groups=2, code_width=4, size=32
)


def test_half_a_minute_at_once(reading: Tensor):
    teacher = Beats(width=16, layers=1, heads=2, hidden=8, kernel=4, groups=2).eval()
    long = reading.repeat(1, 5)[:, : 40 * 16000]
    pieces = teacher.features(Audio(long, 16000), layer=1)
    assert len(pieces) == (40 * 16000 - 240) // FRAME
    first = teacher.features(Audio(long[:, : 187 * FRAME], 16000), layer=1)
    assert torch.equal(pieces[:175], first[:175])


def test_other_networks_are_refused(stored: Stored, tmp_path: Path):
    state = weights_of(json.loads(str(stored["plain shapes"])))
    options = json.loads(str(stored["plain options"]))
    for change, says in {
        "layer_norm_first": r"its cfg has layer_norm_first=True, and the network here False$",
        "conv_bias": r"its cfg has conv_bias=True, and the network here False$",
    }.items():
        torch.save({"cfg": options | {change: True}, "model": state}, tmp_path / "other.pt")
        with pytest.raises(TeacherError, match=says):
            Beats.load(tmp_path / "other.pt")
    torch.save(state, tmp_path / "bare.pt")
    with pytest.raises(TeacherError, match=r"bare\.pt: not a BEATs model, a file that holds its"):
        Beats.load(tmp_path / "bare.pt")
    del state["encoder.layers.1.fc1.bias"]
    torch.save({"cfg": options, "model": state}, tmp_path / "partial.pt")
    with pytest.raises(TeacherError, match=r"missing: transformer\.blocks\.1\.up\.bias$"):
        Beats.load(tmp_path / "partial.pt")
    with pytest.raises(InputError, match=r"^6 buckets up to a distance of 9: a multiple of four"):
        RelativeTransformer(4, blocks=1, heads=1, hidden=4, buckets=6, farthest=9)
    with pytest.raises(InputError, match=r"^features 4 must be a multiple of the heads, 3$"):
        RelativeTransformer(4, blocks=1, heads=3, hidden=4)
    with pytest.raises(InputError, match=r"^128 bands in patches of 15: they do not divide$"):
        KaldiPatches(height=15)
    with pytest.raises(InputError, match=r"^9 features in 2 groups: they do not divide$"):
        SharedVq(9, codebooks=2)


# -- the tokenizer --------------------------------------------------------------------------------


def test_codes_are_those_of_the_program(codec: Codec, stored: Stored, clip: Tensor, long: Tensor):
    """Stored by golden/beats.py: codes of 3 and of 8 seconds of reading."""
    assert (codec.name, codec.sizes, codec.frame_rate) == ("beats", (64,) * 8, 6.25)
    for wave, key in ((clip, "clip"), (long, "long")):
        tokens, expected = codec.encode(Audio(wave, 16000)), stored[key]
        assert tokens.frames == -(-wave.shape[1] // FRAME)
        assert tokens.frames - expected.shape[1] in (1, 2)
        assert np.array_equal(tokens.codes[:, : expected.shape[1]], expected)


@pytest.mark.parametrize("more", [0, 1, 239, 240, 2559])
def test_the_end_is_coded_with_what_is_before_it(codec: Codec, long: Tensor, more: int):
    begin = 40 - CONTEXT
    wave = long[:, : 40 * FRAME + 240]
    codes = codec.encode(Audio(wave, 16000)).codes[:, :40]
    longer = codec.encode(Audio(long[:, : 40 * FRAME + 240 + more], 16000))
    assert np.array_equal(longer.codes[:, :40], codes)
    rest = torch.cat([wave[:, begin * FRAME :], long[:, wave.shape[1] : wave.shape[1] + more]], 1)
    missing = -rest.shape[1] % FRAME + 240
    silent = torch.nn.functional.pad(rest, (0, missing))
    part = codec.encode(Audio(silent, 16000)).codes
    own = part[:, CONTEXT : longer.frames - begin]
    assert np.array_equal(longer.codes[:, 40:], own)


def test_reloading_gives_the_same_codes(codec: Codec, long: Tensor, tmp_path: Path):
    save(codec, tmp_path / "beats.safetensors", dtype=torch.float32)
    again = load(tmp_path / "beats.safetensors")
    assert again.fingerprint == codec.fingerprint
    assert again.encode(Audio(long, 16000)) == codec.encode(Audio(long, 16000))


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("name", ["beats", "beats_random"])
def test_codes_do_not_depend_on_the_number_of_threads(name: str, codec: Codec, reading: Tensor):
    codec = codec if name == "beats" else by_name(name)
    codes = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        codes.append(codec.encode(Audio(reading, 16000)).codes)
    assert not near_ties(codec, Audio(reading, 16000), *codes)


def test_it_refuses_to_stream_but_in_windows(codec: Codec, long: Tensor):
    with pytest.raises(ValueError, match=r"^codec 'beats' hears a recording to its end") as refused:
        Stream(codec)
    assert "\n" not in str(refused.value)
    stream = Stream(codec, context=5.0)
    codes = torch.cat([stream.encode(long), stream.finish_encode()], 1).numpy()
    whole = codec.encode(Audio(long, 16000)).codes
    assert codes.shape == whole.shape


def test_what_its_weights_do_not_tell_is_refused(
    theirs: dict[str, Tensor], codec: Codec, tmp_path: Path
):
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": theirs}, r"no cfg beside its weights, which alone tells heads and deep norm"),
        (
            {"cfg": golden.SMALL | {"activation_fn": "glu"}, "model": theirs},
            r"its cfg has activation_fn='glu', and the network here 'gelu'$",
        ),
        (
            {"cfg": golden.SMALL, "model": theirs | {INITTED: torch.zeros(1)}},
            r"its codebook has not been trained$",
        ),
        (
            {"cfg": golden.SMALL, "model": theirs | {golden.ENTRIES: torch.ones(64, 12)}},
            r"quantize\.embedding\.weight holds vectors that are no directions, of length 1$",
        ),
    ]
    for content, says in cases:
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match=says):
            load(tmp_path / "other.pt")
    shallow = {"cfg": golden.SMALL | {"deep_norm": False}, "model": theirs}
    torch.save(shallow, tmp_path / "shallow.pt")
    other = load(tmp_path / "shallow.pt")
    assert other.config == replace(codec.config, deep=False)


INITTED = "quantize.embedding.initted"


def test_units_of_its_features(stored: Stored, tmp_path: Path):
    state = weights_of(json.loads(str(stored["published shapes"])))
    torch.save({"cfg": golden.SMALL, "model": state}, tmp_path / "beats.pt")
    for i in range(3):
        recording(tmp_path / f"talks/{i}.wav", 4.0, seed=i)
    options: dict[str, tuple[str, ...]] = {"mean": (), "beside": ("--option", "beside=true")}
    for kind, more in options.items():
        units = tmp_path / f"{kind}.safetensors"
        fit = ("units", "fit", tmp_path / "talks", "--teacher", "beats", *more, "--layer", "2")
        given = ("--weights", tmp_path / "beats.pt", "--size", "6", "--cache", tmp_path / "cache")
        done = audiotok(*fit, *given, "-o", units)
        assert done.code == 0, done.err
        tokens = load(units).encode(Audio.load(tmp_path / "talks/0.wav"))
        assert tokens.codes.shape == (1, 25)
        assert len(np.unique(tokens.codes)) > 2


# -- labels of a seed -----------------------------------------------------------------------------


def test_a_seed_tells_everything(reading: Tensor, tmp_path: Path):
    codec, audio = by_name("beats_random"), Audio(reading, 16000)
    assert (codec.parameters_trained, sum(1 for _ in codec.parameters())) == (0, 0)
    save(codec, tmp_path / "labels.safetensors")
    assert (tmp_path / "labels.safetensors").stat().st_size < 1000
    again = load(tmp_path / "labels.safetensors")
    assert again.encode(audio) == codec.encode(audio)
    other = ready(BeatsRandom(Random(seed=1)))
    save(other, tmp_path / "other.safetensors")
    other = load(tmp_path / "other.safetensors")
    assert other.fingerprint != codec.fingerprint
    assert np.mean(other.encode(audio).codes == codec.encode(audio).codes) < 0.1
    # Of any machine: drawn by NumPy's frozen generator, in double precision.
    assert codec.fingerprint == "512d9b5290e4fc49"


def test_labels_are_the_nearest_directions_of_patches(clip: Tensor):
    codec: Any = by_name("beats_random")
    patches = codec.encoder.layers[0](clip[None])[0].T.view(20, 8, 256)
    random = np.random.RandomState(0)
    project = random.standard_normal((256, 256)) / 16
    entries = random.standard_normal((1024, 256))
    entries /= np.linalg.norm(entries, axis=1, keepdims=True)
    codes = (patches.double().numpy() @ project.T @ entries.T).argmax(2).T
    assert np.array_equal(codec.encode(Audio(clip, 16000)).codes, codes)


def test_training_leaves_random_entries_as_they_are():
    codec = made("beats_random", Random(steps=2, bands=32, width=8, size=64)).train()
    before = codec.fingerprint
    codec.quantizer(torch.randn(2, 16, 50))
    assert codec.fingerprint == before


# -- the programs, at full size -------------------------------------------------------------------


@pytest.mark.slow
def test_published_names_and_shapes_of_the_encoder():
    """Of the program's default, which has no positions; what is published has them, too."""
    shapes = table("speechbrain_1_1_2_beats")
    weights = random_weights(shapes)
    assert (len(shapes), sum(x.numel() for x in weights.values())) == (202, 90_301_568)
    ours = renamed(fold(weights))
    told = sizes(ours, {})
    own = Config(buckets=0, gated=False, deep=False, farthest=1280)
    assert told.items() <= vars(own).items()
    teacher = Beats(**told)
    teacher.ready(ours, Path("random"))
    assert sum(p.numel() for p in teacher.parameters()) == 90_301_568 - 128  # folded lengths


@pytest.mark.slow
@torch.no_grad()
def test_speechbrain_at_full_size(long: Tensor):
    if importlib.util.find_spec("speechbrain") is None:
        pytest.skip("speechbrain is not installed")
    with golden.speechbrain() as module:
        program = golden.encoder_of(module, golden.PUBLISHED)
        program.load_state_dict(golden.weights_of(program))
        ours = renamed(fold(dict(program.state_dict())))
        teacher = Beats(**sizes(ours, golden.PUBLISHED), beside=True)
        teacher.ready(ours, Path("random"))
        own = teacher.hidden(long).unflatten(3, (8, -1)).flatten(2, 3)[:, 0]
        # In single precision its own spectrum is off by 1e-4 where there is next to nothing.
        for wave, bound in ((long, 2e-5), (long.double(), 1e-5)):
            states = golden.hidden(program.to(wave.dtype), wave).float()
            for one, other in zip(own, states, strict=True):
                assert_close(one, other, bound)
            assert_close(own[-1], states[-1], 1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_the_tokenizer_at_full_size(long: Tensor, tmp_path: Path):
    """With `beats` of microsoft/unilm on the path (golden/beats.py)."""
    for name in ("Tokenizers", "backbone", "quantizer"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} of BEATs is not on the path")
    program = golden.tokenizer_of(golden.PUBLISHED)
    weights = golden.weights_of(program)
    golden.enliven(program, weights, long)
    torch.save({"cfg": golden.PUBLISHED, "model": program.state_dict()}, tmp_path / "t.pt")
    codec = load(tmp_path / "t.pt")
    assert codec.config == Config()
    trained = [p for p in program.parameters() if p.requires_grad]
    assert codec.parameters_trained == sum(p.numel() for p in trained)
    codes = golden.codes_of(program, long)
    own = codec.encode(Audio(long, 16000)).codes[:, : codes.shape[1]]
    assert not near_ties(codec, Audio(long, 16000), own, codes)
    assert len(np.unique(codes)) > 100
