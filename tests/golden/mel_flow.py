"""Writes mel_flow.npz: the spectra that TaDiCodec's decoder gives with random weights.

pip install transformers==4.46.3 einops librosa pyworld
PYTHONPATH=tests:DIFFUSION_SPEECH_TOKENIZER python tests/golden/mel_flow.py

DIFFUSION_SPEECH_TOKENIZER is a checkout of HeCheng0625/Diffusion-Speech-Tokenizer at cc660a8. The
file holds names and shapes of the weights of a small model and of a vocoder (whose values are those
of random_weights.py), and of random codes, text, spectra of a prompt and noise: what the decoder
samples, told all or nothing; its velocity, and its loss in training; and what the vocoder makes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_weights import random_weights
from torch.nn import functional as F

from audiotok.audio import _torchaudio

_torchaudio.load()  # which the repository imports, and which may not load by itself

from models.codec.amphion_codec.vocos import Vocos  # noqa: E402  # type: ignore
from models.tts.tadicodec.modeling_tadicodec import TaDiCodec  # noqa: E402  # type: ignore

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"mel_dim": 20, "in_dim": 20, "hidden_size": 128, "num_heads": 2}
SMALL |= {"encoder_num_layers": 1, "decoder_num_layers": 3, "text_vocab_size": 30}
VOCODER = {"input_channels": 20, "dim": 32, "intermediate_dim": 128, "num_layers": 2}
VOCODER |= {"n_fft": 1920, "hop_size": 480, "padding": "same"}
FRAMES, PROMPT = 9, 4


def noise(shape: list[int], seed: int) -> torch.Tensor:
    """Return standard normal noise `[b frames bands]`, for each recording the same."""
    drawn = np.random.default_rng(seed).standard_normal(shape[1:], dtype=np.float32)
    return torch.from_numpy(drawn).expand(shape)


def shapes_of(module: torch.nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


def load(module: torch.nn.Module, fixed: str) -> None:
    """Give a module random weights, but for those whose names begin in a certain way."""
    state = module.state_dict()
    kept = {key: value for key, value in state.items() if key.startswith(fixed)}
    module.load_state_dict(random_weights(shapes_of(module)) | kept)


if __name__ == "__main__":
    model = TaDiCodec(**SMALL).eval()
    gain = model.decoder.layers[0].input_layernorm.to_weight
    print("gain of a new norm:", gain.bias.mean().item(), gain.weight.std().item())
    load(model, "bsq.")
    vocoder = Vocos(**VOCODER).eval()
    load(vocoder, "head.istft")
    random = np.random.default_rng(0)
    codes = torch.from_numpy(random.integers(2**14, size=(1, PROMPT + FRAMES)))
    text = torch.from_numpy(random.integers(30, size=(1, 17)))
    prompt = noise([1, 8 * PROMPT, SMALL["mel_dim"]], 1)
    stored: dict[str, Any] = {
        "shapes": json.dumps(shapes_of(model)),
        "vocoder shapes": json.dumps(shapes_of(vocoder)),
        "codes": codes[0].numpy(),
        "text": text[0].numpy(),
        "prompt": prompt[0].T.numpy(),
    }
    torch.randn = lambda shape, **kwargs: noise(list(shape), 5)
    told: dict[str, Any] = {"indices": codes, "text_ids": text, "prompt_mel": prompt}
    for name, ways in {
        "guided": {"n_timesteps": 4, "cfg": 2.0, "rescale_cfg": 0.75},
        "plain": {"n_timesteps": 3, "cfg": 0.0},
        "no prompt": {"n_timesteps": 3, "cfg": 1.5, "rescale_cfg": 0.0, "prompt_mel": None},
    }.items():
        mel = model.reverse_diffusion(**{**told, **ways})
        stored[name] = mel[0].T.numpy()
        if name == "guided":
            with torch.no_grad():
                stored["wave"] = vocoder(mel.transpose(1, 2))[0, 0].numpy()
    # The loss, as in `TadiCodecTrainer._train_step`, at a time and with a prompt of ours.
    x = noise([1, 8 * (PROMPT + FRAMES), SMALL["mel_dim"]], 2)
    torch.rand = lambda *size, **kwargs: torch.full(size, 0.3)
    torch.randint = lambda *size, **kwargs: torch.tensor([8 * PROMPT])
    with torch.no_grad():
        stored["data codes"] = model.encode(x, torch.ones(x.shape[:2]))[1][0].numpy()
        out = model(x, torch.ones(x.shape[:2]), text_ids=text, text_mask=torch.ones(text.shape))
    target = x - (1 - model.sigma) * out["noise"]
    mask = out["final_mask"][:, :, 0]
    loss = F.l1_loss(out["flow_pred"], target, reduction="none") * out["final_mask"]
    stored["data"] = x[0].T.numpy()
    stored["velocity"] = out["flow_pred"][0].T.numpy()
    stored["loss"] = (loss.mean(2).sum() / mask.sum()).numpy()
    np.savez_compressed(ROOT / "tests/golden/mel_flow.npz", **stored)
