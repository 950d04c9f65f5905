"""Change of the frame rate by a ratio of whole numbers, linear between neighbouring frames."""

from __future__ import annotations

import torch
from torch import Tensor

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Stretch(Layer):
    """Layer from frames `[b d f]` to `ceil(f * produces / consumes)` frames, each at its middle.

    Frame j lies between two of the input, where its own middle is; beyond the ends the first and
    the last are repeated. It works on groups of `consumes` frames, and lags by one frame.

    Args:
        consumes: frames of the input ...
        produces: ... that are as long as so many of the output.
    """

    causal = False

    def __init__(self, consumes: int, produces: int) -> None:
        super().__init__()
        self.consumes = consumes
        self.produces = produces
        # Positions in the group, of which frame 0 is the last one before it.
        positions = [1 + (2 * j + 1) * consumes / (2 * produces) - 0.5 for j in range(produces)]
        self._lower = [int(at) for at in positions]
        self._share = [at - int(at) for at in positions]

    def start(self, batch: int) -> State:
        """See `Layer.start`; the frames that are not used up, and whether there were any."""
        begun = torch.zeros(batch, dtype=torch.bool)
        return None, begun

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; whole groups whose next frame is known."""
        frames, begun = self._joined(x, state)
        groups = max(0, (frames.shape[2] - 2) // self.consumes)
        used = groups * self.consumes
        return self._between(frames, groups), (frames[:, :, used:], begun)

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; the last frame is repeated."""
        frames, _ = self._joined(x, state)
        count = frames.shape[2] - 1
        if count < 1:
            return x[:, :, :0]
        groups = -(-count // self.consumes)
        missing = groups * self.consumes + 2 - frames.shape[2]
        last = frames[:, :, -1:].expand(-1, -1, missing)
        output = self._between(torch.cat([frames, last], 2), groups)
        return output[:, :, : -(-count * self.produces // self.consumes)]

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self.finish(x, self.start(len(x)))

    def _joined(self, x: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Return all frames at hand, the one before the group first."""
        before, begun = state
        if before is None:
            before = x[:, :, :0]
        frames = torch.cat([before, x], 2)
        if frames.shape[2] and not bool(begun.any()):
            frames, begun = torch.cat([frames[:, :, :1], frames], 2), torch.ones_like(begun)
        return frames, begun

    def _between(self, frames: Tensor, groups: int) -> Output:
        b, d, _ = frames.shape
        if not groups:
            return frames[:, :, :0]
        windows = frames.unfold(2, self.consumes + 2, self.consumes)[:, :, :groups]
        share = frames.new_tensor(self._share)
        lower = windows[..., self._lower]
        upper = windows[..., [at + 1 for at in self._lower]]
        return (lower * (1 - share) + upper * share).reshape(b, d, groups * self.produces)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the frames on either side of each output."""
        (group, own), (other, end) = (divmod(j, self.produces) for j in (first, last))
        lo = group * self.consumes + self._lower[own] - 1
        return max(0, lo), other * self.consumes + self._lower[end]
