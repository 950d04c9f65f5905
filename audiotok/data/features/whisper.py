"""The encoder of Whisper (Radford et al. 2022, arXiv:2212.04356), in plain torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok.audio import _torchaudio
from audiotok.data.features.base import (
    Batch,
    SpeechTeacher,
    States,
    TeacherError,
    local_weights,
    read_ctranslate2,
    read_folder,
    read_weights,
)
from audiotok.nn.skip_init import SkipInit

WINDOW, HOP = 400, 160  # window and hop of the mel spectrogram, in samples at 16 kHz
FRAME = 2 * HOP  # samples in a frame: the second convolution halves the rate to 50 frames/s
POSITIONS = 1500  # 30 s


class Whisper(SpeechTeacher):
    """The encoder of any size of Whisper: base has 6 layers of 512 features, 50 a second.

    Weights may come from OpenAI (.pt), transformers or CTranslate2 (faster-whisper). Hidden state 0
    is the output of the convolutions with positions added, the last is after the final norm.

    Whisper was trained on 30 s, filled up with silence, which costs seven times as much as a clip
    of 5 s. Its layers tell phones apart as well without (egs/choose_teacher_layer.py), so `fill`,
    the seconds to fill up to, is 0 by default.
    """

    window = POSITIONS
    positional = 16  # positions are added to the input of the first layer, and stay in all states
    positions: Tensor

    def __init__(
        self,
        *,
        width: int = 512,
        layers: int = 6,
        heads: int = 8,
        bands: int = 80,
        fill: float = 0.0,
    ) -> None:
        """Build the encoder with random weights; most users call `load` instead.

        Args:
            width: numbers in a feature.
            layers: transformer blocks.
            heads: attention heads.
            bands: bands of the mel spectrogram (128 in large-v3).
            fill: seconds to fill a shorter recording up to with silence, 0 to 30.
        """
        super().__init__()
        if not 0 <= fill <= 30:
            raise InputError(f"Whisper hears 30 s: fill must lie in 0..30 seconds, not {fill}")
        self.name = f"whisper-fill{fill:g}"
        self.width = width
        self.layers = layers
        self.bands = bands
        self.fill = fill
        self.settings = {"fill": fill}
        self.sizes = {"width": width, "layers": layers, "heads": heads, "bands": bands}
        self.conv1 = nn.Conv1d(bands, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("positions", sinusoids(POSITIONS, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    @classmethod
    def load(cls, weights: str | Path, *, fill: float = 0.0) -> Whisper:
        """Load the encoder of a checkpoint.

        Args:
            weights: an OpenAI .pt file, a folder of transformers or CTranslate2 (`model.bin`), or
                a name on the hub ("openai/whisper-base").
            fill: seconds to fill a shorter recording up to with silence; see the class.

        Raises:
            TeacherError: no such weights, or not Whisper's.
        """
        path = local_weights(
            weights, needs="the folder of a Whisper checkpoint, or OpenAI's .pt file,"
        )
        try:
            if path.is_file():
                state, heads = _openai(path)
            elif (path / "model.bin").is_file():
                state, heads = _ctranslate2(path / "model.bin")
            else:
                state, heads = _transformers(path)
            width, bands, _ = state["conv1.weight"].shape
        except (KeyError, TypeError) as error:
            raise TeacherError(f"{path}: not a Whisper checkpoint (no {error})") from None
        layers = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        with SkipInit():
            teacher = cls(width=width, layers=layers, heads=heads, bands=bands, fill=fill)
        teacher.ready(state, path)
        return teacher

    def states(self, wave: Batch) -> Iterator[States]:
        """See `SpeechTeacher.states`; there are `ceil(t / 320)` frames, of at most 30 s."""
        frames = -(-wave.shape[1] // FRAME)
        if frames > POSITIONS:
            raise InputError(f"Whisper hears 30 s at once, not {wave.shape[1] / 16000:.2f} s")
        filled = max(frames, round(self.fill * 50))
        for state in self.states_of(log_mel(wave, 2 * filled, self.bands)):
            yield state[:, :frames]

    def states_of(self, mel: Float[Tensor, "b bands steps"]) -> Iterator[States]:
        """Yield hidden states 0 to `layers` of a log-mel spectrum of at most 3000 steps."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        for block in self.blocks:
            yield x
            x = block(x)
        yield self.norm(x)


