"""TaDiCodec's decoder: spectra of its repository, contracts of decoders, what it is told."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close
from random_weights import random_weights
from safetensors.torch import save_file
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.catalogue import CheckpointError
from audiotok.codecs.checkpoint import save
from audiotok.codecs.decoders.mel_flow import Config, MelFlow, MelSampling
from audiotok.codecs.load import load, load_decoder
from audiotok.codecs.mel_flow_fit import (
    Drawn,
    Example,
    MelFlowTraining,
    fit_mel_flow,
    mel_flow_examples,
    mel_flow_loss,
    velocity_loss,
)
from audiotok.codecs.models.tadicodec import POOL
from audiotok.data.manifest import read_manifest
from audiotok.evaluation.bench.subjects import Spec, load_system
from audiotok.runtime.sessions import Decoding
from audiotok.runtime.stream import Stream
from audiotok.testing.checks import Sizes, for_all, pieces
from audiotok.tokens.tokenizer import NoEncoderError, WrongTokensError

ROOT = Path(__file__).parents[2]
READING = ROOT / "egs/data/reading.flac"
PUBLISHED = 495_766_670  # without the vocoder
SMALL = Config(
    bands=20,
    width=16,
    encoder_blocks=1,
    blocks=2,
    heads=2,
    bits=6,
    vocabulary=256,
    vocoder_width=16,
    vocoder_blocks=1,
    steps=3,
)
BAD: dict[str, list[dict[str, Any]]] = {
    "steps": [{"steps": 0}, {"steps": 2.5}],
    "rescale": [{"rescale": 1.5}, {"rescale": "x"}],
    "guidance": [{"guidance": -1.0}],
    "text": [{"text": 5}, {"text": [256]}, {"text": [-1]}],
    "prompt_text": [{"prompt_text": "a"}, {"prompt_text": "a", "text": "b"}],
    "text_tokenizer goes with a text": [{"text_tokenizer": "tokenizer.json"}],
    "an empty text": [{"text": ""}, {"text": []}],
    "seed must be": [{"seed": -1}],
    "0.16 s": [{"prompt": Audio(torch.zeros(1, 9000), 24000)}],
    "no condition 'voice'": [{"voice": 3}],
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests/golden/mel_flow.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def folder(golden: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as they are published: a vocoder in a folder of its own."""
    folder = tmp_path_factory.mktemp("tadicodec")
    (folder / "vocoder").mkdir()
    for name, key in (("model", "shapes"), ("vocoder/model", "vocoder shapes")):
        state = random_weights(json.loads(str(golden[key])))
        save_file(state, folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def theirs(folder: Path) -> MelFlow:
    decoder = load_decoder(folder)
    assert isinstance(decoder, MelFlow)
    return decoder


def shaken(config: Config = SMALL) -> MelFlow:
    """Return a small decoder whose every part matters."""
    torch.manual_seed(0)
    decoder = MelFlow(config)
    for parameter in decoder.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return decoder.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def small() -> MelFlow:
    return shaken()


def tensor(golden: dict[str, np.ndarray], name: str) -> Tensor:
    return torch.from_numpy(golden[name])


def codes_for(decoder: MelFlow, frames: int) -> Tensor:
    """Return random codes `[1 f]`."""
    random = torch.Generator().manual_seed(frames)
    return torch.randint(decoder.sizes[0], (1, frames), generator=random)


# -- the program of the authors ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("guided", MelSampling(4, seed=5, guidance=2.0, rescale=0.75)),
        ("plain", MelSampling(3, seed=5)),
        ("no prompt", MelSampling(3, seed=5, guidance=1.5)),
    ],
)
def test_spectra_are_those_of_the_repository(
    theirs: MelFlow, golden: dict[str, np.ndarray], name: str, sampling: MelSampling
):
    before = golden["prompt"].shape[1] // POOL if name != "no prompt" else 0
    codes = theirs.quantizer.decode(tensor(golden, "codes")[None, None])
    prompt = (codes[:, :, :before], tensor(golden, "prompt")) if before else None
    text = theirs.text(tensor(golden, "text"))
    mel = theirs.sampler.sampled(codes[:, :, before:], sampling, text=text, prompt=prompt)
    assert_close(mel[0], tensor(golden, name), 1e-5)
    if name == "guided":
        assert_close(theirs.sampler.sound(mel)[0, 0], tensor(golden, "wave"), 1e-4)


