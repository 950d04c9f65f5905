"""Predictors of opinion: equal to the packages that carry them, and silent where they must be.

Slow ones need what is not ours to ship, and are skipped without it: AUDIOTOK_TEST_MODELS names a
folder that may hold `nisqa/nisqa.tar`, and AUDIOTOK_TEST_DMCODEC one with the sample files of
DM-Codec's repository (github.com/mubtasimahasan/DM-Codec, assets).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.evaluation.metrics import utmos
from audiotok.evaluation.metrics.base import MissingModelError, Score

SPEECH = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"
# Package, and how it is installed.
PACKAGES = {
    "distillmos": ("distillmos", "distillmos"),
    "dnsmos": ("speechmos.dnsmos", "speechmos"),
    "nisqa": ("torchmetrics.functional.audio.nisqa", "torchmetrics"),
    "visqol": ("visqol", "visqol-python"),
}
ALONE = ["distillmos", "dnsmos", "utmos", "nisqa"]  # without a reference


@pytest.fixture(scope="module")
def speech() -> Audio:
    """2.5 s of somebody reading, at 16 kHz."""
    return Audio.load(SPEECH).mono().resample(16000)[16000:56000]


def folder(variable: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no folder")
    return Path(os.environ[variable])


# ---- all of them


@pytest.mark.parametrize("name", ALONE)
def test_nothing_is_no_opinion(name: str):
    metric = find("metrics", name)()
    assert (metric.better, metric.unit, metric.aligned) == ("higher", "MOS", False)
    good = Audio(torch.ones(1, 16000), 16000)
    with pytest.raises(ValueError, match="no samples"):
        metric.score(good[:0], good)
    with pytest.raises(ValueError, match="silent"):
        metric.score(Audio(torch.zeros(1, 16000), 16000), good)


@pytest.mark.parametrize("name", PACKAGES)
def test_without_the_package(name: str, monkeypatch: pytest.MonkeyPatch):
    library, package = PACKAGES[name]
    for module in (library, library.split(".")[0]):
        monkeypatch.setitem(sys.modules, module, None)
    module = sys.modules[find("metrics", name).__module__]
    for cached in ("_network", "_program"):
        if hasattr(module, cached):
            getattr(module, cached).cache_clear()
    audio = Audio(torch.randn(1, 16000), 16000)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        find("metrics", name)().score(audio, audio)
    assert package.split()[0] in find("metrics", name)().protocol


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dnsmos", ["ovrl", "sig", "bak", "p808"]),
        ("nisqa", ["mos", "noisiness", "discontinuity", "coloration", "loudness"]),
        ("visqol", ["", "polynomial", "audio"]),
    ],
)
def test_each_variant_says_which_it_is(name: str, options: list[str]):
    assert len({find("metrics", name)(option).protocol for option in options}) == len(options)
    with pytest.raises(ValueError, match=f"no variant 'all': only .*{options[-1]}"):
        find("metrics", name)("all")
    for plain in ("distillmos", "utmos"):
        with pytest.raises(ValueError, match="it has none"):
            find("metrics", plain)("all")


# ---- by their packages


def test_distillmos_is_its_own_package(speech: Audio):
    pytest.importorskip("distillmos")
    from audiotok.audio import _torchaudio

    _torchaudio.load()
    import distillmos  # pyright: ignore[reportMissingImports]

    network = distillmos.ConvTransformerSQAModel().eval()
    assert sum(p.numel() for p in network.parameters()) == 4133226
    metric = find("metrics", "distillmos")()
    for audio in (speech, speech.resample(24000)):
        with torch.no_grad():
            expected = network(audio.resample(16000).samples.clamp(-1, 1)).item()
        assert metric.score(audio, speech).value == pytest.approx(expected, abs=1e-6)
    assert 3 < metric.score(speech, speech).value < 5
    outputs = [speech, speech[:30000], Audio(speech.samples / 2, 16000), speech[1000:31000]]
    many = metric.score_many(outputs, outputs)
    for output, found in zip(outputs, many, strict=True):
        assert isinstance(found, Score)
        assert found.value == pytest.approx(metric.score(output, speech).value, abs=1e-5)
    # Nothing is printed, and loudness past full scale is cut as in a file.
    loud = Audio(speech.samples * 40, 16000)
    cut = Audio(loud.samples.clamp(-1, 1), 16000)
    assert metric.score(loud, speech) == metric.score(cut, speech)


@pytest.mark.slow  # librosa is compiled first
def test_dnsmos_is_its_own_package(speech: Audio, monkeypatch: pytest.MonkeyPatch):
    theirs = pytest.importorskip("speechmos.dnsmos")
    expected = theirs.run(speech.samples[0].numpy(), sr=16000)
    runs: list[np.ndarray] = []
    run = theirs.run
    monkeypatch.setattr(theirs, "run", lambda x, sr: (runs.append(x), run(x, sr=sr))[1])
    for option, key in (
        ("", "ovrl_mos"),
        ("ovrl", "ovrl_mos"),
        ("sig", "sig_mos"),
        ("bak", "bak_mos"),
        ("p808", "p808_mos"),
    ):
        score = find("metrics", "dnsmos")(option).score(speech, speech)
        assert score.value == pytest.approx(float(expected[key]), abs=1e-9)
    assert len(runs) == 1


@pytest.mark.slow
def test_visqol_is_its_own_package(speech: Audio):
    visqol = pytest.importorskip("visqol")
    noise = 0.02 * torch.randn(1, len(speech), generator=torch.Generator().manual_seed(0))
    output = Audio(speech.samples + noise, 16000)
    waves = [x.samples[0].double().numpy() for x in (speech, output)]
    lattice = [False]
    try:
        import ai_edge_litert  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(ImportError, match="ai-edge-litert"):
            find("metrics", "visqol")().score(output, speech)
    else:
        lattice.append(True)
    for use in lattice:
        program = visqol.VisqolApi()
        program.create(mode="speech", use_lattice_model=use)
        expected = program.measure_from_arrays(*waves, 16000).moslqo
        metric = find("metrics", "visqol")("" if use else "polynomial")
        assert metric.score(output, speech).value == pytest.approx(expected, abs=1e-9)
        assert metric.score(speech, speech).value > expected + 0.3
    with pytest.raises(ValueError, match="reference is silent"):
        find("metrics", "visqol")().score(output, Audio(torch.zeros(1, len(output)), 16000))
    with pytest.raises(ValueError, match="ViSQOL"):
        find("metrics", "visqol")("polynomial").score(output[:400], speech[:400])


# ---- NISQA


def test_nisqa_does_not_fetch_its_weights(speech: Audio, tmp_path: Path):
    pytest.importorskip("torchmetrics.functional.audio.nisqa")
    other = tmp_path / "other.tar"
    other.touch()
    for models in ({}, {"nisqa": str(other)}, {"nisqa": str(tmp_path / "nisqa.tar")}):
        with pytest.raises(MissingModelError, match="non-commercial"):
            find("metrics", "nisqa")(models=models).score(speech, speech)


@pytest.mark.slow
def test_nisqa_is_its_own_package(speech: Audio):
    theirs: Any = pytest.importorskip("torchmetrics.functional.audio.nisqa")
    weights = folder("AUDIOTOK_TEST_MODELS") / "nisqa" / "nisqa.tar"
    if not weights.is_file():
        pytest.skip(f"no {weights}")
    made = {
        option: find("metrics", "nisqa")(option, models={"nisqa": str(weights)})
        .score(speech, speech)
        .value
        for option in ("mos", "noisiness", "discontinuity", "coloration", "loudness")
    }
    wave = speech.resample(48000).samples[0].clamp(-1, 1)
    expected = theirs.non_intrusive_speech_quality_assessment(wave, 48000)
    assert list(made.values()) == pytest.approx(expected.tolist(), abs=1e-6)


# ---- UTMOS


def official(*, copy: bool, random: bool = True) -> dict[str, torch.Tensor]:
    """Tensors by the names and shapes of the published checkpoints.

    Names from sarulab-speech/UTMOS22 (strong/model.py) and fairseq's wav2vec2.py, or with `copy`
    those of tarepan/SpeechMOS.
    """
    shapes: dict[str, tuple[int, ...]] = {"mask_emb": (768,)}
    for i, width in enumerate((10, 3, 3, 3, 3, 2, 2)):
        shapes[f"feature_extractor.conv_layers.{i}.0.weight"] = (512, 1 if i == 0 else 512, width)
    shapes |= dict.fromkeys(
        [f"feature_extractor.conv_layers.0.2.{x}" for x in ("weight", "bias")], (512,)
    )
    shapes |= {"layer_norm.weight": (512,), "layer_norm.bias": (512,)}
    shapes |= {"post_extract_proj.weight": (768, 512), "post_extract_proj.bias": (768,)}
    shapes |= {"encoder.pos_conv.0.bias": (768,), "encoder.pos_conv.0.weight_g": (1, 1, 128)}
    shapes |= {"encoder.pos_conv.0.weight_v": (768, 48, 128)}
    shapes |= {"encoder.layer_norm.weight": (768,), "encoder.layer_norm.bias": (768,)}
    for i in range(12):
        layer = f"encoder.layers.{i}."
        for x in "qkv":
            shapes[f"{layer}self_attn.{x}_proj.weight"] = (768, 768)
            shapes[f"{layer}self_attn.{x}_proj.bias"] = (768,)
        shapes[f"{layer}self_attn.out_proj.weight"] = (768, 768)
        shapes[f"{layer}self_attn.out_proj.bias"] = (768,)
        shapes |= {f"{layer}fc1.weight": (3072, 768), f"{layer}fc1.bias": (3072,)}
        shapes |= {f"{layer}fc2.weight": (768, 3072), f"{layer}fc2.bias": (768,)}
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{layer}{norm}.weight": (768,), f"{layer}{norm}.bias": (768,)}
    hearing = "wav2vec2." if copy else "feature_extractors.0.ssl_model."
    shapes = {hearing + name: shape for name, shape in shapes.items()}
    if copy:
        shapes |= {"domain_emb": (1, 128), "judge_emb": (1, 128)}
    else:
        shapes |= {"feature_extractors.1.embedding.weight": (3, 128)}
        shapes |= {"output_layers.0.judge_embedding.weight": (3000, 128)}
    lstm = "blstm." if copy else "output_layers.0.decoder_rnn."
    for way in ("", "_reverse"):
        shapes |= {f"{lstm}weight_ih_l0{way}": (2048, 1024), f"{lstm}bias_ih_l0{way}": (2048,)}
        shapes |= {f"{lstm}weight_hh_l0{way}": (2048, 512), f"{lstm}bias_hh_l0{way}": (2048,)}
    first, second = ("projection.0.", "projection.2.")
    if not copy:
        first, second = "output_layers.1.net.0.", "output_layers.1.net.3."
    shapes |= {f"{first}weight": (2048, 1024), f"{first}bias": (2048,)}
    shapes |= {f"{second}weight": (1, 2048), f"{second}bias": (1,)}
    if not random:
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) * 0.03
        + ("norm.weight" in name or "weight_g" in name)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize(("copy", "count"), [(False, 103156993), (True, 102772865)])
def test_utmos_is_built_to_the_published_names_and_shapes(copy: bool, count: int):
    """Counts are those of a network of the authors' sizes and of SpeechMOS's own network."""
    weights = official(copy=copy, random=False)
    assert sum(value.numel() for value in weights.values()) == count
    with torch.device("meta"):
        network = utmos.StrongLearner()
    network.load_state_dict(utmos.map_state_dict(weights), assign=True)  # strict
    # All but what masks, the tables' other rows, and the folded lengths.
    kept = sum(value.numel() for value in network.state_dict().values())
    assert kept == 102772865 - 768 - 128
    some = next(name for name in weights if name.endswith("fc1.bias"))
    with pytest.raises(RuntimeError, match="Missing"):
        network.load_state_dict(
            utmos.map_state_dict({k: v for k, v in weights.items() if k != some}), assign=True
        )


class Option:
    """What stands for omegaconf's class in a Lightning checkpoint of the authors."""

    run = 0

    def __init__(self) -> None:
        self.text = "options"

    def __setstate__(self, state: object) -> None:
        Option.run += 1


