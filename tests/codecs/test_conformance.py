"""Conformance: codecs that keep every promise pass, and each broken promise is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import audiotok
from sizes import SMALL, ready, spread

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import save
from audiotok.codecs.conformance import CHECKS, CheckResult, PromiseError, bursts, conform
from audiotok.codecs.models import dac, speechtokenizer
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.speech import Speech

SIZES: dict[str, Any] = {"strides": (2, 4, 5), "latent": 16, "size": 64, "codebooks": 2}
NONE = "does not apply"


def tried(codec: Codec, audio: Audio | None = None) -> dict[str, CheckResult]:
    return {f.check: f for f in conform(codec, audio)}


def small() -> Codec:
    torch.manual_seed(0)
    return ready(Speech(SMALL))


def test_our_own_codec_conforms():
    found = tried(small(), bursts(16000, 4.0))
    assert list(found) == list(CHECKS)
    for check, finding in found.items():
        there = check != "device" or torch.cuda.is_available()
        assert finding.verdict == ("pass" if there else NONE), finding
    assert "40.0 ms" in found["stream"].message
    assert "bfloat16" in found["dtype"].message


@pytest.mark.parametrize("kind", ["bounded", "unbounded"])
def test_codecs_that_look_ahead_conform(kind: str):
    torch.manual_seed(0)
    codec: Codec
    if kind == "bounded":
        codec = dac.Dac(dac.Config(sample_rate=8000, encoder=4, decoder=32, code_width=4, **SIZES))
    else:
        codec = speechtokenizer.Speechtokenizer(
            speechtokenizer.Config(sample_rate=8000, width=4, semantic=8, **SIZES)
        )
    spread(codec)
    found = tried(ready(codec), bursts(8000, 3.5))
    assert "fail" not in {f.verdict for f in found.values()}, found
    if kind == "unbounded":
        assert found["stream"].verdict == NONE
        assert "keeps the whole" in found["chunk"].message


def changed(codec: Codec, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Whatever the encoder gives is changed."""
    step = codec.step_latent

    def faulty(wave: torch.Tensor, state: Any) -> Any:
        latent, state = step(wave, state)
        return change(latent), state

    codec.step_latent = faulty  # pyright: ignore


def another_each_time(codec: Codec) -> None:
    changed(codec, lambda latent: latent + 0.1 * torch.randn_like(latent))


def mixing_neighbours(codec: Codec) -> None:
    changed(codec, lambda x: x + x.mean(0, keepdim=True) * (len(x) > 1))


def dropping_samples(codec: Codec) -> None:
    codec._waves = (
        lambda codes, group: [  # pyright: ignore
            wave[:, :-8] for wave in Codec._waves(codec, codes, group)
        ]
    )


def forgetting(codec: Codec) -> None:
    """Every block begins anew."""
    step = codec.step_latent
    codec.step_latent = lambda wave, state: step(  # pyright: ignore
        wave, codec.start_latent(len(wave))
    )


def seeing_more_than_it_says(codec: Codec) -> None:
    changed(codec, lambda latent: latent + 5 * latent.roll(-20, 2))


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (another_each_time, "determinism"),
        (mixing_neighbours, "batch"),
        (dropping_samples, "length"),
        (forgetting, "stream"),
        (seeing_more_than_it_says, "receptive field"),
    ],
)
def test_a_broken_promise_is_found(fault: Callable[[Codec], None], check: str):
    codec, audio = small(), bursts(16000, 4.0)
    CHECKS[check](codec, audio)
    fault(codec)
    with pytest.raises(PromiseError):
        CHECKS[check](codec, audio)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_codec_of_nan_does_not_conform(part: str):
    codec = small()
    key, weight = next(iter(getattr(codec, part).named_parameters()))
    weight.data.view(-1)[0] = torch.nan
    found = tried(codec, bursts(16000, 3.0))
    assert found["weights"] == CheckResult(
        "weights", "fail", f"{part}.{key} holds NaN (1 of {weight.numel()} values)"
    )


def test_audio_that_is_too_short():
    with pytest.raises(ValueError, match=r"^1\.00 s of audio are too short to try a codec on: 3 s"):
        list(conform(small(), bursts(16000, 1.0)))


def test_the_codec_is_as_it_was():
    codec = small()
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    CHECKS["dtype"](codec, bursts(16000, 3.0))
    for key, value in codec.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])


def test_command(tmp_path: Path):
    save(small(), tmp_path / "mine.safetensors")
    bursts(16000, 3.5).save(tmp_path / "noise.wav")
    given = ("conform", tmp_path / "mine.safetensors", "--audio")
    done = audiotok(*given, tmp_path / "noise.wav")
    assert done.code == 0, done.err
    assert done.out.count("pass") == len(CHECKS) - 1 + torch.cuda.is_available()
    assert done.out.splitlines()[-1].startswith("speech (")
    told = audiotok(*given, tmp_path / "noise.wav", "--json").json
    assert told["conforms"] is True
    assert {f["check"] for f in told["findings"]} == set(CHECKS)
    Audio(torch.zeros(1, 100), 16000).save(tmp_path / "short.wav")
    done = audiotok(*given, tmp_path / "short.wav")
    assert done.code == 1
    assert "too short" in done.err
