"""Losses in closed form, and beside the published programs' own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import peers
import pytest
import torch
from torch import Tensor

from audiotok._platform.shapes import Scalar
from audiotok.nn import spectrogram as spectra
from audiotok.training import losses
from audiotok.training.discriminators.base import DiscriminatorOutput
from audiotok.training.losses import RECONSTRUCTION

RATE = 16000
CPU = torch.device("cpu")


def noise(seed: int = 0, samples: int = 8000) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(2, 1, samples, generator=random)


def clips() -> tuple[Tensor, Tensor]:
    """Noise, and other noise that begins and ends in silence."""
    one, other = noise(), noise(1)
    other[0, :, :3000] = one[1, :, 5000:] = 0
    return one, other


# -- spectra ------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [512, 1000, 2000])
@pytest.mark.parametrize(
    ("size", "hop"), [(512, 128), (512, 256), (512, 120), (500, 125), (512, 512)]
)
def test_bins_and_their_slope_are_torchs(samples: int, size: int, hop: int):
    x = torch.randn(2, samples, requires_grad=True)
    window = torch.rand(size)
    made = spectra.stft(x, window, hop)
    want = torch.stft(x, size, hop, window=window, center=False, return_complex=True).mT
    torch.testing.assert_close(made, want)
    weights = torch.randn(want.shape, dtype=want.dtype)
    slopes = [
        torch.autograd.grad((torch.view_as_real(bins * weights)).square().sum(), x)[0]
        for bins in (made, want)
    ]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4 * slopes[1].abs().max().item())


def test_energy_and_its_slope_are_torchs():
    x = torch.randn(2, 5, 7, dtype=torch.complex64, requires_grad=True)
    weights = torch.randn(2, 5, 7)
    slopes = [
        torch.autograd.grad((e * weights).sum(), x)[0]
        for e in (spectra.energy(x), x.real.square() + x.imag.square())
    ]
    torch.testing.assert_close(*slopes)
    zero = torch.zeros(1, 1, 3, dtype=torch.complex64, requires_grad=True)
    assert not torch.autograd.grad(spectra.magnitude(zero).sum(), zero)[0].any()
    assert spectra.magnitude(zero).tolist() == [[[pytest.approx(1e-6)] * 3]]


def test_a_window_may_be_shorter_than_its_transform():
    window = spectra.hann(6, CPU, fft=9, gain=2.0)
    assert window.tolist() == pytest.approx([0, *(2 * torch.hann_window(6)).tolist(), 0, 0])


@pytest.mark.parametrize(("size", "bands"), losses.MEL_SCALES)
def test_no_mel_band_is_empty(size: int, bands: int):
    """Each is a mean of bins, so that no scale outweighs the others by the size of its window."""
    bank = spectra.mel_bank(RATE, size, bands, CPU) * RATE / size
    assert bank.shape == (size // 2 + 1, bands)
    assert ((bank.sum(0) - 1).abs() < 0.05).all()


def test_what_is_too_short_says_so():
    with pytest.raises(ValueError, match=r"^100 samples are fewer than the 512 of one window$"):
        spectra.stft(torch.zeros(1, 100), torch.ones(512), 128)
    with pytest.raises(ValueError, match=r"^100 samples cannot be mirrored by 512: use longer"):
        losses.mel_vocos(torch.zeros(1, 1, 100), torch.zeros(1, 1, 100), rate=RATE)


# -- reconstruction -----------------------------------------------------------------------------


def test_reconstruction_losses_go_by_their_names_and_take_the_same():
    assert len(RECONSTRUCTION) == 9
    for name, loss in RECONSTRUCTION.items():
        assert getattr(losses, name) is loss
        output, reference, rate = inspect.signature(loss).parameters.values()
        assert (output.name, reference.name, rate.name) == ("output", "reference", "rate")
        assert rate.kind is rate.KEYWORD_ONLY


@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_nothing_to_lose_where_nothing_differs(name: str):
    wave = noise()
    # sqrt(1e-8) under a root; 1e-8 beside the energies of a quotient
    floor = {"complex_spectrum": 1e-4, "phase": 1e-5}.get(name, 0.0)
    assert RECONSTRUCTION[name](wave, wave, rate=RATE).item() <= floor + 1e-6
    assert RECONSTRUCTION[name](noise(1), wave, rate=RATE).item() > 0.05


@pytest.mark.parametrize("gain", [0.1, 0.5, 4.0])
def test_a_gain_costs_what_the_formulas_say(gain: float):
    wave = noise()
    steps = abs(math.log(gain))
    compressed = abs(gain**0.3 - 1) * compressed_level(wave)
    costs = {
        "waveform": abs(gain - 1) * wave.abs().mean().item(),
        # Log magnitudes move by the log of the gain, at every scale.
        "mel": 5 * steps / math.log(10),
        "mel_dac": 7 * steps / math.log(10),
        "mel_vocos": steps,
        "stft": abs(gain - 1) + steps,
        # |X|^0.3 moves by gain^0.3, its magnitude and its complex value alike.
        "spectrum": compressed,
        "complex_spectrum": compressed,
        "phase": 0.0,
    }
    # Its empty bands, 2 of 80 at 256 samples and 13 at 128, stay where they are.
    costs["mel_speechtokenizer"] = steps * (1 + (1 + 78 / 80 + 67 / 80) / 45)
    assert costs.keys() == RECONSTRUCTION.keys()
    for name, cost in costs.items():
        made = RECONSTRUCTION[name](gain * wave, wave, rate=RATE).item()
        assert math.isclose(made, cost, rel_tol=2e-3, abs_tol=5e-4), name


def compressed_level(wave: Tensor) -> float:
    """Mean of |X|^0.3 over all bins and windows, written with torch's own STFT."""
    levels = []
    for size in (1024, 512, 256):
        spectrum = torch.stft(
            wave[:, 0],
            size,
            size // 2,
            window=torch.hann_window(size),
            pad_mode="constant",
            return_complex=True,
        )
        levels.append((spectrum.abs() / (3 * size / 8) ** 0.5).pow(0.3).mean().item())
    return sum(levels) / 3