@pytest.mark.slow
def test_utmos_reads_both_files_and_runs_nothing_in_them(speech: Audio, tmp_path: Path):
    weights = official(copy=False)
    copied = official(copy=True, random=False)
    pairs = zip(copied, weights.items(), strict=True)
    rows = {"domain_emb": utmos.DOMAIN, "judge_emb": utmos.LISTENER}
    copied = {
        ours: value[rows[ours]][None].clone() if ours in rows else value
        for ours, (_, value) in pairs
    }
    torch.save(copied, tmp_path / "copied.pt")
    content = {"state_dict": weights, "hyper_parameters": {"cfg": Option()}, "epoch": 3}
    torch.save(content, tmp_path / "official.ckpt")
    values = [
        find("metrics", "utmos")(models={"utmos": str(tmp_path / name)}).score(speech, speech).value
        for name in ("copied.pt", "official.ckpt")
    ]
    utmos.load.cache_clear()
    assert values[0] == values[1] != 3
    assert Option.run == 0


def test_utmos_of_a_wrong_file(speech: Audio, tmp_path: Path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name, reason in (
        ("other.pt", "not UTMOS22's strong learner: no feature_extractors.1.embedding"),
        ("text.pt", "no checkpoint"),
        ("none.pt", "no such checkpoint"),
    ):
        metric = find("metrics", "utmos")(models={"utmos": str(tmp_path / name)})
        with pytest.raises(MissingModelError, match=reason) as caught:
            metric.score(speech, speech)
        assert "\n" not in str(caught.value)


def test_utmos_without_weights_says_where_they_are(speech: Audio):
    with pytest.raises(MissingModelError, match=r'sarulab-speech/UTMOS22 .* as the model "utmos"'):
        find("metrics", "utmos")().score(speech, speech)


# ---- on audio of others

# DNSMOS P.835 overall, P.808, DistillMOS: the packages called by hand on these files.
DMCODEC = {
    ("118", "Original"): (3.42, 4.10, 4.57),
    ("118", "EnCodec"): (3.13, 3.22, 3.77),
    ("118", "SpeechTokenizer"): (3.30, 3.74, 4.44),
    ("118", "FACodec"): (3.36, 3.50, 4.11),
    ("118", "DM-Codec"): (3.42, 3.67, 4.15),
    ("132", "Original"): (3.54, 4.05, 4.69),
    ("132", "EnCodec"): (3.28, 3.54, 3.65),
    ("132", "SpeechTokenizer"): (3.47, 3.74, 4.37),
    ("132", "FACodec"): (3.45, 3.18, 3.53),
    ("132", "DM-Codec"): (3.50, 3.58, 4.25),
}


@pytest.mark.slow
@pytest.mark.parametrize(("sample", "codec"), DMCODEC)
def test_samples_of_dm_codec_score_as_measured_by_others(sample: str, codec: str):
    for package in ("distillmos", "speechmos"):
        pytest.importorskip(package)
    output = Audio.load(folder("AUDIOTOK_TEST_DMCODEC") / f"{codec}_sample_{sample}.flac")
    made = tuple(
        round(find("metrics", name)(option).score(output, output).value, 2)
        for name, option in (("dnsmos", ""), ("dnsmos", "p808"), ("distillmos", ""))
    )
    assert made == DMCODEC[sample, codec]
