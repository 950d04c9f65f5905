"""Layers with memory in operations that ONNX has: its LSTM, and attention without positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.attention import Attention
from audiotok.nn.layers.base import State
from audiotok.nn.layers.lstm import Lstm


class WindowedAttention(Attention):
    """An `Attention` that rotates queries and keys by their distance from the start of the window.

    So no position grows for hours, which would need more digits than a float32 has.
    """

    def start(self, batch: int) -> State:
        """Return keys (not rotated) and values of the last window, and which of them are real."""
        past, real, _ = super().start(batch)
        return past, real

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Attention.step`."""
        past, real = state
        frames = x.transpose(1, 2)
        b, t, _ = frames.shape
        keep = self.window - 1
        queries, keys = self.split
        q, kv = self.qkv(self.norm(frames)).split([queries, 2 * keys], 2)
        kv = torch.cat([past, kv], 1)
        real = torch.cat([real, real.new_ones(b, t)], 1)
        at = torch.arange(kv.shape[1], device=x.device)
        q = self._rotated(self._heads(q), at[keep:])
        k, v = (self._shared(part) for part in kv.split(keys, 2))
        distance = at[keep:, None] - at
        seen = (distance >= 0) & (distance < self.window) & real[:, None, None, :]
        y = F.scaled_dot_product_attention(q, self._rotated(k, at), v, attn_mask=seen)
        y = self.out(y.transpose(1, 2).flatten(2)) * self.scale
        return x + y.transpose(1, 2), (kv[:, t:], real[:, t:])

    def _rotated(self, x: Tensor, at: Tensor) -> Tensor:
        """Return queries or keys rotated by their positions."""
        turn = at[:, None] * self.angles
        cos, sin = turn.cos(), turn.sin()
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Rings(tuple[State, ...]):
    """Ring buffers `[b h slots d]` of states that a step only reads.

    A step returns its new columns `[b h n d]`, and the caller writes them into the slots from
    (columns so far) mod slots on. So nothing of a long memory is copied.
    """


class RingAttention(Attention):
    """An `Attention` whose keys and values are in ring buffers, which a step reads in place."""

    def start(self, batch: int) -> State:
        """Return rotated keys and values of the last window, and the next position."""
        slots = self.window - 1
        rings = Rings(self.zeros(batch, self.heads, slots, self.width) for _ in range(2))
        return rings, torch.zeros(batch, dtype=torch.int64, device=self.scale.device)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Attention.step`; it returns only the new keys and values."""
        (old_keys, old_values), at = state
        frames = x.transpose(1, 2)
        t = frames.shape[1]
        queries, keys = self.split
        q, *kv = self.qkv(self.norm(frames)).split([queries, keys, keys], 2)
        q, (k, v) = self._heads(q), (self._shared(part) for part in kv)
        new, slots = torch.arange(t, device=x.device), self.window - 1
        turn = (at[:, None] + new)[:, :, None].double() * self.angles.double()
        turn = turn - 2 * math.pi * (turn / (2 * math.pi)).floor()  # so that float32 suffices
        cos, sin = (part[:, None] for part in (turn.float().cos(), turn.float().sin()))
        q, k = (
            torch.cat([a * cos - b * sin, a * sin + b * cos], 3)
            for a, b in (part.chunk(2, 3) for part in (q * q.shape[3] ** -0.5, k))
        )
        # Age of each slot, in frames before the last one.
        back = (at[:, None] - 1 - torch.arange(slots, device=x.device)) % slots
        old = back[:, None] + 1 + new[:, None] < self.window
        old = (old & (back < at[:, None])[:, None])[:, None]
        distance = new[:, None] - new
        near = (distance >= 0) & (distance < self.window)
        least = torch.finfo(x.dtype).min
        scores = [
            torch.where(seen, q @ some.transpose(2, 3), least)
            for seen, some in ((old, old_keys), (near, k))
        ]
        weights = torch.cat(scores, 3).softmax(3)
        y = weights[:, :, :, :slots] @ old_values + weights[:, :, :, slots:] @ v
        y = self.out(y.transpose(1, 2).flatten(2)) * self.scale
        return x + y.transpose(1, 2), ((k, v), at + t)


class OnnxLstm(Lstm):
    """An `Lstm` as ONNX's operator, one layer at a time.

    Gates are in ONNX's order: input, output, forget, cell.
    """

    def prepare(self) -> None:
        """Register the weights in ONNX's form: for each layer those of its directions, stacked."""
        ways = ("", "_reverse") if self.lstm.bidirectional else ("",)
        for i in range(self.lstm.num_layers):
            kinds: dict[str, list[Tensor]] = {"ih": [], "hh": [], "b": []}
            for way in ways:
                part = {
                    kind: _gates(getattr(self.lstm, f"{kind}_l{i}{way}"))
                    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
                kinds["ih"].append(part["weight_ih"])
                kinds["hh"].append(part["weight_hh"])
                kinds["b"].append(torch.cat([part["bias_ih"], part["bias_hh"]]))
            for kind, parts in kinds.items():
                self.register_buffer(f"lstm_{kind}_{i}", torch.stack(parts), persistent=False)

    def _run(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run `x [b d t]` from states `[b depth*ways d]` to `[b ways*d t]` and the new states."""
        if not torch.compiler.is_exporting():  # the symbolic operator computes nothing
            starts = [s.transpose(0, 1).contiguous() for s in (hidden, cell)]
            y, ends = self.lstm(x.transpose(1, 2), tuple(starts))
            return y.transpose(1, 2), ends[0].transpose(0, 1), ends[1].transpose(0, 1)
        ways, size = 1 + self.lstm.bidirectional, self.lstm.hidden_size
        y, batch, steps = x.permute(2, 0, 1), x.shape[0], x.shape[2]
        after: list[tuple[Tensor, Tensor]] = []
        for i in range(self.lstm.num_layers):
            weights = [getattr(self, f"lstm_{kind}_{i}") for kind in ("ih", "hh", "b")]
            mine = slice(ways * i, ways * (i + 1))
            starts = [s[:, mine].transpose(0, 1) for s in (hidden, cell)]
            y, h, c = torch.onnx.ops.symbolic_multi_out(
                "LSTM",
                (y, *weights, None, *starts),
                {
                    "hidden_size": size,
                    "direction": "bidirectional" if self.lstm.bidirectional else "forward",
                },
                dtypes=(torch.float32,) * 3,
                shapes=((steps, ways, batch, size), (ways, batch, size), (ways, batch, size)),
            )
            y = y.transpose(1, 2).flatten(2)
            after.append((h.transpose(0, 1), c.transpose(0, 1)))
        hidden, cell = (torch.cat(parts, 1) for parts in zip(*after, strict=True))
        return y.permute(1, 2, 0), hidden, cell

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Lstm.step`."""
        if not self.causal:
            return super().step(x, state)
        y, hidden, cell = self._run(x, *state)
        return self._added(x, y.transpose(1, 2)), (hidden, cell)

    def forward(self, x: Features) -> Output:
        """See `Lstm.forward`."""
        if self.causal:
            return super().forward(x)
        depth = 2 * self.lstm.num_layers
        none = x.new_zeros(x.shape[0], depth, self.lstm.hidden_size)
        return self._added(x, self._run(x, none, none)[0].transpose(1, 2))


def _gates(x: Tensor) -> Tensor:
    """Return weights with torch's order of gates (input, forget, cell, output) in ONNX's order."""
    i, f, c, o = x.detach().chunk(4)
    return torch.cat([i, o, f, c])
