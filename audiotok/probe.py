"""A linear probe: how much of a label, such as the phone spoken, can be read off features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Probed:
    """What a probe found in groups that it was not trained on."""

    accuracy: float  # share of frames whose label it finds
    low: float  # 95 % interval of `accuracy`, by a bootstrap over the held-out groups
    high: float
    chance: float  # accuracy of always saying the label that is most frequent in training
    trained: int  # frames
    tested: int
    groups: int  # held out


def probe(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    groups: Int[Tensor, " n"],
    *,
    held: float = 0.25,
    decay: float = 1e-4,
    rounds: int = 100,
    draws: int = 1000,
    seed: int = 0,
) -> Probed:
    """Multinomial logistic regression on standardised features, tested on other groups.

    Frames of one speaker resemble each other, so both the split and the interval are by group.

    Args:
        features: one row a frame.
        labels: 0, 1, ...
        groups: who speaks, or another unit that training and test must not share; any integers.
        held: share of groups to test on; at least one is, and one is not.
        decay: of squared weights.
        rounds: of L-BFGS at most.
        draws: of the bootstrap.
        seed: of split and bootstrap.

    Raises:
        ValueError: fewer than two groups.
    """
    names, group = groups.unique(return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"a probe trains and tests on different groups; here is {len(names)}")
    random = torch.Generator().manual_seed(seed)
    n = min(len(names) - 1, max(1, round(held * len(names))))
    place = torch.randperm(len(names), generator=random)[group]  # the first n are held out
    test = place < n
    mean, std = features[~test].mean(0), features[~test].std(0).clamp(min=1e-8)
    x, y = (features - mean) / std, labels
    model = nn.Linear(x.shape[1], int(labels.max()) + 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=rounds, history_size=10, line_search_fn="strong_wolfe"
    )
    seen, wanted = x[~test], y[~test]

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(model(seen), wanted) + decay * model.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)  # pyright: ignore[reportArgumentType]  # it takes a Tensor, not a float
    with torch.no_grad():
        right = (model(x[test]).argmax(1) == y[test]).double()
    total = torch.zeros(n, dtype=torch.double).index_add_(0, place[test], torch.ones_like(right))
    hits = torch.zeros(n, dtype=torch.double).index_add_(0, place[test], right)
    drawn = torch.randint(n, (draws, n), generator=random)
    means = hits[drawn].sum(1) / total[drawn].sum(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    chance = (y[test] == y[~test].mode().values).double().mean().item()
    return Probed(
        right.mean().item(), low, high, chance, int((~test).sum()), int(test.sum()), groups=n
    )
