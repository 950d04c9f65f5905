"""The speech encoder w2v-BERT 2.0 (Seamless Communication 2023, arXiv:2312.05187), in plain torch.

wave -> 80 log-mel bands of Kaldi, 100 a second, each of mean 0 and variance 1 over the piece
     -> two neighbours side by side: 160 numbers, 50 a second -> linear -> conformer blocks
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.data.features.base import (
    Batch,
    SpeechTeacher,
    States,
    TeacherError,
    local_weights,
    read_folder,
)
from audiotok.nn.kaldi import HOP, WINDOW, log_energies
from audiotok.nn.linear import Linear
from audiotok.nn.pretrained.options import Options
from audiotok.nn.skip_init import SkipInit

BANDS = 80  # mel bands
FLOOR = 2.0**-23  # least energy of a band
QUERIES = 512  # frames whose scores are computed at once, so that memory grows with length only
POSITIONS = "relative_key"  # kind of positions that published models have


class W2vBert(SpeechTeacher):
    """w2v-BERT 2.0: 24 conformer blocks of 1024 features, 50 a second.

    Hidden state 0 is the input of the first block. Of a recording of t samples there are
    `(1 + (t - 400) // 160) // 2` features, at least one: 149 of 3 s. A published
    feature extractor adds a last one of padding where the number of bands' frames is odd, which
    the model masks; here there is none.
    """

    def __init__(
        self,
        *,
        width: int = 1024,
        layers: int = 24,
        heads: int = 16,
        hidden: int = 4096,
        kernel: int = 31,
        before: int = 64,
        after: int = 8,
    ) -> None:
        """Build the network with random weights; most users call `load` instead.

        Args:
            width: numbers in a feature.
            layers: conformer blocks.
            heads: attention heads.
            hidden: numbers between the two dense layers of a feed-forward module.
            kernel: frames in the convolution of a block.
            before: frames back from which on all distances count as one.
            after: frames ahead from which on all distances count as one.
        """
        super().__init__()
        self.name = "w2v-bert"
        self.width = width
        self.layers = layers
        self.sizes = {
            "width": width,
            "layers": layers,
            "heads": heads,
            "hidden": hidden,
            "kernel": kernel,
            "before": before,
            "after": after,
        }
        self.norm = nn.LayerNorm(2 * BANDS)
        self.projection = Linear(2 * BANDS, width)
        self.blocks = nn.ModuleList(
            _Block(width, heads, hidden, kernel, before, after) for _ in range(layers)
        )

    @classmethod
    def load(cls, weights: str | Path) -> W2vBert:
        """Load the encoder of a folder of transformers.

        Args:
            weights: the folder, or a name on the hub ("facebook/w2v-bert-2.0").

        Raises:
            TeacherError: no such weights, or another model's.
        """
        path = local_weights(weights, needs="the folder of a w2v-BERT 2.0 checkpoint")
        config, state = read_folder(path)
        kind = config.get("model_type"), config.get("position_embeddings_type", POSITIONS)
        if kind != ("wav2vec2-bert", POSITIONS):
            raise TeacherError(
                f"{path}: a model of type {kind[0]!r} with positions {kind[1]!r}, where "
                f"'wav2vec2-bert' with {POSITIONS!r} is read"
            )
        state = renamed(state)
        try:
            with SkipInit():
                teacher = cls(**_sizes(state, config))
        except (KeyError, IndexError) as error:
            raise TeacherError(f"{path}: not a w2v-BERT checkpoint (no {error})") from None
        teacher.ready(state, path)
        return teacher

    def states(self, wave: Batch) -> Iterator[States]:
        """See `SpeechTeacher.states`."""
        x = self.projection(self.norm(bands(wave)))
        for block in self.blocks:
            yield x
            x = block(x)
        yield x


class _Block(nn.Module):
    """A conformer block: half a feed-forward, attention, convolution, half a feed-forward, norm."""

    def __init__(
        self, width: int, heads: int, hidden: int, kernel: int, before: int, after: int
    ) -> None:
        super().__init__()
        self.first = _FeedForward(width, hidden)
        self.attention = _Attention(width, heads, before, after)
        self.convolution = _Convolution(width, kernel)
        self.second = _FeedForward(width, hidden)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: States) -> States:
        """Return the output of the block, `[b f d]`."""
        x = x + self.first(x) / 2
        x = x + self.attention(x)
        x = x + self.convolution(x)
        return self.norm(x + self.second(x) / 2)


class _FeedForward(nn.Module):
    """Norm, and two dense layers with Swish between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = Linear(width, hidden)
        self.down = Linear(hidden, width)

    def forward(self, x: States) -> States:
        """Return the branch, `[b f d]`."""
        return self.down(F.silu(self.up(self.norm(x))))


