"""wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477), the network of HuBERT and WavLM too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from audiotok.audio import _torchaudio
from audiotok.data.features.base import (
    Batch,
    SpeechTeacher,
    States,
    TeacherError,
    local_weights,
    read_folder,
    read_weights,
)
from audiotok.nn.layers.conv import convolved
from audiotok.nn.linear import Linear
from audiotok.nn.pretrained.reader import read_config
from audiotok.nn.skip_init import SkipInit

STRIDES = (5, 2, 2, 2, 2, 2, 2)  # strides of every published model: a frame is 320 samples


class _Conv(nn.Conv1d):
    """Convolution as `nn.Conv1d`, with the same parameters, computed by `convolved`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of `[b d t]`."""
        return convolved(self, input)


class Wav2vec2(SpeechTeacher):
    """wav2vec 2.0 of any size: torchaudio's network, with weights of torchaudio or transformers.

    Hidden states are those of transformers 4: 0 is the input of the first layer, and in models that
    normalise before each layer (the large ones) the last one is after the final norm (version 5
    takes it before). The convolutions do not pad, so 3 s give 149 frames; less than a frame is
    filled up with silence.
    """

    kind: ClassVar[str] = "wav2vec2"  # the model's type in transformers
    pipelines: ClassVar[str] = "WAV2VEC2"  # prefix of the names of torchaudio's pipelines

    def __init__(self, options: dict[str, Any], *, normalise: bool) -> None:
        """Build the network with random weights; most users call `load` instead.

        Args:
            options: arguments of torchaudio's `wav2vec2_model`; dropout may be left out.
            normalise: whether to scale the input to mean 0 and variance 1.
        """
        super().__init__()
        self.name = self.kind + "-normalised" * normalise
        self.normalise = normalise
        self.settings = {"normalise": normalise}
        self.sizes = {"options": options}
        self.network = self.build(options)
        self.width = options["encoder_embed_dim"]
        self.layers = options["encoder_num_layers"]
        convolutions = options["extractor_conv_layer_config"]
        hop = math.prod(stride for _, _, stride in convolutions)
        self.frame_rate = Fraction(self.sample_rate, hop)
        self.least = 1  # samples in the receptive field of one frame
        for _, kernel, stride in reversed(convolutions):
            self.least = (self.least - 1) * stride + kernel

    @classmethod
    def load(cls, weights: str | Path, *, normalise: bool | None = None) -> Wav2vec2:
        """Load a pretrained model.

        Args:
            weights: a folder of transformers or its name on the hub ("facebook/hubert-base-ls960"),
                or a file of torchaudio or the name of its pipeline ("HUBERT_BASE").
            normalise: whether to scale the input to mean 0 and variance 1. If None, as the folder's
                preprocessor_config.json says; without one, if it is a large model. The two disagree
                on HuBERT base: trained without, but transformers normalises.

        Raises:
            TeacherError: no such weights, or another model's.
        """
        config: dict[str, Any] = {}
        if str(weights).startswith(cls.pipelines) and str(weights).isupper():
            path, state = Path(weights), _pipeline(str(weights))
        else:
            path = local_weights(
                weights, needs=f"the folder of a transformers {cls.kind} checkpoint"
            )
            if path.is_dir():
                config, state = read_folder(path)
                if config.get("model_type") != cls.kind:
                    raise TeacherError(
                        f"{path}: a model of type {config.get('model_type')!r}, not {cls.kind!r}"
                    )
                state = cls.renamed(state)
                preprocessor = path / "preprocessor_config.json"
                if normalise is None and preprocessor.is_file():
                    normalise = read_config(preprocessor).get("do_normalize")
            else:
                state = read_weights(path)
        try:
            options = cls.options(state, config)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise TeacherError(f"{path}: not a {cls.kind} checkpoint (no {error})") from None
        if normalise is None:
            normalise = bool(options["encoder_layer_norm_first"])
        with SkipInit():
            teacher = cls(options, normalise=normalise)
        state = {key: value for key, value in state.items() if not key.startswith("aux.")}
        teacher.ready({f"network.{key}": value for key, value in state.items()}, path)
        return teacher

    @classmethod
    def options(cls, state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
        """Return torchaudio's options for the network that a state dict belongs to.

        Args:
            state: tensors by torchaudio's names, whose shapes tell nearly all options.
            config: the config of transformers for the other options, or an empty dict.
        """
        extractor = "feature_extractor.conv_layers"
        kernels = []
        while f"{extractor}.{len(kernels)}.conv.weight" in state:
            shape = state[f"{extractor}.{len(kernels)}.conv.weight"].shape
            kernels.append((shape[0], shape[2]))
        strides = config.get("conv_stride", STRIDES[: len(kernels)])
        normed = f"{extractor}.1.layer_norm.weight" in state  # in every layer, not only the first
        width = state["encoder.feature_projection.projection.weight"].shape[0]
        layers = "encoder.transformer.layers."
        blocks = {key.split(".")[3] for key in state if key.startswith(layers)}
        position = next(
            v
            for k, v in state.items()
            if "pos_conv_embed.conv" in k and v.ndim == 3 and v.shape[0] == width
        )
        return {
            "extractor_mode": "layer_norm" if normed else "group_norm",
            "extractor_conv_layer_config": [
                (*size, stride) for size, stride in zip(kernels, strides, strict=True)
            ],
            "extractor_conv_bias": f"{extractor}.0.conv.bias" in state,
            "encoder_embed_dim": width,
            "encoder_pos_conv_kernel": position.shape[2],
            "encoder_pos_conv_groups": width // position.shape[1],
            "encoder_num_layers": len(blocks),
            "encoder_num_heads": config.get("num_attention_heads", width // 64),
            "encoder_ff_interm_features": state[
                f"{layers}0.feed_forward.intermediate_dense.bias"
            ].shape[0],
            "encoder_layer_norm_first": config.get("do_stable_layer_norm", normed),
        }

    @staticmethod
    def build(options: dict[str, Any]) -> nn.Module:
        """Build the network of torchaudio."""
        return _torchaudio.load().models.wav2vec2_model(**NO_DROPOUT, **options)

    @staticmethod
    def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a transformers model by torchaudio's names, without its heads."""
        ours = {}
        for key, value in state.items():
            for name in ("wav2vec2.", "hubert.", "wavlm."):
                key = key.removeprefix(name)
            if key.startswith("feature_extractor."):
                ours[key] = value
            elif key.startswith("feature_projection."):
                ours[f"encoder.{key}"] = value
            elif key.startswith("encoder."):
                ours[key.replace("encoder.", "encoder.transformer.", 1)] = value
        return ours

    def quicken(self) -> None:
        """Compute linear maps and convolutions by the functions of the layers here from now on.

        The weight normalisation is folded, too. On a CPU it takes about half of the time, and the
        last bits of features are others.
        """
        for module in list(self.network.modules()):
            if parametrize.is_parametrized(module, "weight"):
                learns = any(weight.requires_grad for weight in module.parameters())
                parametrize.remove_parametrizations(module, "weight")
                folded: Any = module  # a frozen one would keep a tensor that is no parameter
                folded.weight = nn.Parameter(folded.weight.detach(), requires_grad=learns)
            if type(module) is nn.Linear:
                module.__class__ = Linear
            elif type(module) is nn.Conv1d and module.in_channels > 1:
                module.__class__ = _Conv

    def states(self, wave: Batch) -> Iterator[States]:
        """See `SpeechTeacher.states`."""
        wave = F.pad(wave, (0, max(0, self.least - wave.shape[1])))
        if self.normalise:
            wave = wave - wave.mean(1, keepdim=True)
            wave = wave / (wave.var(1, keepdim=True, correction=0) + 1e-7).sqrt()
        network: Any = self.network
        x = network.encoder.feature_projection(network.feature_extractor(wave, None)[0])
        transformer = network.encoder.transformer
        x = x + transformer.pos_conv_embed(x)
        # In torchaudio this means that the norm comes first in the transformer, not in each layer.
        if transformer.layer_norm_first:
            x = transformer.layer_norm(x)
        bias = None  # bias of WavLM's relative positions, which all layers share
        for layer in transformer.layers:
            yield x
            x, bias = layer(x, position_bias=bias)
        yield x if transformer.layer_norm_first else transformer.layer_norm(x)


NO_DROPOUT: dict[str, Any] = {
    "encoder_projection_dropout": 0.0,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}


def _pipeline(name: str) -> dict[str, Tensor]:
    """Return the weights of a torchaudio pipeline, from its cache or from pytorch.org."""
    pipelines = _torchaudio.load().pipelines
    if not hasattr(pipelines, name):
        known = ", ".join(n for n in dir(pipelines) if n.startswith(name.split("_")[0]))
        raise TeacherError(f"torchaudio has no pipeline {name!r}, only {known}")
    try:
        network = getattr(pipelines, name).get_model(dl_kwargs={"weights_only": True})
    except (OSError, URLError) as error:
        raise TeacherError(
            f"{name}: not to be had from pytorch.org ({type(error).__name__}); download its .pth"
            " file on a machine that has a network and give its path"
        ) from None
    # Pipelines that normalise wrap the network.
    return {key.removeprefix("model."): value for key, value in network.state_dict().items()}
