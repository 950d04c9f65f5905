"""Resampling by pieces is resampling whole, and both are what torchaudio and scipy compute."""

import math
import os
import subprocess
import sys
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings

from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.audio.resample import BETA, ROLLOFF, ZERO_CROSSINGS, Resampler
from audiotok.audio.resample_numpy import NumpyResampler

RATES = st.sampled_from([8000, 11025, 16000, 22050, 24000, 44100, 48000])


def noise(samples: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed)) * 0.3


@settings(max_examples=25, deadline=None)
@given(
    old=RATES,
    new=RATES,
    samples=st.integers(0, 6000),
    channels=st.sampled_from([1, 2, 5]),
    block=st.sampled_from([1, 1000, 131072]),
    cuts=st.lists(st.integers(0, 6000), max_size=8),
)
def test_any_cutting_is_bit_identical_to_whole(old, new, samples, channels, block, cuts):
    wave = noise(samples, channels)
    if old * 3 < new:  # keeps block=1 quick
        block = max(block, 1000)
    whole = Resampler(old, new, channels, block=block)
    expected = torch.cat([whole.step(wave), whole.finish()], 1)
    assert expected.shape == (channels, -(-samples * new // old))
    pieces = Resampler(old, new, channels, block=block)
    edges = [0, *sorted(min(c, samples) for c in cuts), samples]
    out = [pieces.step(wave[:, a:b]) for a, b in pairwise(edges)]
    assert torch.equal(torch.cat([*out, pieces.finish()], 1), expected)
    if old != new:
        alone = Audio(wave[-1:], old).resample(new).samples
        assert torch.allclose(alone, expected[-1:], atol=1e-6)
    if block == 131072:
        given = Audio(wave, old).resample(new).samples
        assert torch.allclose(given, expected, atol=2e-6)
        assert torch.equal(Audio(wave, old).split()[-1].resample(new).samples[0], given[-1])
        numpy = NumpyResampler(old, new, channels)
        out = [numpy.step(wave[:, a:b].numpy()) for a, b in pairwise(edges)]
        assert np.array_equal(np.concatenate([*out, numpy.finish()], 1), given.numpy())


def test_samples_do_not_depend_on_the_number_of_threads():
    """OpenBLAS shares out a large product, which changes the last bits."""
    code = (
        "import numpy as np; from audiotok.audio.resample_numpy import NumpyResampler as R\n"
        "import zlib; x = np.random.default_rng(0).standard_normal((1, 200_000)).astype('f4')\n"
        "for old, new in ((48000, 16000), (44100, 16000), (16000, 24000)):\n"
        "    r = R(old, new); print(zlib.crc32(np.concatenate([r.step(x), r.finish()], 1)))\n"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "3")
    }
    assert len(made) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [(48000, 16000), (44100, 16000), (16000, 44100), (8000, 16000), (192000, 16000), (1, 3)],
)
def test_equals_torchaudio_on_the_whole_signal(old: int, new: int):
    wave = noise(30011, 2)
    expected = _torchaudio.load().functional.resample(
        wave.double(),
        old,
        new,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=ZERO_CROSSINGS,
        rolloff=ROLLOFF,
        beta=BETA,
    )
    ours = Audio(wave, old).resample(new).samples
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < 2e-6  # float32 against float64


def tone(rate: int, *frequencies: float) -> torch.Tensor:
    """A second of sines at full precision."""
    t = torch.arange(rate, dtype=torch.float64) / rate
    return torch.stack([torch.sin(2 * math.pi * f * t + f) for f in frequencies]).sum(0) * 0.2


@pytest.mark.parametrize(("old", "new"), [(48000, 16000), (44100, 16000), (16000, 24000)])
def test_a_band_limited_signal_matches_scipy(old: int, new: int):
    frequencies = (200, 1234.5, 3000, 6500)
    wave, exact = tone(old, *frequencies), tone(new, *frequencies)
    ours = Audio(wave[None].float(), old).resample(new).samples[0]
    inner = slice(new // 10, -new // 10)
    assert (ours - exact)[inner].abs().max() < 1e-5
    scipys = scipy.signal.resample_poly(wave.numpy(), new, old)
    assert (ours - torch.from_numpy(scipys))[inner].abs().max() < 2e-2  # a shorter filter


def test_what_cannot_be_kept_is_removed():
    wave = 5 * tone(48000, 9000)[None].float()  # above 16 kHz's Nyquist
    out = Audio(wave, 48000).resample(16000).samples[:, 1000:-1000]
    assert 20 * math.log10(out.abs().max()) < -90


def test_length_is_exact_where_float32_is_not():
    resampler = Resampler(48000, 44100)
    resampler._consumed = 10 * 3600 * 48000 + 1  # as if ten hours had gone by
    resampler._produced = 10 * 3600 * 44100 - 5
    assert resampler.finish().shape == (1, 6)


def test_a_small_block_delays_a_live_stream_less():
    live = Resampler(48000, 16000, block=480)
    ready = sum(live.step(noise(480)).shape[1] for _ in range(20))
    assert ready > 20 * 160 - 480


def test_bad_use():
    with pytest.raises(ValueError, match="share no useful factor"):
        Resampler(22254, 16000)
    with pytest.raises(ValueError, match="cannot resample"):
        Resampler(0, 16000)
    resampler = Resampler(48000, 16000)
    with pytest.raises(ValueError, match="2 channels came, 1 were expected"):
        resampler.step(noise(10, 2))
    resampler.finish()
    with pytest.raises(ValueError, match="finished"):
        resampler.step(noise(10))