PHASE = {"waveform", "complex_spectrum", "phase"}


def test_a_turned_sign_costs_where_phase_counts_and_nowhere_else():
    """It leaves magnitudes; each complex value is twice its length away."""
    wave = noise()
    for name in set(RECONSTRUCTION) - PHASE:
        assert RECONSTRUCTION[name](-wave, wave, rate=RATE).item() < 1e-5
    made = losses.complex_spectrum(-wave, wave, rate=RATE).item()
    assert math.isclose(made, 2 * compressed_level(wave), rel_tol=1e-3)
    assert math.isclose(losses.phase(-wave, wave, rate=RATE).item(), 2, rel_tol=1e-4)


@pytest.mark.parametrize(("turn", "cost"), [(0.25, 1 - 0.5**0.5), (0.5, 1.0), (1.5, 1.0)])
def test_phase_costs_the_cosine_of_its_turn(turn: float, cost: float):
    """A tone, `turn` times pi ahead; of the bins past its main lobe little weighs."""
    time = torch.arange(16000) / RATE
    tones = [torch.sin(2 * math.pi * 250 * time + angle) for angle in (turn * math.pi, 0.0)]
    made = losses.phase(tones[0][None, None], tones[1][None, None], rate=RATE).item()
    assert math.isclose(made, cost, abs_tol=0.05)


def test_phase_asks_nothing_above_500_hz_nor_of_loudness():
    wave, time = noise(), torch.arange(16000) / RATE
    fade = torch.hann_window(16000)  # an edge would be heard at all frequencies
    low = (fade * torch.sin(2 * math.pi * 250 * time))[None, None]
    high = (fade * torch.sin(2 * math.pi * 1000 * time))[None, None]
    assert losses.phase(low - high, low + high, rate=RATE).item() < 0.01
    made = noise(1).requires_grad_()
    (slope,) = torch.autograd.grad(losses.phase(made, wave, rate=RATE), made)
    along = (slope * made.detach()).sum() / (slope.norm() * made.detach().norm())
    assert abs(along.item()) < 1e-4  # it turns, and neither shrinks nor grows


def test_chance_costs_phase_one():
    cost = losses.phase(torch.randn(8, 1, 16000), torch.randn(8, 1, 16000), rate=RATE)
    assert math.isclose(cost.item(), 1.0, abs_tol=0.05)


