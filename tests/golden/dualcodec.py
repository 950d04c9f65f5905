"""Writes dualcodec.npz: what package dualcodec makes of noise with small random weights.

pip install --no-deps --target packages dualcodec==0.4.2
pip install transformers==5.24.0
PYTHONPATH=tests:packages python tests/golden/dualcodec.py

Of what the package imports, audiotools, cached_path, easydict and hydra need not be there. Its
`Inference` runs with a small w2v-BERT of transformers, in single precision. The file holds the
teacher's configuration, names and shapes of the weights (whose values are `weights`), a gain of the
last convolution, mean and variance of the features, and codes and waves of several lengths.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from golden.qwen3_tts_12hz import noise
from golden.runs import runs_of
from random_weights import dac_weights, folder_of
from torch import Tensor, nn

from audiotok.audio import _torchaudio
from audiotok.codecs.models.dualcodec import Dualcodec

STORED = Path(__file__).with_suffix(".npz")
SMALL: dict[str, Any] = {
    "sample_rate": 24000,
    "encoder_dim": 4,
    "encoder_rates": [4, 5, 12, 8],
    "latent_dim": 1024,
    "decoder_dim": 32,
    "decoder_rates": [8, 12, 5, 4],
    "n_codebooks": 3,
    "codebook_size": 32,
    "semantic_codebook_size": 64,
    "convnext_dim": 16,
    "convnext_layers": 2,
    "is_causal": True,
    "semantic_downsample_factor": 4,
}
FULL: dict[str, Any] = {  # conf/model/dualcodec_12hz_16384_4096_8vq.yaml
    "sample_rate": 24000,
    "encoder_dim": 32,
    "encoder_rates": [4, 5, 6, 8, 2],
    "decoder_dim": 1536,
    "decoder_rates": [2, 8, 6, 5, 4],
    "n_codebooks": 7,
    "codebook_size": 4096,
    "semantic_codebook_size": 16384,
    "is_causal": True,
    "semantic_downsample_factor": 4,
}
W2V_BERT: dict[str, Any] = {
    "hidden_size": 1024,  # which the package is written for
    "output_hidden_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "intermediate_size": 32,
    "conv_depthwise_kernel_size": 7,
    "left_max_position_embeddings": 20,
    "right_max_position_embeddings": 5,
}
BLOCKS = 1  # of those of w2v-BERT that are used
FRAME = 1920
ODD = 6 * FRAME + 160  # a masked feature completes a frame
LENGTHS = (2 * FRAME, 5 * FRAME + 777, ODD, 30 * FRAME + 25)


def _folder() -> Path | None:
    """Return the package's folder; None if it is nowhere."""
    known = (Path(path) / "dualcodec" for path in sys.path)
    return next((path for path in known if (path / "model_codec").is_dir()), None)


def available() -> bool:
    """Return whether the package is here."""
    return _folder() is not None


def _program() -> tuple[Any, Any]:
    """Return the package's modules of the network and of inference."""
    folder = _folder()
    assert folder is not None

    def module(name: str, **members: Any) -> None:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__.update(members)

    module("audiotools", AudioSignal=None)
    module("audiotools.ml", BaseModel=nn.Module)
    module("cached_path", cached_path=lambda path: path)
    module("easydict", EasyDict=Settings)
    for part in ("", ".model_codec", ".infer", ".infer.dualcodec"):
        module(f"dualcodec{part}", __path__=[str(folder.joinpath(*part.split(".")[1:]))])
    _torchaudio.load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scripts
        network = import_module("dualcodec.model_codec.dualcodec_model")
        inference = import_module("dualcodec.infer.dualcodec.inference_with_semantic")
    return network, inference


def shapes_of(module: nn.Module) -> dict[str, list[int]]:
    """Return the shapes of a module's weights by name."""
    return {name: list(value.shape) for name, value in module.state_dict().items()}


@torch.no_grad()
def loaded(
    options: Mapping[str, Any], teacher: Mapping[str, Any] = W2V_BERT, blocks: int = BLOCKS
) -> tuple[Any, dict[str, float]]:
    """Return the package's `Inference` with `weights`, and a gain for which samples spread.

    Its mean and deviation are those of features of noise.
    """
    network, inference = _program()
    transformers = import_module("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weight normalisation by hooks
        codec = network.DualCodec(**options).eval().requires_grad_(False)
    config = transformers.Wav2Vec2BertConfig(**teacher)
    model = transformers.Wav2Vec2BertModel(config).eval().requires_grad_(False)
    model.load_state_dict(dac_weights(shapes_of(model)))
    theirs = object.__new__(inference.Inference)
    theirs.model, theirs.device, theirs.autocast = codec, "cpu", False
    theirs.semantic_cfg = Settings(
        semantic_model=model,
        feature_extractor=transformers.SeamlessM4TFeatureExtractor(),
        output_idx=blocks,
        mean=torch.zeros(config.hidden_size),
        std=torch.ones(config.hidden_size),
    )
    wave, seen = noise(40 * FRAME), []
    hook = model.encoder.layers[blocks - 1].register_forward_hook(lambda *a: seen.append(a[2]))
    shapes = shapes_of(codec)
    last = f"dac.decoder.model.{len(options['decoder_rates']) + 2}.weight_g"
    gains = {last: 1e-3}  # so little that the last tangent is straight
    codec.load_state_dict(dac_weights(shapes, gains))
    encode(theirs, wave)
    hook.remove()
    features = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    theirs.semantic_cfg["mean"] = features[0].mean(0)
    theirs.semantic_cfg["std"] = features[0].var(0).sqrt()
    gains[last] *= 0.15 / float(decode(theirs, encode(theirs, wave)).std())
    codec.load_state_dict(dac_weights(shapes, gains))
    return theirs, gains


class Settings(dict[str, Any]):
    """Settings by key, or as attributes: what the package takes of easydict."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


@torch.no_grad()
def encode(theirs: Any, wave: Tensor) -> Tensor:
    """Return the package's codes `[k f]` of a wave `[1 1 t]`, in single precision."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "autocast", lambda **_: nullcontext())
        semantic, acoustic = theirs.encode(wave, n_quantizers=None)
    return torch.cat([semantic, acoustic], 1)[0]


@torch.no_grad()
def decode(theirs: Any, codes: Tensor) -> Tensor:
    """Return what the package makes of codes `[k f]`, `[1 t]`."""
    return theirs.decode(codes[None, :1], codes[None, 1:])[0]


def joined(theirs: Any, folder: Path) -> Dualcodec:
    """Return our codec of the package's weights, by way of files in a folder."""
    settings = theirs.semantic_cfg
    torch.save(theirs.model.state_dict(), folder / "codec.pt")
    torch.save({"mean": settings.mean, "var": settings.std.square()}, folder / "stats.pt")
    model = settings.semantic_model
    folder_of(model.state_dict(), json.dumps(model.config.to_dict()), folder)
    files = folder / "codec.pt", folder, folder / "stats.pt"
    return Dualcodec.joined(*files, blocks=settings.output_idx)


def main() -> None:
    """Write the file."""
    theirs, gains = loaded(SMALL)
    settings = theirs.semantic_cfg
    stored: dict[str, Any] = {
        "shapes": json.dumps(shapes_of(theirs.model)),
        "gains": json.dumps(gains),
        "teacher": json.dumps(settings.semantic_model.config.to_dict()),
        "teacher shapes": json.dumps(shapes_of(settings.semantic_model)),
        "mean": settings.mean.numpy(),
        "var": settings.std.square().numpy(),
    }
    stored |= runs_of(LENGTHS, noise, partial(encode, theirs), partial(decode, theirs))
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