class _Block(nn.Module):
    """A pre-normalised transformer block: attention over all frames, then two dense layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: States) -> States:
        """Return the output of the block, `[b f d]`."""
        b, f, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, f, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, f, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def log_mel(wave: Batch, steps: int, bands: int) -> Float[Tensor, "b {bands} {steps}"]:
    """Return Whisper's log-mel spectrogram of a wave followed by silence.

    The floor lies 8 (80 dB) below the loudest bin of the recording, so a piece's features depend
    a little on the recording it was cut from.

    Args:
        wave: samples `[b t]` at 16 kHz.
        steps: length of the spectrogram, in steps of 10 ms.
        bands: mel bands.
    """
    # As if the recording began a clip of 30 s: mirrored before its start, silence after its end.
    wave = F.pad(wave, (0, max(0, steps * HOP + WINDOW // 2 - wave.shape[1])))
    wave = F.pad(wave[:, None], (WINDOW // 2, 0), mode="reflect")[:, 0]
    window = torch.hann_window(WINDOW, device=wave.device)
    frames = wave.unfold(1, WINDOW, HOP)[:, :steps] * window
    power = torch.fft.rfft(frames).abs().square()
    x = (power @ _mel_bank(bands).to(wave)).clamp(min=1e-10).log10()
    x = torch.maximum(x, x.amax((1, 2), keepdim=True) - 8)
    return ((x + 4) / 4).transpose(1, 2)


@cache
def _mel_bank(bands: int) -> Tensor:
    """Return the mel filter bank of Whisper, `[bins bands]`."""
    return _torchaudio.load().functional.melscale_fbanks(
        WINDOW // 2 + 1, 0.0, 8000.0, bands, 16000, norm="slaney", mel_scale="slaney"
    )


def sinusoids(positions: int, width: int) -> Tensor:
    """Return position embeddings `[positions width]`: sines, then cosines.

    Their periods run from 2 pi to 20000 pi.
    """
    rates = torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(positions)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


# -- state dicts of other programs ------------------------------------------------------------
#
# Each program names the same tensors differently. These replacements, applied in order, give the
# names of `Whisper`, except for q, k and v, which are one tensor here.

OPENAI = {
    "ln_post": "norm",
    "attn_ln": "norm1",
    "mlp_ln": "norm2",
    "attn.query": "q",
    "attn.key": "k",
    "attn.value": "v",
    "attn.out": "out",
    "mlp.0": "up",
    "mlp.2": "down",
    "positional_embedding": "positions",
}
TRANSFORMERS = {
    "layers.": "blocks.",
    "self_attn_layer_norm": "norm1",
    "final_layer_norm": "norm2",
    "layer_norm": "norm",
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.out_proj": "out",
    "fc1": "up",
    "fc2": "down",
    "embed_positions.weight": "positions",
}
CTRANSLATE2 = {
    "self_attention/layer_norm": "norm1",
    "ffn/layer_norm": "norm2",
    "layer_norm": "norm",
    "layer_": "blocks.",
    "self_attention/linear_0": "qkv",
    "self_attention/linear_1": "out",
    "ffn/linear_0": "up",
    "ffn/linear_1": "down",
    "position_encodings/encodings": "positions",
    "gamma": "weight",
    "beta": "bias",
    "/": ".",
}


def renamed(state: dict[str, Tensor], prefix: str, names: dict[str, str]) -> dict[str, Tensor]:
    """Return the tensors under `prefix` by the names of `Whisper`.

    Args:
        state: tensors of a checkpoint by its own names.
        prefix: prefix of the names of the encoder.
        names: replacements that turn its names into ours, applied in order.
    """
    ours = {}
    for key, value in state.items():
        if key.startswith(prefix):
            key = key.removeprefix(prefix)
            for their, our in names.items():
                key = key.replace(their, our)
            ours[key] = value
    for key in [key for key in ours if key.endswith(".q.weight")]:
        block = key.removesuffix(".q.weight")
        weights = [ours.pop(f"{block}.{part}.weight") for part in "qkv"]
        # Whisper's keys have no bias: it would shift all scores of a query alike.
        biases = [ours.pop(f"{block}.q.bias"), torch.zeros_like(weights[1][:, 0])]
        biases.append(ours.pop(f"{block}.v.bias"))
        ours[f"{block}.qkv.weight"], ours[f"{block}.qkv.bias"] = map(torch.cat, (weights, biases))
    return ours


def _openai(path: Path) -> tuple[dict[str, Tensor], int]:
    """Return the state dict and the number of heads of an OpenAI checkpoint."""
    saved = read_weights(path)
    heads = saved["dims"]["n_audio_head"]
    return renamed(saved["model_state_dict"], "encoder.", OPENAI), heads


def _transformers(folder: Path) -> tuple[dict[str, Tensor], int]:
    """Return the state dict and the number of heads of a folder of transformers."""
    config, state = read_folder(folder)
    heads = config["encoder_attention_heads"]
    # WhisperForConditionalGeneration and WhisperModel differ by a prefix.
    prefix = "model.encoder." if "model.encoder.conv1.weight" in state else "encoder."
    return renamed(state, prefix, TRANSFORMERS), heads


def _ctranslate2(path: Path) -> tuple[dict[str, Tensor], int]:
    """Return the state dict and the number of heads of a CTranslate2 model."""
    state = read_ctranslate2(path, "encoder/")
    heads = int(state.pop("encoder/num_heads"))
    # Linear weights may be integers with a scale for each row.
    for key in [key for key in state if key.endswith("_scale")]:
        scale = state.pop(key).float()
        weight = state[key.removesuffix("_scale")]
        state[key.removesuffix("_scale")] = weight.float() / scale.reshape(
            -1, *[1] * (weight.ndim - 1)
        )
    state = {key: value for key, value in state.items() if value.ndim}  # the rest are options
    return renamed(state, "encoder/", CTRANSLATE2), heads