class _Attention(nn.Module):
    """Norm, and attention to all frames, with an embedding of each distance added to the keys."""

    def __init__(self, width: int, heads: int, before: int, after: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = before
        self.after = after
        self.norm = nn.LayerNorm(width)
        self.q = Linear(width, width)
        self.k = Linear(width, width)
        self.v = Linear(width, width)
        self.out = Linear(width, width)
        self.distances = nn.Embedding(before + after + 1, width // heads)

    def forward(self, x: States) -> States:
        """Return the branch, `[b f d]`."""
        b, f, d = x.shape
        x = self.norm(x)
        q, k, v = (
            m(x).view(b, f, self.heads, -1).transpose(1, 2) for m in (self.q, self.k, self.v)
        )
        # A product for each distance rather than for each pair of frames.
        by_distance = q @ self.distances.weight.T / q.shape[3] ** 0.5
        y = [
            F.scaled_dot_product_attention(queries, k, v, attn_mask=self._bias(own, i * QUERIES, f))
            for i, (queries, own) in enumerate(
                zip(q.split(QUERIES, 2), by_distance.split(QUERIES, 2), strict=True)
            )
        ]
        return self.out(torch.cat(y, 2).transpose(1, 2).reshape(b, f, d))

    def _bias(self, by_distance: Tensor, first: int, frames: int) -> Tensor:
        """Return what is added to the scores of queries from `first` on, `[b h q f]`."""
        b, h, n, _ = by_distance.shape
        at = torch.arange(frames, device=by_distance.device)
        distance = (at - at[first : first + n, None]).clamp(-self.before, self.after) + self.before
        return by_distance.gather(3, distance.expand(b, h, n, frames))


class _Convolution(nn.Module):
    """Norm, gate, convolution of each feature over the frames before, norm, Swish and a map."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.norm = nn.LayerNorm(width)
        self.gate = Linear(width, 2 * width, bias=False)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width, bias=False)
        self.middle = nn.LayerNorm(width)
        self.out = Linear(width, width, bias=False)

    def forward(self, x: States) -> States:
        """Return the branch, `[b f d]`."""
        x = F.glu(self.gate(self.norm(x)), -1).transpose(1, 2)
        x = self.depthwise(F.pad(x, (self.kernel - 1, 0))).transpose(1, 2)
        return self.out(F.silu(self.middle(x)))


def bands(wave: Batch) -> Float[Tensor, "b f 160"]:
    """Return normalised log-mel energies of pairs of frames, `[b f 160]`, as Kaldi computes them.

    Args:
        wave: samples `[b t]` at 16 kHz; fewer than two frames are filled up with silence.
    """
    wave = F.pad(wave, (0, max(0, WINDOW + HOP - wave.shape[1])))
    x = log_energies(2**15 * wave, 20.0, 8000.0, FLOOR, centred=True)
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-7).sqrt()
    pairs = x.shape[1] // 2
    return x[:, : 2 * pairs].reshape(len(x), pairs, 2 * BANDS).to(wave.dtype)


# -- state dict of transformers ---------------------------------------------------------------

NAMES = {
    "encoder.layers.": "blocks.",
    "feature_projection.layer_norm": "norm",
    "feature_projection.projection": "projection",
    "ffn1_layer_norm": "first.norm",
    "ffn2_layer_norm": "second.norm",
    "ffn1.intermediate_dense": "first.up",
    "ffn2.intermediate_dense": "second.up",
    "ffn1.output_dense": "first.down",
    "ffn2.output_dense": "second.down",
    "self_attn_layer_norm": "attention.norm",
    "self_attn.distance_embedding": "attention.distances",
    "self_attn.linear_": "attention.",
    "conv_module.layer_norm": "convolution.norm",
    "conv_module.pointwise_conv1": "convolution.gate",
    "conv_module.depthwise_conv": "convolution.depthwise",
    "conv_module.depthwise_layer_norm": "convolution.middle",
    "conv_module.pointwise_conv2": "convolution.out",
    "final_layer_norm": "norm",
}


# Of transformers' Wav2Vec2BertConfig.
OPTIONS = Options(
    fields={
        "left_max_position_embeddings": "before",
        "num_attention_heads": "heads",
        "right_max_position_embeddings": "after",
    },
    fixed={
        "add_adapter": False,
        "feature_projection_input_dim": 2 * BANDS,
        "hidden_act": "swish",
        "layer_norm_eps": 1e-5,
        "model_type": "wav2vec2-bert",
        "position_embeddings_type": POSITIONS,
        "use_intermediate_ffn_before_adapter": False,
    },
    derived=(
        *("activation_dropout", "adapter_act", "adapter_kernel_size", "adapter_stride"),
        *("apply_spec_augment", "classifier_proj_size", "conformer_conv_dropout"),
        *("conv_depthwise_kernel_size", "ctc_loss_reduction", "ctc_zero_infinity"),
        *("feat_proj_dropout", "final_dropout", "hidden_dropout", "hidden_size"),
        *("intermediate_size", "layerdrop", "mask_feature_length", "mask_feature_min_masks"),
        *("mask_feature_prob", "mask_time_length", "mask_time_min_masks", "mask_time_prob"),
        *("max_source_positions", "num_adapter_layers", "num_hidden_layers", "output_hidden_size"),
        *("rotary_embedding_base", "tdnn_dilation", "tdnn_dim", "tdnn_kernel"),
        *("use_weighted_layer_sum", "vocab_size", "xvector_output_dim"),
    ),
)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a model of transformers by the names of `W2vBert`, without heads."""
    ours = {}
    for key, value in state.items():
        key = key.removeprefix("wav2vec2_bert.")
        if key.startswith(("encoder.layers.", "feature_projection.")):
            for their, our in NAMES.items():
                key = key.replace(their, our)
            ours[key] = (
                value[..., 0] if key.endswith(("gate.weight", "convolution.out.weight")) else value
            )
    return ours


def _sizes(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, int]:
    """Return the arguments of `W2vBert` for a state dict, whose shapes tell all but two of them."""
    before = int(config.get("left_max_position_embeddings", 64))
    hidden, width = state["blocks.0.first.up.weight"].shape
    distances, of_head = state["blocks.0.attention.distances.weight"].shape
    return {
        "width": width,
        "layers": len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
        "heads": width // of_head,
        "hidden": hidden,
        "kernel": state["blocks.0.convolution.depthwise.weight"].shape[2],
        "before": before,
        "after": distances - 1 - before,
    }