@pytest.mark.parametrize("name", RECONSTRUCTION)
@pytest.mark.parametrize("reference", ["silence", "noise"])
def test_the_gradient_is_finite_at_silence_and_points_down(name: str, reference: str):
    loss = RECONSTRUCTION[name]
    wave = torch.zeros(2, 1, 8000) if reference == "silence" else noise()
    silent = torch.zeros(2, 1, 8000, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(silent, wave, rate=RATE), silent)
    assert slope.isfinite().all()
    made = noise(1).requires_grad_()
    before = loss(made, wave, rate=RATE)
    (slope,) = torch.autograd.grad(before, made)
    assert slope.isfinite().all()
    if name == "phase" and reference == "silence":  # which has none to ask for
        assert not slope.any()
        return
    step = 1e-3 * slope / slope.norm()
    assert loss(made - step, wave, rate=RATE) < before


@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_the_gradient_is_the_slope(name: str):
    """Along its own direction the loss falls as fast as the gradient is long."""
    loss, wave = RECONSTRUCTION[name], noise()
    made = noise(1).requires_grad_()
    (slope,) = torch.autograd.grad(loss(made, wave, rate=RATE), made)
    along = slope / slope.norm()
    step = 3e-5 if name == "stft" else 1e-3  # logarithms of almost empty bins bend it
    with torch.no_grad():
        ahead, behind = (loss(made + s * along, wave, rate=RATE) for s in (step, -step))
    assert math.isclose((ahead - behind).item() / (2 * step), slope.norm().item(), rel_tol=0.03)


@torch.no_grad()
@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_half_precision_and_stereo_change_little(name: str):
    loss, one, other = RECONSTRUCTION[name], noise(), noise(1)
    want = loss(one, other, rate=RATE).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert math.isclose(loss(one, other, rate=RATE).item(), want, rel_tol=1e-5)
    pair = [x.transpose(0, 1) for x in (one, other)]  # channels are averaged like recordings
    assert math.isclose(loss(*pair, rate=RATE).item(), want, rel_tol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("rate", [16000, 24000])
def test_multi_resolution_stft_is_parallel_wavegans(rate: int):
    """Its equations 3 to 6, with torch's own STFT; at 24 kHz its own sizes."""
    sizes = {
        24000: [(1024, 600, 120), (2048, 1200, 240), (512, 240, 50)],
        16000: [(1024, 400, 80), (2048, 800, 160), (512, 160, 33)],
    }
    one, other = clips()
    total = 0.0
    for size, width, hop in sizes[rate]:
        made, wanted = (
            torch.stft(x[:, 0], size, hop, width, torch.hann_window(width), return_complex=True)
            .abs()
            .clamp(min=1e-7**0.5)
            for x in (one, other)
        )
        convergence = (made - wanted).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))
        total += (convergence.mean() + (made / wanted).log().abs().mean()).item() / 3
    assert math.isclose(losses.stft(one, other, rate=rate).item(), total, rel_tol=1e-4)


