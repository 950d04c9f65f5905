"""Linear probe: how well a label, such as the spoken phone, can be predicted from features."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError


@dataclass(frozen=True)
class ProbeResult:
    """Result of a probe on groups that it was not trained on."""

    accuracy: float  # share of test frames that are classified correctly
    low: float  # 95 % interval of `accuracy`, by a bootstrap over the held-out groups
    high: float
    chance: float  # accuracy of always predicting the most frequent label of training
    trained: int  # training frames
    tested: int  # test frames
    groups: int  # held-out groups


def probe(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    groups: Int[Tensor, " n"],
    *,
    held_out: float = 0.25,
    decay: float = 1e-4,
    rounds: int = 100,
    draws: int = 1000,
    seed: int = 0,
) -> ProbeResult:
    """Train multinomial logistic regression on standardised features and test it on other groups.

    Frames of one speaker resemble each other, so both the split and the interval are by group.

    Args:
        features: one row a frame `[n d]`.
        labels: labels 0, 1, ... `[n]`.
        groups: speakers, or another unit that training and test must not share; any integers `[n]`.
        held_out: share of groups to test on; at least one is tested, and at least one is not.
        decay: weight decay, the factor of squared weights in the loss.
        rounds: largest number of L-BFGS iterations.
        draws: draws of the bootstrap.
        seed: random seed of split and bootstrap.

    Raises:
        ValueError: there are fewer than two groups.
    """
    names, group = groups.unique(return_inverse=True)
    if len(names) < 2:
        raise InputError(f"a probe trains and tests on different groups; here is {len(names)}")
    random = torch.Generator().manual_seed(seed)
    n = min(len(names) - 1, max(1, round(held_out * len(names))))
    position = torch.randperm(len(names), generator=random)[group]  # the first n are held out
    test = position < n
    seen = F.one_hot(labels[~test], int(labels.max()) + 1).float()
    model = _fit(features[~test], seen, decay=decay, rounds=rounds)
    right = (model(features[test]).argmax(1) == labels[test]).double()
    total = torch.zeros(n, dtype=torch.double).index_add_(0, position[test], torch.ones_like(right))
    hits = torch.zeros(n, dtype=torch.double).index_add_(0, position[test], right)
    drawn = torch.randint(n, (draws, n), generator=random)
    means = hits[drawn].sum(1) / total[drawn].sum(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    chance = (labels[test] == labels[~test].mode().values).double().mean().item()
    return ProbeResult(
        right.mean().item(), low, high, chance, int((~test).sum()), int(test.sum()), groups=n
    )


@dataclass(frozen=True)
class CrossValidation:
    """Result of cross-validated probes: each group is tested by a probe trained on other groups.

    Values are sums over a group's frames, in the order of the sorted groups, so that two systems
    can be compared group by group (`statistics.paired`).
    """

    right: Float[Tensor, " g"]  # frames that are classified correctly
    bits: Float[Tensor, " g"]  # log2 likelihood ratio of the label with and without features
    frames: Float[Tensor, " g"]


def cross_validate(
    features: Float[Tensor, "k d"],
    labels: Int[Tensor, " n"],
    groups: Int[Tensor, " n"],
    *,
    index: Int[Tensor, " n"] | None = None,
    folds: int = 4,
    decay: float = 1e-4,
    rounds: int = 100,
    seed: int = 0,
) -> CrossValidation:
    """Cross-validate `probe`: every group is tested once.

    The mean of `bits` is a lower bound, but for chance, of the information that features have on
    labels, and is below zero for a probe that learnt relations which do not hold in other groups
    (Pimentel et al. 2020, arXiv:2004.03061).

    Args:
        features: distinct rows, or one row a frame `[k d]`.
        labels: labels 0, 1, ... `[n]`.
        groups: speakers, or another unit that training and test must not share `[n]`.
        index: row of `features` of each frame `[n]`; None: its own. Features with few distinct
            rows, such as codes, are probed at the cost of the distinct rows: the same loss, summed
            by row.
        folds: number of parts that the groups are split into.
        decay: weight decay, as in `probe`.
        rounds: largest number of L-BFGS iterations.
        seed: random seed of the split.

    Raises:
        ValueError: there are fewer than two folds, or fewer groups than folds.
    """
    names, group = groups.unique(return_inverse=True)
    if not 2 <= folds <= len(names):
        raise InputError(f"{len(names)} groups cannot be dealt into {folds} folds, two or more")
    random = torch.Generator().manual_seed(seed)
    fold = (torch.randperm(len(names), generator=random) % folds)[group]
    classes = int(labels.max()) + 1
    right, bits = torch.zeros(len(labels)).double(), torch.zeros(len(labels)).double()
    index = torch.arange(len(labels)) if index is None else index
    for i in range(folds):
        test = fold == i
        seen = torch.zeros(len(features), classes)
        seen.index_put_((index[~test], labels[~test]), torch.ones(1), accumulate=True)
        model = _fit(features, seen, decay=decay, rounds=rounds)
        chances = model(features).double().log_softmax(1)[index[test]]
        right[test] = (chances.argmax(1) == labels[test]).double()
        # Add-one smoothing gives labels that are not in training a probability.
        often = 1 + seen.sum(0).double()
        known = chances.gather(1, labels[test][:, None])[:, 0]
        bits[test] = (known - (often / often.sum()).log()[labels[test]]) / math.log(2)
    summed = [
        torch.zeros(len(names)).double().index_add_(0, group, of)
        for of in (right, bits, torch.ones_like(right))
    ]
    return CrossValidation(*summed)


def _fit(
    features: Float[Tensor, "k d"],
    seen: Float[Tensor, "k classes"],
    *,
    decay: float,
    rounds: int,
) -> Callable[[Tensor], Tensor]:
    """Train a linear model on rows and the counts of each label for each row.

    Returns:
        A function from features `[m d]` to logits `[m classes]`.
    """
    often, n = seen.sum(1, keepdim=True), seen.sum()
    mean = (often * features).sum(0) / n
    std = ((often * (features - mean).square()).sum(0) / (n - 1)).sqrt().clamp(min=1e-8)
    model = nn.Linear(features.shape[1], seen.shape[1])
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=rounds, history_size=10, line_search_fn="strong_wolfe"
    )
    seen_rows = often[:, 0] > 0
    x, y = (features[seen_rows] - mean) / std, seen[seen_rows]

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -(y * model(x).log_softmax(1)).sum() / n + decay * model.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)  # pyright: ignore[reportArgumentType]  # it takes a Tensor, not a float
    model.requires_grad_(False)
    return lambda more: model((more - mean) / std)