def test_the_loss_is_that_of_the_repository(theirs: MelFlow, golden: dict[str, np.ndarray]):
    data = tensor(golden, "data")
    noise = np.random.default_rng(5).standard_normal(data.T.shape, dtype=np.float32)
    drawn = Drawn(0.3, torch.from_numpy(noise).T, golden["prompt"].shape[1])
    loss, _ = velocity_loss(theirs, Example(data, tensor(golden, "text")), drawn)
    assert_close(loss, torch.tensor(golden["loss"]), 1e-5)


def test_all_weights_of_the_published_size_are_there():
    with torch.device("meta"):
        decoder = MelFlow()
    vocoder = decoder.sampler.vocoder
    assert vocoder is not None
    own = sum(p.numel() for p in vocoder.parameters())
    assert sum(p.numel() for p in decoder.parameters()) - own == PUBLISHED


def test_one_file_holds_tokenizer_and_decoder(
    theirs: MelFlow, folder: Path, caplog: pytest.LogCaptureFixture
):
    tokenizer = load(folder / "model.safetensors")
    assert theirs.fingerprint == tokenizer.fingerprint
    reading = Audio.load(READING)[:40_000]
    tokens = tokenizer.encode(reading)
    decoded = theirs.conditioned(text=[3, 1, 2], steps=1).decode(tokens, original_rate=True)
    assert (len(decoded), decoded.rate) == (len(reading), reading.rate)
    lone = folder.parent / "model.safetensors"
    lone.write_bytes((folder / "model.safetensors").read_bytes())
    caplog.clear()
    without = load_decoder(lone)
    missing = "vocoder/model.safetensors"
    assert caplog.messages == [f"{lone}: has no {missing} beside it, and does without"]
    assert without.config == replace(theirs.config, vocoder_blocks=0, vocoder_width=1024)
    assert len(without.conditioned(steps=1).decode(tokens)) == tokens.samples
    with pytest.raises(NoEncoderError):
        theirs.encode(reading)


def test_names_without_weights_are_refused():
    with pytest.raises(CheckpointError, match="amphion/TaDiCodec"):
        load_decoder("mel_flow_tadicodec")


# -- contracts of decoders -----------------------------------------------------------------------


@pytest.mark.parametrize("vocoder_blocks", [0, 1])
def test_lengths_are_exact(vocoder_blocks: int):
    decoder = shaken(replace(SMALL, vocoder_blocks=vocoder_blocks))
    for frames in (0, 1, 2, decoder.block + 1):
        audio = decoder.decode(codes_for(decoder, frames))
        assert len(audio) == frames * decoder.frame_size
        assert audio.samples.isfinite().all()
        if frames:
            short = decoder.decode(codes_for(decoder, frames), samples=3840 * frames - 7)
            assert torch.equal(short.samples, audio.samples[:, :-7])


def test_any_cutting_and_batch_give_the_same_bits(small: MelFlow):
    told = small.conditioned(text="hello", prompt=READING, seed=3)
    codes = codes_for(told, told.block + 9)
    whole = told.decode(codes).samples

    def check(sizes: list[int]) -> None:
        decoding = Decoding(told.executor)
        parts = [decoding.push(piece) for piece in pieces(codes[None], sizes)]
        assert torch.equal(told.executor.join([*parts, decoding.finish()], 2)[0], whole)

    for_all(check, Sizes(most=codes.shape[1], longest=30, common=(0, 1, 31, 32)), examples=3)
    many = [codes_for(told, n) for n in (12, 1, 0, 7)]
    for one, alone in zip(told.decode_batch(many), many, strict=True):
        assert torch.equal(one.samples, told.decode(alone).samples)
    for one, alone in zip(told.decode_batch(many, group=3), many, strict=True):
        assert_close(one.samples, told.decode(alone).samples, 1e-4)
    with pytest.raises(ValueError, match=r"^decoder '.*' takes all tokens before it gives"):
        Stream(told)


def test_every_code_is_taken():
    decoder = MelFlow(replace(SMALL, bits=14))
    assert (decoder.sizes, float(decoder.frame_rate)) == ((2**14,), 6.25)
    codes = torch.arange(2**14)[None]
    quantizer = decoder.own_tokenizer.quantizer
    assert torch.equal(quantizer.search(quantizer.look_up(codes)), codes)  # pyright: ignore


# -- what it is told -----------------------------------------------------------------------------


