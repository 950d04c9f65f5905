"""EnCodec's loss balancer: a weight is a share of the gradient that reaches the output."""

from __future__ import annotations

import torch
from torch import Tensor


class Balancer:
    """Balancer that scales the gradient of each loss at the output to the loss's share.

    Défossez et al. 2022, arXiv:2210.13438, section 3.4, equation 4:

        g_i  gradient of loss i with respect to the output;  <|g_i|>  moving average of its norm
        gradient given back = sum over i of  norm * w_i / sum(w) * g_i / <|g_i|>

    So the weights need no tuning to the sizes of the losses, which may drift apart by orders of
    magnitude in training.

    Args:
        weights: name of a loss -> its share of the gradient.
        norm: norm of the whole gradient.
        decay: decay of the moving averages, per step.
    """

    def __init__(
        self, weights: dict[str, float], *, norm: float = 1.0, decay: float = 0.999
    ) -> None:
        self.weights = weights
        self.norm = norm
        self.decay = decay
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    def gradient(self, losses: dict[str, Tensor], output: Tensor) -> Tensor:
        """Return the balanced gradient at `output`; go on with `output.backward(gradient)`.

        Args:
            losses: scalars that depend on `output`, by name.
            output: tensor of any shape, in the graph of every loss.
        """
        whole = sum(self.weights[name] for name in losses)
        total = torch.zeros_like(output)
        for name, loss in losses.items():
            (slope,) = torch.autograd.grad(loss, output, retain_graph=True)
            # The norm of one recording's gradient, a mean over the batch.
            size = slope.flatten(1).norm(dim=1).mean().item()
            self.sums[name] = self.decay * self.sums.get(name, 0.0) + size
            self.counts[name] = self.decay * self.counts.get(name, 0.0) + 1
            mean = self.sums[name] / self.counts[name]
            if mean > 0:
                total += self.norm * self.weights[name] / whole / mean * slope
        return total

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Return the moving averages."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, dict[str, float]]) -> None:
        """Set the moving averages to those of an earlier run."""
        self.sums = dict(state["sums"])
        self.counts = dict(state["counts"])
