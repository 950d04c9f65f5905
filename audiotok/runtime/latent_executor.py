"""Executor that stops before the quantizer: an encoding session gives latents in place of codes."""

from __future__ import annotations

import torch
from torch import Tensor

from audiotok._platform.shapes import Latent, State, Wave
from audiotok.runtime.network_executor import NetworkExecutor, full_precision


class LatentExecutor(NetworkExecutor):
    """Executor of a network whose codes are the latents `[b d f]` that it would quantize.

    Blocks and states are those of `NetworkExecutor`, so these latents give the same codes.
    """

    @torch.no_grad()
    def encode(self, wave: Wave, state: State, codebooks: int) -> tuple[Latent, State]:
        """See `Executor.encode`; latents for all codebooks."""
        with full_precision(self.device):
            return self.network.step_latent(wave, state)

    @torch.no_grad()
    def finish_encode(self, wave: Wave, state: State, codebooks: int) -> Latent:
        """See `Executor.finish_encode`; latents for all codebooks."""
        with full_precision(self.device):
            return self.network.finish_latent(wave, state)

    def no_codes(self, batch: int, codebooks: int) -> Tensor:
        """See `Executor.no_codes`; latents of no frames."""
        return self.network.quantizer.decode(super().no_codes(batch, codebooks))
