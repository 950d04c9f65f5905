"""Writes beats.npz: what the programs of BEATs make with small random weights.

git clone https://github.com/microsoft/unilm
git -C unilm checkout 768a3c8
pip install --no-deps speechbrain==1.1.2
PYTHONPATH=tests:unilm/beats python tests/golden/beats.py

Of each kind of encoder it holds options, names and shapes of the weights (whose values are those
of random_weights.py) and all hidden states of speechbrain's `BEATs`, in double precision: in single
its spectrum is off by 1e-4 in bands that are near silence. Of the tokenizer it holds the same, the
entries, and its codes.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from random_weights import random_weights
from torch import Tensor

from audiotok import Audio
from audiotok.audio import _torchaudio

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).with_suffix(".npz")
PUBLISHED: dict[str, Any] = {
    **{"input_patch_size": 16, "embed_dim": 512, "encoder_layers": 12, "encoder_embed_dim": 768},
    **{"encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12, "num_buckets": 320},
    **{"relative_position_embedding": True, "max_distance": 800, "gru_rel_pos": True},
    **{"deep_norm": True, "dropout": 0.0, "attention_dropout": 0.0},
}
SMALL: dict[str, Any] = PUBLISHED | {
    **{"embed_dim": 24, "encoder_layers": 2, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 48},
    **{"encoder_attention_heads": 2, "num_buckets": 20, "max_distance": 30},
    **{"conv_pos": 16, "conv_pos_groups": 4, "quant_n": 64, "quant_dim": 12},
}
KINDS: dict[str, dict[str, Any]] = {
    "published": SMALL,
    "shallow": SMALL | {"deep_norm": False, "gru_rel_pos": False},
    "plain": SMALL
    | {"deep_norm": False, "gru_rel_pos": False, "relative_position_embedding": False}
    | {"embed_dim": 32},
}
BEGIN, CLIP, LONG = 16000, 50_000, 130_000  # samples of the reading
ENTRIES = "quantize.embedding.weight"
POSITIONS = "self_attn.relative_attention_bias.weight"


@contextmanager
def speechbrain() -> Iterator[Any]:
    """Give speechbrain's module of BEATs, without the packages that speechbrain needs."""
    folder = importlib.util.find_spec("speechbrain")
    assert folder is not None
    assert folder.submodule_search_locations
    path = Path(folder.submodule_search_locations[0]) / "lobes/models/beats.py"
    names = ("torchaudio", "speechbrain", "speechbrain.dataio", "speechbrain.dataio.dataio")
    before = {name: sys.modules.get(name) for name in names}
    sys.modules |= {name: ModuleType(name) for name in names[1:]}
    sys.modules["torchaudio"] = _torchaudio.load()
    import_module("torchaudio.compliance.kaldi")
    vars(sys.modules[names[3]])["length_to_mask"] = _mask
    spec = importlib.util.spec_from_file_location("speechbrain_beats", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        for name, value in before.items():
            sys.modules.pop(name, None)
            if value is not None:
                sys.modules[name] = value


def _mask(lengths: Tensor, longest: int, **_: Any) -> Tensor:
    """Return which steps are within the lengths `[b]`, as speechbrain's `length_to_mask`."""
    return (torch.arange(longest) < lengths[:, None]).float()


def encoder_of(module: Any, options: Mapping[str, Any]) -> Any:
    """Return speechbrain's encoder with options; its constructor takes them from a file only."""
    own = module.BEATsConfig
    module.BEATsConfig = lambda _: own(dict(options))
    try:
        return module.BEATs(output_all_hiddens=True).eval()
    finally:
        module.BEATsConfig = own


@torch.no_grad()
def hidden(encoder: Any, wave: Tensor) -> Tensor:
    """Return all hidden states `[s p d]` of a wave `[1 t]`, of its patches in a row."""
    return encoder(wave, torch.ones(1))[0][:, :, 0]


def tokenizer_of(options: Mapping[str, Any]) -> Any:
    """Return the authors' tokenizer with options."""
    sys.modules["torchaudio"] = _torchaudio.load()
    program = import_module("Tokenizers")
    warnings.filterwarnings("ignore", message=".*weight_norm", category=FutureWarning)
    return program.Tokenizers(program.TokenizersConfig(dict(options))).eval()


def weights_of(program: Any) -> dict[str, Tensor]:
    """Return weights of the shapes of a program, for which features depend on the input."""
    weights = random_weights(shapes_of(program), gain=1.5)
    first = weights.get(f"encoder.layers.0.{POSITIONS}", torch.ones(1, 1))
    first *= 3 * first.shape[1] ** 0.5
    for name, value in weights.items():
        if name.endswith(POSITIONS):
            value.copy_(weights[f"encoder.layers.0.{POSITIONS}"])  # which all blocks share
        elif name.endswith("grep_a"):
            value.fill_(1).add_(0.3 * torch.arange(value.shape[1])[:, None, None])
        elif name.endswith("initted"):
            value.fill_(1)
    return weights


def shapes_of(program: Any) -> dict[str, list[int]]:
    """Return the shapes of a program's weights by name."""
    return {name: list(value.shape) for name, value in program.state_dict().items()}


@torch.no_grad()
def enliven(tokenizer: Any, weights: dict[str, Tensor], wave: Tensor) -> None:
    """Load weights, and entries drawn from what there is of a wave, so that codes differ."""
    tokenizer.load_state_dict(weights)
    features: list[Tensor] = []
    hook = tokenizer.quantize_layer.register_forward_hook(lambda *args: features.append(args[2]))
    tokenizer.extract_labels(wave)
    hook.remove()
    flat = torch.nn.functional.normalize(features[0][0], dim=1)
    size = len(weights[ENTRIES])
    drawn = flat[torch.randperm(len(flat), generator=torch.manual_seed(0)).repeat(9)[:size]]
    noise = 0.05 * torch.randn(drawn.shape, generator=torch.manual_seed(1))
    weights[ENTRIES] = torch.nn.functional.normalize(drawn + noise * drawn.std(), dim=1)
    tokenizer.load_state_dict(weights)


@torch.no_grad()
def codes_of(tokenizer: Any, wave: Tensor) -> np.ndarray:
    """Return the codes `[8 frames]` of a wave `[1 t]`."""
    return tokenizer.extract_labels(wave).view(-1, 8).T.numpy().astype(np.int16)


def main() -> None:
    """Write the file."""
    reading = Audio.load(ROOT / "egs/data/reading.flac").resample(16000).samples
    clip, long = reading[:, BEGIN : BEGIN + CLIP], reading[:, BEGIN : BEGIN + LONG]
    stored: dict[str, Any] = {}
    with speechbrain() as module:
        for kind, options in KINDS.items():
            encoder = encoder_of(module, options)
            encoder.load_state_dict(weights_of(encoder))
            states = hidden(encoder.double(), clip.double())
            stored[f"{kind} options"] = json.dumps(options)
            stored[f"{kind} shapes"] = json.dumps(shapes_of(encoder))
            stored[f"{kind} states"] = states[:, ::7].float().numpy()
            print(kind, states.shape, states.std((1, 2)))
    tokenizer = tokenizer_of(SMALL)
    weights = weights_of(tokenizer)
    enliven(tokenizer, weights, long)
    stored["tokenizer shapes"] = json.dumps(shapes_of(tokenizer))
    stored["entries"] = weights[ENTRIES].numpy()
    for name, wave in {"clip": clip, "long": long}.items():
        stored[name] = codes_of(tokenizer, wave)
        print(name, stored[name].shape, [len(set(row)) for row in stored[name].tolist()])
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
