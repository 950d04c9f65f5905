"""Writes longcat.npz: what LongCat-Audio-Codec's own program makes with small random weights.

git clone https://github.com/meituan-longcat/LongCat-Audio-Codec longcat
git -C longcat checkout 98dd5e4
PYTHONPATH=tests:longcat python tests/golden/longcat.py

It holds names and shapes of the weights of its files (whose values are `weights`), the entries of
the semantic codebook, gains of the last convolutions, and codes and waves of several lengths.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from golden.qwen3_tts_12hz import noise
from random_weights import random_weights
from torch import Tensor

from audiotok.audio import _torchaudio

STORED = Path(__file__).with_suffix(".npz")
SMALL: dict[str, Any] = {"width": 128, "layers": 2, "entries": 64, "encoder": 4, "latent": 24}
FULL: dict[str, Any] = {
    **{"width": 1280, "layers": 26, "entries": 8192, "encoder": 64, "latent": 1024},
    "decoder": 1536,
}
LIGHT: dict[str, Any] = FULL | {"layers": 4}  # of 26 transformer blocks
RATIOS = {"16k": [8, 6, 5, 4], "24k": [8, 6, 6, 5]}
RATES = {"16k": 16000, "24k": 24000}
LENGTHS = (1, 959, 961, 6 * 960, 20 * 960 + 5)
BOOKS = "acoustic_quantizer."


def available() -> bool:
    """Return whether the program is here."""
    return importlib.util.find_spec("networks") is not None


def sums() -> np.ndarray:
    """Return sums of bands and of their squares, and their number, as the published file has."""
    random = np.random.RandomState(0)
    mean, deviation = random.uniform(4, 12, 80), random.uniform(2, 4, 80)
    rows = np.stack([mean, mean**2 + deviation**2])
    return 1000 * np.concatenate([rows, np.ones((2, 1))], 1)


def weights(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Return weights that say something of the signal, of names and shapes of the program."""
    state = random_weights(shapes)
    for name, value in state.items():
        if name.endswith(("alpha", "weight_g")):
            value.abs_().mul_(0.1).add_(1)
            if re.search(r"\d\.block\.\d\.block\.\d\.weight_g$", name):
                value.mul_(0.3)  # the branches are not all but the whole
        elif name.endswith("bias"):
            value.mul_(0.3)
    for name, gain in (gains or {}).items():
        state[name] *= gain
    return state


