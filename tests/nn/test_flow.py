"""Flow matching against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from contracts import assert_close
from torch import Tensor

from audiotok.nn.flow import Sampling, guided, integrate, noise_of, straight_path

RANDOM = torch.Generator().manual_seed(0)
NOISE, DATA = torch.randn(2, 3, 4, 5, generator=RANDOM)


def test_paths_begin_at_noise_and_end_at_data():
    for sigma in (0.0, 0.1):
        start, _ = straight_path(DATA, NOISE, torch.zeros(3), sigma=sigma)
        end, velocity = straight_path(DATA, NOISE, torch.ones(3), sigma=sigma)
        assert torch.equal(start, NOISE)
        assert_close(end, DATA + sigma * NOISE, 1e-6)
        assert_close(end - start, velocity, 1e-6)
    time = torch.tensor([0.1, 0.5, 0.9])
    later, velocity = straight_path(DATA, NOISE, time + 0.05, sigma=0.1)
    before, same = straight_path(DATA, NOISE, time - 0.05, sigma=0.1)
    assert torch.equal(velocity, same)
    assert_close((later - before) / 0.1, velocity, 1e-5)


@pytest.mark.parametrize("method", ["euler", "midpoint"])
def test_straight_paths_are_exact_in_one_step(method: str):
    def velocity(x: Tensor, time: float) -> Tensor:
        return (DATA - x) / (1 - time) if time < 1 else x

    for steps in (1, 2, 7):
        sampling = Sampling(steps=steps, method=method)
        assert_close(integrate(velocity, NOISE, sampling), DATA, 1e-5)


def turned(x: Tensor, time: float) -> Tensor:
    """Turn the first two features, faster and faster: by 1.5 in all."""
    a, b = x[:, 0], x[:, 1]
    return 3 * time * torch.stack([-b, a, torch.zeros_like(a), torch.zeros_like(a)], 1)


def wrong(steps: int, method: str) -> float:
    sampling = Sampling(steps=steps, method=method)
    got = integrate(turned, NOISE.double(), sampling)
    c, s = math.cos(1.5), math.sin(1.5)
    a, b = NOISE.double()[:, 0], NOISE.double()[:, 1]
    exact = torch.stack([c * a - s * b, s * a + c * b, *NOISE.double()[:, 2:].unbind(1)], 1)
    return float((got - exact).abs().max())


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2)])
def test_errors_fall_with_steps_by_the_order_of_the_method(method: str, order: int):
    errors = [wrong(steps, method) for steps in (8, 16, 32, 64)]
    for one, two in pairwise(errors):
        assert two < one
    assert errors[-2] / errors[-1] == pytest.approx(2**order, rel=0.15)
    assert wrong(16, "midpoint") < wrong(32, "euler"), "at as many evaluations"


def test_a_gaussian_becomes_another():
    """The best velocity between standard normal noise and data of another mean and deviation."""
    mean, deviation = 3.0, 0.5

    def velocity(x: Tensor, time: float) -> Tensor:
        variance = (1 - time) ** 2 + (time * deviation) ** 2
        return mean + (time * deviation**2 - (1 - time)) / variance * (x - time * mean)

    noise = torch.randn(1, 1, 20_000, generator=torch.Generator().manual_seed(1))
    made = integrate(velocity, noise, Sampling(steps=100))
    assert_close(made, mean + deviation * noise, 1e-3)


def test_guidance_of_one_is_none():
    asked: list[float] = []

    def without(x: Tensor, time: float) -> Tensor:
        asked.append(time)
        return -x

    plain = integrate(turned, NOISE, Sampling(steps=4))
    assert torch.equal(integrate(guided(turned, without, 1.0), NOISE, Sampling(steps=4)), plain)
    assert not asked
    x = guided(turned, without, 2.5)(NOISE, 0.3)
    assert_close(x, turned(NOISE, 0.3) + 1.5 * (turned(NOISE, 0.3) + NOISE), 1e-6)
    assert_close(guided(turned, without, 0.0)(NOISE, 0.3), -NOISE, 1e-6)


def test_noise_is_that_of_its_seed_and_of_a_prefix():
    one = noise_of(3, 8, 50, NOISE)
    assert torch.equal(one, noise_of(3, 8, 50, NOISE))
    assert torch.equal(one[:, :20], noise_of(3, 8, 20, NOISE))
    assert not torch.equal(one, noise_of(4, 8, 50, NOISE))
    assert abs(float(noise_of(0, 50, 2000, NOISE).std()) - 1) < 0.02
    assert noise_of(0, 4, 0, NOISE).shape == (4, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "^0 steps"),
        ({"method": "heun"}, "euler, midpoint"),
        ({"guidance": -1.0}, "^guidance -1"),
        ({"guidance": math.nan}, "^guidance nan"),
        ({"seed": -1}, "^seed must be at least 0"),
    ],
)
def test_samplings_that_there_are_not_are_refused(wrong: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Sampling(**wrong)  # pyright: ignore[reportArgumentType]