def test_a_seed_repeats_to_the_bit_and_conditions_matter(small: MelFlow):
    codes = codes_for(small, 9)
    plain = small.decode(codes).samples
    assert torch.equal(plain, small.conditioned(seed=0, text=None).decode(codes).samples)
    ways: list[dict[str, Any]] = [{}, {"seed": 1}, {"steps": 4}, {"guidance": 1.0}]
    ways += [{"rescale": 0.0}, {"text": "hello"}, {"text": [104, 105]}, {"prompt": READING}]
    ways += [{"text": "b", "prompt": READING, "prompt_text": "a"}]
    made = {}
    for way in ways:
        told = small.conditioned(**way)
        wave = told.decode(codes).samples
        assert torch.equal(wave, small.conditioned(**way).decode(codes).samples)
        made[told.decoder_fingerprint] = wave
    assert len(made) == len({wave.numpy().tobytes() for wave in made.values()}) == len(ways)
    joined = small.conditioned(text="ab", prompt=READING).decode(codes).samples
    assert torch.equal(joined, list(made.values())[-1])


@pytest.mark.parametrize(("message", "ways"), BAD.items())
def test_bad_conditions_are_refused(small: MelFlow, message: str, ways: list[dict[str, Any]]):
    for way in ways:
        with pytest.raises(InputError, match=message):
            small.conditioned(**way)


def test_a_text_of_other_tokens_needs_their_tokenizer(theirs: MelFlow, tmp_path: Path):
    with pytest.raises(InputError, match="the condition text_tokenizer"):
        theirs.conditioned(text="hello")
    library = pytest.importorskip("tokenizers")
    words = library.Tokenizer(library.models.WordLevel({"hello": 7, "?": 0}, unk_token="?"))
    words.pre_tokenizer = library.pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    path = str(tmp_path / "tokenizer.json")
    assert theirs.text_tokens("hello hello", path) == [7, 7]
    told = theirs.conditioned(text="hello", text_tokenizer=path)
    assert told.decoder_fingerprint == theirs.conditioned(text=[7]).decoder_fingerprint
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        theirs.conditioned(text="hello", text_tokenizer=str(READING))


def test_what_it_is_told_stands_beside_every_score(small: MelFlow, tmp_path: Path):
    absent = dict.fromkeys(("text", "prompt", "prompt_text", "text_tokenizer"))
    ways = {"seed": 0, "steps": 3, "method": "centred", "guidance": 2.0, "rescale": 0.75}
    assert small.side_information == {**absent, **ways}
    told = small.conditioned(text="hello", prompt=READING, seed=4).side_information
    assert (told["text"], told["prompt"], told["seed"]) == ("hello", "reading.flac", 4)
    for name, part in (("tokens", small.own_tokenizer), ("sound", small)):
        save(part, tmp_path / f"{name}.safetensors", dtype=torch.float32)
    tok, wav = tmp_path / "a.tok", tmp_path / "a.wav"
    file, sound = tmp_path / "tokens.safetensors", tmp_path / "sound.safetensors"
    assert audiotok("encode", READING, "--codec", file, "-o", tok).code == 0
    words = ["decode", tok, "-o", wav, "--decoder", sound, "--force", "--seed", "2"]
    words += ["--condition", "text=hello there", "--condition", "steps=1", "--prompt", READING]
    done = audiotok(*words)
    line = next(line for line in done.out.splitlines() if line.startswith("side information"))
    for part in ("text: hello there;", "prompt: reading.flac;", "seed: 2;", "steps: 1;"):
        assert part in line
    assert Audio.load(wav).samples.shape[1] == load(file).encode(READING).samples
    done = audiotok(*words[:6], "--condition", "text=5")
    assert "condition 'text' must be" in done.lines[0]
    manifest = tmp_path / "clips.tsv"
    Audio.load(READING)[:30_000].save(tmp_path / "clip.wav")
    manifest.write_text("path\tsplit\ttext\nclip.wav\ttest\thello there\n", "utf-8")
    out = tmp_path / "bench"
    name = f"{file}+{sound}+steps=1+text+seed=3+prompt"
    bench = ["bench", "--codec", name, "--data", manifest, "--metrics", "mel", "-o", out]
    done = audiotok(*bench)
    assert done.code == 0
    told_line = "text: each recording's transcript; prompt: each recording itself"
    assert told_line in done.out.replace("\n", " ")
    assert "steps: 1" in done.out.replace("\n", " ")
    assert "seed: 3" in (out / "report.md").read_text("utf-8")
    assert "each recording itself" in (out / "report.html").read_text("utf-8")
    rows = json.loads(audiotok(*bench, "--json").out)
    assert [told_line in row.get("side_information", "") for row in rows].count(True) == 1
    with pytest.raises(InputError, match="no transcript"):
        load_system(Spec.parse(name)).output(Audio.load(READING)[:20_000], "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("+steps=few", r"condition 'steps' must be"),
        ("+seed=-1", r"seed must be"),
        ("+level=3", r"no condition 'level' for all recordings; there are .*steps.*, seed$"),
        ("+prompt=a.wav", r"no condition 'prompt' for all recordings"),
        ("+steps=1+steps=2", r"steps is given twice"),
    ],
)
def test_what_a_bench_cannot_tell_it_is_refused(
    small: MelFlow, tmp_path: Path, told: str, message: str
):
    tokens, sound = tmp_path / "tokens.safetensors", tmp_path / "sound.safetensors"
    save(small.own_tokenizer, tokens)
    save(small, sound)
    name = f"{tokens}+{sound}{told}"
    with pytest.raises(InputError, match=rf"^{re.escape(name)}: .*{message}"):
        load_system(Spec.parse(name))