@torch.no_grad()
def test_mel_speechtokenizer_is_its_packages():
    one, other = clips()
    with peers.modules("speechtokenizer", "speechtokenizer.trainer"):
        theirs = import_module("speechtokenizer.trainer.loss").mel_loss
        total = 0.0
        for size, hop, weight in ((1024, 240, 45), (512, 120, 1), (256, 60, 1), (128, 30, 1)):
            sizes = {"n_fft": size, "hop_size": hop, "win_size": size}
            more = {"num_mels": 80, "sample_rate": RATE, "fmin": 0.0, "fmax": None}
            total += weight * theirs(one, other, **sizes, **more).item()
    ours = losses.mel_speechtokenizer(one, other, rate=RATE).item()
    assert math.isclose(45 * ours, total, rel_tol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("rate", [16000, 44100])
def test_mel_dac_is_its_packages(rate: int):
    one, other = clips()
    with peers.modules("audiotools", "dac", "dac.nn"):
        signal = peers.audiotools().AudioSignal
        kind = import_module("dac.nn.loss").MelSpectrogramLoss
        theirs = kind(  # conf/base.yml
            n_mels=[5, 10, 20, 40, 80, 160, 320],
            window_lengths=[32, 64, 128, 256, 512, 1024, 2048],
            mel_fmin=[0] * 7,
            mel_fmax=[None] * 7,
            pow=1.0,
            clamp_eps=1e-5,
            mag_weight=0.0,
        )
        total = theirs(signal(one, rate), signal(other, rate)).item()
    assert math.isclose(losses.mel_dac(one, other, rate=rate).item(), total, rel_tol=1e-4)


@torch.no_grad()
def test_mel_vocos_is_its_packages():
    one, other = clips()
    with peers.modules("vocos"):
        theirs = import_module("vocos.loss").MelSpecReconstructionLoss(sample_rate=24000)
        total = theirs(one, other).item()
    assert math.isclose(losses.mel_vocos(one, other, rate=24000).item(), total, rel_tol=1e-4)


# -- adversarial --------------------------------------------------------------------------------


def opinions(*scores: float, shift: float = 0.0) -> list[DiscriminatorOutput]:
    """One for each score, with three features."""
    return [
        DiscriminatorOutput(
            torch.full((2, 4), s), [torch.full((2, 3), i + s + shift) for i in range(3)]
        )
        for s in scores
    ]


def test_adversarial_losses_in_closed_form():
    output, reference = opinions(-0.5, 2.0), opinions(0.5, 3.0)
    lsgan, hinge = {"gan": "lsgan"}, {"gan": "hinge"}
    cases: list[tuple[Callable[..., Scalar], Any, dict[str, Any], float]] = [
        (losses.generator, (output,), lsgan, 1.5**2 + 1.0),
        (losses.generator, (output,), hinge, 1.5 + 0.0),
        (losses.discriminator, (output, reference), lsgan, 0.25 + 4.0 + 0.25 + 4.0),
        (losses.discriminator, (output, reference), hinge, 0.5 + 3.0 + 0.5 + 0.0),
    ]
    for loss, given, options, total in cases:
        assert loss(*given, **options, reduce="sum").item() == pytest.approx(total)
        assert loss(*given, **options).item() == pytest.approx(total / 2)
    with pytest.raises(ValueError, match=r"^gan 'wgan' is none of lsgan, hinge$"):
        losses._distance(torch.zeros(1), 1, "wgan")


def test_feature_matching_in_closed_form():
    output, reference = opinions(1.0, 3.0), opinions(2.0, 3.5)
    apart = 3 * 1.0 + 3 * 0.5
    assert losses.feature_matching(output, reference).item() == pytest.approx(apart / 6)
    total = losses.feature_matching(output, reference, reduce="sum").item()
    assert total == pytest.approx(apart)
    both = losses.feature_matching(output, reference, scores=True, reduce="sum").item()
    assert both == pytest.approx(apart + 1.5)
    share = losses.feature_matching(output, reference, relative=True).item()
    assert share == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 0.5 / 3.5 + 0.5 / 4.5 + 0.5 / 5.5) / 6)


def test_adversarial_losses_are_the_published_ones():
    torch.manual_seed(0)
    drawn = [[torch.randn(2, 5) for _ in range(8)] for _ in range(2)]
    output, reference = (
        [DiscriminatorOutput(x[0], x[1:4]), DiscriminatorOutput(x[4], x[5:8])] for x in drawn
    )
    scores, layers = (
        [[o.score for o in side] for side in (output, reference)],
        [[[*o.features, o.score] for o in side] for side in (output, reference)],
    )
    with peers.modules("speechtokenizer", "speechtokenizer.trainer"):
        module = import_module("speechtokenizer.trainer.loss")
        lsgan = [module.adversarial_loss(scores[0]), module.discriminator_loss(*scores[::-1])]
        features = module.feature_loss(*layers[::-1])
    with peers.modules("vocos"):
        module = import_module("vocos.loss")
        hinge = [module.GeneratorLoss()(scores[0])[0], module.DiscriminatorLoss()(*scores[::-1])[0]]
        matching = module.FeatureMatchingLoss()(*layers)
    published: dict[losses.Gan, list[Tensor]] = {"lsgan": lsgan, "hinge": hinge}
    for gan, wanted in published.items():
        made = [
            losses.generator(output, gan=gan, reduce="sum"),
            losses.discriminator(output, reference, gan=gan, reduce="sum"),
        ]
        torch.testing.assert_close(torch.stack(made), torch.stack([x.squeeze() for x in wanted]))
    ours = losses.feature_matching(output, reference, scores=True, reduce="sum")
    torch.testing.assert_close(2 * ours, features)
    torch.testing.assert_close(ours, matching.squeeze())


def test_a_references_features_are_a_target_and_not_to_be_moved():
    made, wanted = (torch.rand(2, 3, requires_grad=True) for _ in range(2))
    one, other = ([DiscriminatorOutput(x.sum(1), [2 * x])] for x in (made, wanted))
    loss = losses.feature_matching(one, other, scores=True, relative=True)
    slopes = torch.autograd.grad(loss, [made, wanted], allow_unused=True)
    assert slopes[0].any()
    assert slopes[1] is None