def settings(sizes: Mapping[str, Any], cmvn: Path) -> dict[str, Any]:
    """Return the configuration of the semantic encoder in a size."""
    bands = {"dither": 0.0, "frame_length": 25, "frame_shift": 10, "preemphasis": 0.97}
    bands |= {"freq": 16000, "high_freq": -200, "low_freq": 40, "num_mel_bins": 80}
    network = {"feat_dim": 80, "delta_order": 0, "left": 0, "right": 0, "stride": 1}
    network |= {"subsampling": "conv2d", "num_conv_layers": 2, "conv2d_stride": "2,3"}
    network |= {"d_model": sizes["width"], "nhead": sizes["width"] // 64}
    network |= {"num_encoder_layers": sizes["layers"], "dim_feedforward": 4 * sizes["width"]}
    network |= {"dropout": 0.0, "layer_drop": 0.0, "activation": "gelu"}
    return {
        "feature": {"fbank": bands, "cmvn_file": str(cmvn)},
        "encoder": {"type": "VGGtf_encoder", "VGGtf_encoder": network},
    }


def encoder_of(sizes: Mapping[str, Any]) -> Any:
    """Return the program's encoder in a size, with weights as they come."""
    sys.modules["torchaudio"] = _torchaudio.load()
    from networks.semantic_codec import LongCatAudioCodec_model as program  # pyright: ignore
    from semantic_tokenizer_general import encoder as semantic  # pyright: ignore

    with TemporaryDirectory() as folder:
        np.save(Path(folder) / "cmvn.npy", sums())
        path = Path(folder) / "settings.yaml"
        path.write_text(yaml.safe_dump(settings(sizes, Path(folder) / "cmvn.npy")), "utf-8")
        semantic.select_config = lambda kind: {
            "select_layer": sizes["layers"],
            "codebook_dim": sizes["width"],
            "codebook_size": sizes["entries"],
            "model_config": str(path),
            "sample_rate": 16000,
        }
        return program.LongCatAudioCodecEncoder(
            encoder_dim=sizes["encoder"],
            encoder_rates=[4, 5, 6, 8],
            latent_dim=sizes["latent"],
            n_codebooks=3,
            codebook_size=90,
            codebook_dim=8,
            semantic_tokenizer_type="LongCatAudioCodec_semantic_tokenizer",
        ).eval()


def decoder_of(sizes: Mapping[str, Any], kind: str) -> Any:
    """Return one of the program's decoders in a size, with weights as they come."""
    from networks.semantic_codec import LongCatAudioCodec_model as program  # pyright: ignore

    return program.LongCatAudioCodecDecoder(
        latent_dim=sizes["latent"],
        decoder_dim=sizes.get("decoder", 32),
        decoder_rates=RATIOS[kind],
        semantic_dim=sizes["width"],
        decoder_type=kind,
        n_codebooks=3,
        codebook_size=90,
        codebook_dim=8,
        semantic_token_nums=sizes["entries"],
    ).eval()


@torch.no_grad()
def loaded(sizes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float], Tensor]:
    """Return encoder and decoders with `weights`, gains for which samples spread, and entries."""
    parts = {"encoder": encoder_of(sizes), **{kind: decoder_of(sizes, kind) for kind in RATIOS}}
    for part in parts.values():
        shapes = {k: list(v.shape) for k, v in part.state_dict().items() if learnt(k)}
        part.load_state_dict(weights(shapes), strict=False)
    encoder = parts["encoder"]
    wave = torch.cat([noise(60 * 960), noise(7 * 960)], 2)[:, 0]
    latent = encoder.semantic_tokenizer(32767 * wave, torch.tensor([wave.shape[1]]))[2][0]
    entries = torch.nn.functional.normalize(latent, dim=1)
    entries = entries[torch.randint(len(entries), (sizes["entries"],))].T.contiguous()
    encoder.semantic_tokenizer.kmeans.codebook.copy_(entries)
    gains = {}
    codes = encode(parts, noise(60 * 960))
    for kind, last in {"16k": 6, "24k": 7}.items():
        gain = parts[kind].decoder.model[last].weight_g
        gain *= 1e-3
        gains[f"decoder.model.{last}.weight_g"] = (
            1e-3 * 0.2 / float(decode(parts, codes, kind).std())
        )
        gain *= gains[f"decoder.model.{last}.weight_g"] / 1e-3
    return parts, gains, entries


def learnt(name: str) -> bool:
    """Return whether a tensor of the program is a weight."""
    return ".feature_extractor." not in name and not name.endswith("kmeans.codebook")


@torch.no_grad()
def encode(parts: Mapping[str, Any], wave: Tensor) -> Tensor:
    """Return the program's codes `[k f]` of a wave `[1 1 t]`."""
    semantic, acoustic = parts["encoder"](wave, 16000)
    return torch.cat([semantic, acoustic[0]])


@torch.no_grad()
def decode(parts: Mapping[str, Any], codes: Tensor, kind: str) -> Tensor:
    """Return what one of the decoders makes of codes `[k f]`, `[1 t]`."""
    return parts[kind](codes[:1], codes[None, 1:])[0]


def main() -> None:
    """Write the file."""
    torch.manual_seed(0)
    parts, gains, entries = loaded(SMALL)
    shapes = {
        name: {k: list(v.shape) for k, v in part.state_dict().items() if learnt(k)}
        for name, part in parts.items()
    }
    stored: dict[str, Any] = {
        "shapes": json.dumps(shapes),
        "gains": json.dumps(gains),
        "entries": entries.numpy(),
    }
    for samples in LENGTHS:
        codes = encode(parts, noise(samples))
        stored[f"codes {samples}"] = codes.numpy().astype(np.int16)
        for kind in RATES:
            stored[f"{kind} wave {samples}"] = decode(parts, codes, kind).numpy()
        print(samples, codes.shape, [len(row.unique()) for row in codes])
    for kind in RATES:
        codes = torch.from_numpy(stored[f"codes {LENGTHS[-1]}"]).long()
        stored[f"{kind} prefix"] = decode(parts, codes[:2, :4], kind).numpy()
        print("peak", float(np.abs(stored[f"{kind} wave {LENGTHS[-1]}"]).max()))
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
