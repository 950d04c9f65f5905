"""Writes voxtral.npz: what the network in vllm-omni makes of noise with small random weights.

pip download --no-deps vllm-omni==0.30.0 && unzip vllm_omni-0.30.0-*.whl -d vllm
PYTHONPATH=tests:vllm python tests/golden/voxtral.py

Of vllm, which needs a GPU, only the names that the network's file imports are there. It holds the
configuration, names and shapes of the weights (whose values are `weights`), the entries of the
semantic codebook, a gain of the last convolution, and codes and waves of several lengths, all in
single precision.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from golden.qwen3_tts_12hz import noise
from golden.runs import runs_of
from random_weights import random_weights
from torch import Tensor, nn
from torch.nn import functional as F

STORED = Path(__file__).with_suffix(".npz")
SMALL: dict[str, Any] = {
    "pretransform_patch_size": 10,
    "patch_proj_kernel_size": 5,
    "semantic_codebook_size": 64,
    "semantic_dim": 16,
    "acoustic_dim": 6,
    "dim": 32,
    "hidden_dim": 48,
    "head_dim": 8,
    "n_heads": 6,
    "n_kv_heads": 3,
    "encoder_transformer_lengths_str": "1,2,1,1",
    "decoder_transformer_lengths_str": "1,1,2,1",
}
FULL: dict[str, Any] = {}
FRAME = 80
LENGTHS = (1, FRAME - 1, FRAME + 1, FRAME + 11, 7 * FRAME, 60 * FRAME + 25)
FOLDER = "vllm_omni/model_executor/models/voxtral_tts"
LAST = "output_proj.conv.parametrizations.weight.original0"


def _folder() -> Path | None:
    """Return the folder of the network's file; None if it is nowhere."""
    known = (Path(path) / FOLDER for path in sys.path)
    return next((path for path in known if path.is_dir()), None)


def available() -> bool:
    """Return whether the network is here."""
    return _folder() is not None


def _program() -> Any:
    """Return the module of the network, beside stand-ins for what it imports."""
    folder = _folder()
    assert folder is not None

    def module(name: str, **members: Any) -> None:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__.update(members)

    class Logger:
        def warning(self, *words: Any) -> None: ...

    tree = ast.parse((folder / "voxtral_tts_audio_generation.py").read_text("utf-8"))
    wanted: list[ast.stmt] = [
        n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "FeedForward"
    ]
    members: dict[str, Any] = {"nn": nn, "torch": torch, "F": F}
    exec(compile(ast.Module(wanted, []), "voxtral", "exec"), members)
    for name in ("vllm", "vllm.model_executor", "vllm.model_executor.model_loader"):
        module(name)
    module("vllm.config", VllmConfig=object)
    module("vllm.logger", init_logger=lambda name: Logger())
    module("vllm.model_executor.model_loader.weight_utils", default_weight_loader=None)
    for name in ("vllm_omni", "vllm_omni.model_executor", "vllm_omni.model_executor.models"):
        module(name)
    module("vllm_omni.model_executor.models.voxtral_tts")
    module(
        "vllm_omni.model_executor.models.voxtral_tts.voxtral_tts_audio_generation",
        AudioSpecialTokens=None,
        FeedForward=members["FeedForward"],
        MultimodalAudioModelArgs=None,
        from_nested_dict=lambda kind, options: options,
    )
    module("vllm_omni.platforms", current_omni_platform=None)
    sys.path.insert(0, str(folder))
    import voxtral_tts_audio_tokenizer as program  # pyright: ignore

    program.MultiVocabEmbeddings = lambda **options: None  # of the language model
    return program


def weights(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Return weights that say something of the signal, of names and shapes of the program."""
    state = random_weights(shapes)
    for name, value in state.items():
        if name.endswith("original0"):
            value.abs_().mul_(0.1).add_(1)
        elif name.endswith("scale"):  # the branches are not all but the whole
            value.abs_().add_(0.3)
    for name, gain in (gains or {}).items():
        state[name] *= gain
    return state


def learnt(name: str) -> bool:
    """Return whether a tensor of the program is a weight."""
    return not name.startswith("quantizer.")


@torch.no_grad()
def loaded(options: Mapping[str, Any]) -> tuple[Any, dict[str, float], Tensor]:
    """Return the program's model with `weights`, gains for which samples spread, and entries."""
    program = _program()
    args = program.AudioTokenizerArgs(**options)
    audio = {"codec_args": args, "audio_model_args": None}
    config = SimpleNamespace(audio_config=audio, text_config=SimpleNamespace(hidden_size=8))
    config = SimpleNamespace(model_config=SimpleNamespace(hf_config=config))
    theirs = program.VoxtralTTSAudioTokenizer(vllm_config=config).eval().requires_grad_(False)
    shapes = {k: list(v.shape) for k, v in theirs.state_dict().items() if learnt(k)}
    theirs.load_state_dict(weights(shapes), strict=False)
    frame, book = theirs.downsample_factor, theirs.quantizer.semantic_codebook
    latent = theirs._forward_encoder(noise(80 * frame))[0]
    last = f"encoder_blocks.{len(theirs.encoder_blocks) - 1}.conv.parametrizations.weight.original0"
    gains = {last: float(1 / latent.std())}
    theirs.load_state_dict(weights(shapes, gains), strict=False)
    latent = theirs._forward_encoder(noise(80 * frame))[0, : args.semantic_dim].T
    random = torch.Generator().manual_seed(0)
    entries = latent[torch.randint(80, (args.semantic_codebook_size,), generator=random)]
    entries = entries + 0.1 * torch.randn(entries.shape, generator=random)
    book.embedding_sum.copy_(2 * entries)
    book.cluster_usage.fill_(2)
    gains[LAST] = 0.15 / float(decode(theirs, encode(theirs, noise(80 * frame))).std())
    theirs.load_state_dict(weights(shapes, gains), strict=False)
    return theirs, gains, entries


@torch.no_grad()
def encode(theirs: Any, wave: Tensor) -> Tensor:
    """Return the program's codes `[k f]` of a wave `[1 1 t]`, without autocast."""
    wave = F.pad(wave, (0, -wave.shape[2] % theirs.patch_size))
    return theirs.quantizer.encode(theirs._forward_encoder(wave))[0]


@torch.no_grad()
def decode(theirs: Any, codes: Tensor) -> Tensor:
    """Return what the program makes of codes `[k f]`, `[1 t]`."""
    return theirs.decode(codes[None])[0]


def state_of(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float], entries: Tensor
) -> dict[str, Tensor]:
    """Return the program's state: `weights`, and the entries as it keeps them."""
    book = "quantizer.semantic_codebook."
    usage = {
        f"{book}embedding_sum": 2 * entries,
        f"{book}cluster_usage": 2 * torch.ones(len(entries)),
    }
    return weights(shapes, gains) | usage


def main() -> None:
    """Write the file."""
    theirs, gains, entries = loaded(SMALL)
    shapes = {k: list(v.shape) for k, v in theirs.state_dict().items() if learnt(k)}
    stored: dict[str, Any] = {
        "args": json.dumps(asdict(theirs.args)),
        "shapes": json.dumps(shapes),
        "gains": json.dumps(gains),
        "entries": entries.numpy(),
    }
    stored |= runs_of(LENGTHS, noise, partial(encode, theirs), partial(decode, theirs))
    np.savez_compressed(STORED, **stored)


if __name__ == "__main__":
    main()
