"""Inverse k-means: the features that units stand for, recovered from the units around each.

    codes [k f] -> mean vector of each unit -----------------------------------------+-> vectors
                -> linear map + (prompt: mean and deviation) -> ConvNeXt -> residual  |   [d f]
                                                  mean of the prompt, in part --------+

A centroid is the mean of all features nearest to it; its neighbours in time say more, and a prompt,
some seconds of vectors of the same voice, says what units without the means of recordings left out.
`codecs.inverse_fit` trains it.

Source: Vec-Tok (Zhu et al. 2023, arXiv:2310.07246), there a Conformer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import Error, InputError
from audiotok._platform.shapes import Codes, Latent
from audiotok.nn.finite import NotFiniteError, check_finite
from audiotok.nn.layers.base import Mix, Norm
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.convnext import Convnext
from audiotok.tokens.latents import Latents
from audiotok.tokens.tokenizer import WrongTokensError
from audiotok.tokens.tokens import Tokens

FORMAT = "audiotok inverse k-means 1"
# Fields that tokens and latents have in common, and mean the same by.
SHARED = ("sample_rate", "frame_size", "samples", "original_rate", "original_samples")

Prompt = Float[Tensor, "b d p"]


class InverseKmeansError(Error, ValueError):
    """Error of a file that holds no inverse k-means."""


@dataclass(frozen=True)
class InverseConfig:
    """Sizes of `InverseKmeans`, and the units that it takes.

    Attributes:
        units: fingerprint of the units.
        vectors: fingerprint of the units without centring, whose latents are the vectors.
        codebooks: codebooks of the units, one for each layer of the extractor.
        size: units in each.
        features: numbers of a vector of one layer.
        width: width of the network.
        depth: number of ConvNeXt blocks, each of which sees 3 frames further on both sides.
    """

    units: str
    vectors: str
    codebooks: int
    size: int
    features: int
    width: int = 320
    depth: int = 6


class InverseKmeans(nn.Module):
    """Network from units to vectors of the extractor that the units were made of.

    Args:
        config: sizes, and which units.

    Attributes:
        means: mean vector of each unit `[k size d]`, less the mean of its recording.
        voice: mean over recordings of the mean and the deviation of vectors `[2 k*d]`.
        scale: deviation of each feature `[k*d]`, of all training recordings.
    """

    means: Tensor
    voice: Tensor
    scale: Tensor

    def __init__(self, config: InverseConfig) -> None:
        super().__init__()
        self.config = config
        every = config.codebooks * config.features
        self.register_buffer("means", torch.zeros(config.codebooks, config.size, config.features))
        self.register_buffer("voice", torch.zeros(2, every))
        self.register_buffer("scale", torch.ones(every))
        self.trust = nn.Parameter(torch.full((every,), 0.5))  # in the prompt's mean, which is short
        self.into = Mix(every, config.width)
        self.condition = nn.Sequential(
            nn.Linear(2 * every, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        blocks = [Convnext(config.width, causal=False) for _ in range(config.depth)]
        out = Mix(config.width, every)
        nn.init.zeros_(out.linear.weight)  # so that it begins as the means of units
        nn.init.zeros_(out.linear.bias)
        self.network = Chain([*blocks, Norm(config.width), out])

    def unit_means(self, codes: Codes) -> Latent:
        """Return the mean vectors `[b k*d f]` of units `[b k f]`, less the means of recordings."""
        rows = [table[own] for table, own in zip(self.means, codes.unbind(1), strict=True)]
        return torch.cat(rows, 2).transpose(1, 2)

    def voice_of(self, prompt: Prompt | None, batch: int) -> Tensor:
        """Return mean and deviation `[b 2 d]` of prompts; those of all recordings without one."""
        if prompt is None:
            return self.voice.expand(batch, -1, -1)
        return torch.stack([prompt.mean(2), prompt.std(2, correction=0)], 1)

    def forward(self, codes: Codes, prompt: Prompt | None = None) -> Latent:
        """Return the vectors `[b k*d f]` of units.

        Args:
            codes: units `[b k f]`.
            prompt: vectors `[b k*d p]` of another stretch of the same voice; None for an average.
        """
        known = self.unit_means(codes)
        voice = self.voice_of(prompt, len(codes))
        scale = self.scale[:, None]
        relative = voice - self.voice  # [b 2 d]
        condition = self.condition((relative / self.scale).flatten(1))[:, :, None]
        residual = self.network(self.into(known / scale) + condition)
        mean = self.voice[0] + self.trust * relative[:, 0]
        return known + mean[:, :, None] + residual * scale

    @torch.no_grad()
    def recover(self, tokens: Tokens, prompt: Latents | None = None) -> Latents:
        """Return the vectors of a recording's tokens.

        Args:
            tokens: tokens of the units that this was trained for.
            prompt: vectors of some seconds of the voice (`latents_of(units.uncentred(), ...)`).

        Raises:
            WrongTokensError: tokens of other units, or a prompt of other vectors.
            InputError: a prompt of no frames.
        """
        config = self.config
        rows = len(tokens.codes)
        if tokens.fingerprint != config.units or rows != config.codebooks:
            raise WrongTokensError(
                f"tokens of {tokens.codec} {tokens.fingerprint}, {rows} rows: this takes "
                f"{config.codebooks} of units {config.units}"
            )
        device = self.scale.device
        given = None
        if prompt is not None:
            if prompt.fingerprint != config.vectors:
                raise WrongTokensError(
                    f"a prompt of latents {prompt.fingerprint}: this takes vectors of units "
                    f"{config.vectors}, which are not centred"
                )
            if not prompt.frames:
                raise InputError("a prompt of no frames")
            given = torch.tensor(prompt.values, dtype=torch.float32, device=device)[None]
        codes = torch.from_numpy(tokens.codes.copy())[None].to(device)
        return Latents(
            values=self(codes, given)[0].cpu().numpy(),
            codec=tokens.codec,
            fingerprint=config.vectors,
            **{name: getattr(tokens, name) for name in SHARED},
        )


def save_inverse(model: InverseKmeans, path: str | Path, *, card: dict[str, Any]) -> None:
    """Write a network to a .safetensors file, in half precision, completely or not at all.

    Args:
        model: the network.
        path: the file.
        card: facts about the training.
    """
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(model.config)),
        "card": json.dumps(card),
    }
    state = {key: value.half().cpu().contiguous() for key, value in model.state_dict().items()}
    check_finite(state, path)
    with atomic_file(Path(path)) as part:
        part.write_bytes(to_bytes(state, metadata))


def load_inverse(path: str | Path, *, device: str | torch.device = "cpu") -> InverseKmeans:
    """Return the network in a file of `save_inverse`, in eval mode and without gradients.

    Raises:
        InverseKmeansError: no such file, a damaged one, or one of another kind.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise InverseKmeansError(f"{path}: no inverse k-means of `audiotok units inverse`")
        model = InverseKmeans(InverseConfig(**jsonfile.parse(metadata["config"], "config")))
        model.load_state_dict(state)
        check_finite(state, Path(path))
    except FileNotFoundError:
        raise InverseKmeansError(f"{path}: no such file") from None
    except (SafetensorError, OSError, KeyError, TypeError, RuntimeError, NotFiniteError) as error:
        text = " ".join(str(error).split())[:200]
        raise InverseKmeansError(f"{path}: damaged ({text})") from None
    return model.to(device).eval().requires_grad_(False)
