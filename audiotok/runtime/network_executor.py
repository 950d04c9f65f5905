"""Executor in torch: the steps of a network, its states, and tensors as its arrays."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiotok._platform.shapes import Frames, State, Wave
from audiotok.nn.autoencoder import Network
from audiotok.runtime import states
from audiotok.runtime.base import Plan, Way
from audiotok.runtime.states import Row


def full_precision(device: torch.device) -> torch.autocast:
    """Disable a caller's autocast on a device, so that codes and samples are those of float32."""
    return torch.autocast(device.type, enabled=False)


class NetworkExecutor:
    """Executor of a network in torch; see `Executor` for its methods.

    Args:
        network: network in eval mode.
        device: device of its weights.
    """

    def __init__(self, network: Network, device: torch.device) -> None:
        self.network = network
        self.kind = "torch" if network.precision == "float32" else f"torch, {network.precision}"
        self.device = device
        self.plan = Plan(
            frame_size=network.frame_size,
            channels=network.channels,
            codebooks=network.quantizer.rows,
            look_ahead=network.look_ahead,
            fills_up=network.fills_up,
            first_frames=network.first_frames,
            block=network.block,
            lags=not network.causal,
        )

    # -- steps ------------------------------------------------------------------------------------

    def start(self, way: Way, batch: int) -> State:
        """See `Executor.start`."""
        network = self.network
        return network.start_latent(batch) if way == "encode" else network.start_wave(batch)

    @torch.no_grad()
    def encode(self, wave: Wave, state: State, codebooks: int) -> tuple[Frames, State]:
        """See `Executor.encode`."""
        with full_precision(self.device):
            latent, state = self.network.step_latent(wave, state)
            return self.network.quantizer.encode(latent, codebooks), state

    @torch.no_grad()
    def decode(self, codes: Frames, state: State, frames: int) -> tuple[Wave, State]:
        """See `Executor.decode`."""
        with full_precision(self.device):
            return self.network.step_wave(self.network.quantizer.decode(codes), state, frames)

    @torch.no_grad()
    def finish_encode(self, wave: Wave, state: State, codebooks: int) -> Frames:
        """See `Executor.finish_encode`."""
        with full_precision(self.device):
            latent = self.network.finish_latent(wave, state)
            return self.network.quantizer.encode(latent, codebooks)

    @torch.no_grad()
    def finish_decode(self, codes: Frames, state: State) -> Wave:
        """See `Executor.finish_decode`."""
        with full_precision(self.device):
            return self.network.finish_wave(self.network.quantizer.decode(codes), state)

    @torch.no_grad()
    def flush(self, state: State) -> Wave:
        """See `Executor.flush`."""
        with full_precision(self.device):
            return self.network.flush_wave(state)

    # -- states of many signals --------------------------------------------------------------------

    def form(self, state: State | Row) -> Hashable:
        """See `Executor.form`."""
        return states.form(state)

    def gather(self, parts: Sequence[State | Row]) -> State:
        """See `Executor.gather`."""
        return states.stack(parts)

    def scatter(self, state: State, count: int) -> list[Row]:
        """See `Executor.scatter`."""
        return states.split_rows(state, count)

    def select(self, state: State, members: slice) -> State:
        """See `Executor.select`."""
        return states.select(state, members)

    def dump(self, state: State, arrays: dict[str, np.ndarray], name: str) -> Any:
        """See `Executor.dump`."""
        return states.to_tree(state, arrays, name)

    def restore(self, content: Any, arrays: dict[str, np.ndarray]) -> State:
        """See `Executor.restore`."""
        return states.from_tree(content, arrays, self.device)

    # -- arrays -----------------------------------------------------------------------------------

    def array(self, x: Any) -> Tensor:
        """See `Executor.array`."""
        if isinstance(x, np.ndarray) and not x.flags.writeable:
            x = x.copy()  # torch warns of arrays that it could write to
        return torch.as_tensor(x).to(self.device)

    def numpy(self, x: Tensor) -> np.ndarray:
        """See `Executor.numpy`."""
        return x.cpu().numpy()

    def zeros(self, batch: int, width: int, size: int, *, like: Tensor | None = None) -> Tensor:
        """See `Executor.zeros`."""
        kind = torch.float32 if like is None else like.dtype
        return torch.zeros(batch, width, size, dtype=kind, device=self.device)

    def no_codes(self, batch: int, codebooks: int) -> Tensor:
        """See `Executor.no_codes`."""
        kind = torch.float32 if self.network.quantizer.latent_width else torch.int64
        return torch.zeros(batch, codebooks, 0, dtype=kind, device=self.device)

    def join(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """See `Executor.join`."""
        return torch.cat(list(parts), axis)
