"""What every metric gives where nothing differs, nothing is heard, or hardly anything is there.

    case                       a number                        infinite    an error with its reason
    output equal to reference  best value of all others        si_sdr      -
    both silent                mel, stft:dac: 0                -           all others
    silent output              mel, stft, stoi 0, f0:voicing   -           all others
    one sample, two samples    mel (two)                       si_sdr      all others

Metrics of words and voices, whose models are not here, are told by their own files of tests.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch

from audiotok._platform.registry import find, names
from audiotok.audio.audio import Audio
from audiotok.evaluation.metrics.base import (
    InfiniteScoreError,
    Metric,
    MissingModelError,
    listener_input,
)

RATE = 16000
NAMES = [
    f"{name}:{option}" if option else name
    for name in names("metrics")
    for option in ("", *find("metrics", name).options)
]


def marked(specs: Iterable[str]) -> list[Any]:
    """The specs; librosa compiles pYIN for many seconds, so that F0 is slow."""
    slow = pytest.mark.slow
    return [pytest.param(s, marks=[slow] if s.startswith("f0") else []) for s in specs]


EVERY = marked(NAMES)


def built(spec: str) -> Metric:
    name, _, option = spec.partition(":")
    return find("metrics", name)(option)


def sung(seconds: float = 1.5) -> Audio:
    """A voiced sound with syllables, which PESQ, STOI and pYIN all take for speech."""
    t = torch.arange(round(seconds * RATE)) / RATE
    pitch = 2 * math.pi * (140 * t + 6 * torch.sin(2 * math.pi * 1.3 * t))
    tones = torch.stack([torch.sin(k * pitch) / k for k in range(1, 12)]).sum(0)
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(0))
    return Audio((0.1 * (tones + 0.2 * noise) * (1 + torch.sin(2 * math.pi * 4 * t)))[None], RATE)


VOICE = sung()
SILENCE = Audio(torch.zeros_like(VOICE.samples), RATE)
OFFSET = Audio(torch.full_like(VOICE.samples, 0.1), RATE)
ONE = Audio(torch.tensor([[0.3]]), RATE)
TWO = Audio(torch.tensor([[0.3, -0.2]]), RATE)
NOTHING = Audio(torch.zeros(1, 0), RATE)
CASES = {
    "equal": (VOICE, VOICE),
    "both silent": (SILENCE, SILENCE),
    "silent output": (SILENCE, VOICE),
    "silent reference": (VOICE, SILENCE),
    "offset": (OFFSET, VOICE),
    "one sample": (ONE, ONE),
    "two samples": (TWO, TWO),
    "no samples": (NOTHING, NOTHING),
}


def outcome(spec: str, output: Audio, reference: Audio) -> float | str:
    """The score, infinity, or why there is none; a crash is neither, nor is a warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return built(spec).score(output, reference, "some words").value
    except InfiniteScoreError as error:
        return error.value
    except (MissingModelError, ImportError) as error:
        pytest.skip(str(error)[:80])
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("spec", EVERY)
def test_a_number_or_a_reason_in_one_line_and_never_nan(spec: str, case: str):
    got = outcome(spec, *CASES[case])
    if isinstance(got, float | int):
        assert not math.isnan(got)
        assert math.isfinite(got) or spec.startswith("si_sdr")
    else:
        assert got
        assert "\n" not in got


PERFECT = {
    **{"pesq": 4.644, "pesq:nb": 4.549, "stoi": 1.0, "stoi:extended": 1.0},
    **dict.fromkeys(("mel", "mel:dac", "mel:vocos", "mel:speechtokenizer"), 0.0),
    **dict.fromkeys(("stft", "stft:mrstft", "stft:dac", "f0", "f0:rmse"), 0.0),
    **dict.fromkeys(("f0:correlation", "f0:voicing"), 1.0),
    **dict.fromkeys(("si_sdr", "si_sdr:aligned", "si_sdr:raw"), math.inf),
}


@pytest.mark.parametrize("spec", marked(PERFECT))
def test_an_exact_copy_has_the_best_score_there_is(spec: str):
    assert outcome(spec, VOICE, VOICE) == pytest.approx(PERFECT[spec], abs=0.001)


@pytest.mark.parametrize(
    "spec", marked(s for s in NAMES if find("metrics", s.split(":")[0]).aligned)
)
def test_a_score_is_best_for_an_exact_copy(spec: str):
    """Nothing scores better than the original: what the metric calls better, it means."""
    noise = torch.randn(VOICE.samples.shape, generator=torch.Generator().manual_seed(1))
    copy = outcome(spec, VOICE, VOICE)
    worse = outcome(spec, Audio(VOICE.samples + 0.05 * noise, RATE), VOICE)
    assert isinstance(copy, float)
    assert isinstance(worse, float)
    assert copy > worse if built(spec).better == "higher" else copy < worse


def test_what_has_nothing_of_the_reference_is_minus_infinity():
    with pytest.raises(InfiniteScoreError, match="nothing of the reference") as caught:
        built("si_sdr").score(*_orthogonal())
    assert caught.value.value == -math.inf


def _orthogonal() -> tuple[Audio, Audio]:
    """Two waves without a common part, to the last bit."""
    wave = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(400)
    return Audio(wave[None], RATE), Audio(wave.roll(1)[None], RATE)


@pytest.mark.parametrize("spec", ["stoi", "stoi:extended"])
def test_silence_at_any_offset_is_not_understood(spec: str):
    """A constant offset had a STOI of 0.39 by the clicks at its resampled ends."""
    assert outcome(spec, SILENCE, VOICE) == outcome(spec, OFFSET, VOICE) == 0


def test_no_opinion_of_a_moment():
    """DistillMOS gave two samples 1.7, and DNSMOS would repeat them for nine seconds."""
    with pytest.raises(ValueError, match=r"too short: 0\.0001 s, 0\.1 s are needed"):
        listener_input(TWO, RATE)
    assert len(listener_input(VOICE[: RATE // 10], RATE)) == RATE // 10