def test_tokens_of_other_weights_are_refused(small: MelFlow):
    tokens = load("dmel_40hz").encode(Audio.load(READING)[:9000])
    with pytest.raises(WrongTokensError):
        small.decode(tokens)
    other = shaken(replace(SMALL, encoder_blocks=2)).own_tokenizer
    with pytest.raises(WrongTokensError, match=f"takes those of {small.fingerprint}"):
        small.decode(other.encode(Audio.load(READING)[:9000]))


# -- training ------------------------------------------------------------------------------------


def test_training_lowers_the_loss_of_tokenizer_and_decoder(tmp_path: Path):
    Audio.load(READING).resample(24000)[: 8 * 3840 + 99].save(tmp_path / "a.wav")
    (tmp_path / "clips.tsv").write_text("path\ttext\na.wav\thello there\n", "utf-8")
    listed = read_manifest(tmp_path / "clips.tsv")
    config = replace(SMALL, width=32, blocks=1, vocoder_blocks=0)
    torch.manual_seed(0)
    models = [MelFlow(config)]
    models.append(MelFlow(config))
    models[1].load_state_dict(models[0].state_dict())
    examples = mel_flow_examples(models[0], listed)
    assert [example.spectrum.shape for example in examples] == [(20, POOL * 8)]
    before = mel_flow_loss(models[0], examples)
    quick = MelFlowTraining(steps=60, batch=2, rate=3e-3)
    first, again = (fit_mel_flow(examples, model, quick) for model in models)
    assert first.decoder_fingerprint == again.decoder_fingerprint
    assert mel_flow_loss(first, examples) < 0.8 * before
    assert first.card["mel_flow"]["training"]["steps"] == 60
    decoded = first.decode(first.own_tokenizer.encode(tmp_path / "a.wav"))
    assert len(decoded) == 8 * 3840 + 99
    with pytest.raises(InputError, match="no recording with a text"):
        fit_mel_flow([], first)
    bad: list[dict[str, Any]] = [{"steps": 0}, {"prompt": 1.0}, {"rate": 0.0}, {"seed": -1}]
    for wrong in bad:
        with pytest.raises(InputError, match=r"at least one of each|shares|seed must be"):
            MelFlowTraining(**wrong)


def test_codes_are_learnt_and_more_steps_come_nearer():
    """On spectra of which every frame of 8 steps is one of four."""
    table = torch.randn(4, 20, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    config = replace(SMALL, width=64, bits=14, vocoder_blocks=0)
    model, examples = MelFlow(config), []
    for _ in range(6):
        mel = table[torch.randint(4, (6,))].T.repeat_interleave(POOL, 1).contiguous()
        examples.append(Example(mel, torch.randint(256, (5,))))
    fit_mel_flow(examples, model, MelFlowTraining(250, rate=3e-3, prompt_drop=0.9))
    with_codes, without = (mel_flow_loss(model, examples, codes=codes) for codes in (True, False))
    assert with_codes < 0.7 * without
    errors = []
    encoder = model.own_tokenizer.encoder
    for steps in (1, 4, 32):
        off = 0.0
        for mel, text in examples:
            told = model.conditioned(steps=steps, guidance=1.0, text=text.tolist())
            latent = encoder.pooled(mel[None])  # pyright: ignore
            codes = model.quantizer.encode(latent)
            off += float((told.spectrum(model.quantizer.decode(codes))[0] - mel).abs().mean())
        errors.append(off)
    assert errors[2] < errors[1] < errors[0]


def test_sizes_that_do_not_fit_are_refused():
    for wrong in ({"width": 30}, {"blocks": 0}, {"steps": 0}, {"rescale": 2.0}):
        with pytest.raises(ValueError, match=r"share|at least|steps"):
            replace(SMALL, **wrong)
