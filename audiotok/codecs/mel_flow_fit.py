"""Training of TaDiCodec, small: tokenizer and decoder together, by the loss of the flow alone.

    spectrum -> encoder -> codes -> dropped at times --+
    spectrum, its beginning a prompt, the rest noised -+-> velocity, off by what it is after the
    text ----------------------------------------------+   prompt (L1)

Source: Wang et al. 2025, arXiv:2508.16790, section 3; repository
HeCheng0625/Diffusion-Speech-Tokenizer at cc660a8, `tadicodec_trainer.py`. There a whole batch drops
its codes or its prompt at once, here each recording by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, NamedTuple, cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from audiotok._platform.config import SEED
from audiotok._platform.errors import InputError
from audiotok.codecs.decoders.mel_flow import Config, MelFlow, stretched
from audiotok.codecs.latents import mono_recordings
from audiotok.codecs.models import tadicodec
from audiotok.codecs.one_cycle import descend
from audiotok.data.recording import Recording
from audiotok.nn.flow import straight_path
from audiotok.nn.quantizer import check_type

TIMES = 8  # times at which a held-out loss is measured


@dataclass(frozen=True)
class MelFlowTraining:
    """Settings of the training of a `MelFlow`.

    Attributes:
        steps: steps of training.
        batch: recordings of a step.
        longest: longest recording in seconds; longer ones are left out, as their text is whole.
        rate: largest learning rate of AdamW, which rises for a twentieth of the steps and falls by
            a cosine.
        code_drop: share of recordings whose codes are left out, from which guidance learns.
        prompt_drop: share of recordings without a prompt.
        text_drop: share of recordings without text; the authors leave none out.
        prompt: largest share of a recording that is a prompt.
        seed: random seed of weights, recordings, times and noise.
    """

    steps: int = 2000
    batch: int = 4
    longest: float = 6.0
    rate: float = 1e-3
    code_drop: float = 0.2
    prompt_drop: float = 0.2
    text_drop: float = 0.1
    prompt: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        sized = all(0 < x < math.inf for x in (self.rate, self.longest))
        if min(self.steps, self.batch) < 1 or not sized:
            raise InputError(
                f"{self.steps} steps of {self.batch} recordings of up to {self.longest:g} s at "
                f"rate {self.rate:g}: at least one of each, and more than nothing"
            )
        check_type("seed", self.seed, Annotated[int, SEED])
        drops = (self.code_drop, self.prompt_drop, self.text_drop, self.prompt)
        if not all(0 <= drop < 1 for drop in drops):
            raise InputError("code_drop, prompt_drop, text_drop and prompt: shares from 0 to 1")


class Example(NamedTuple):
    """Normalised spectrum `[bands 8*f]` of a recording, and the tokens `[n]` of its text."""

    spectrum: Tensor
    text: Tensor


class Drawn(NamedTuple):
    """Random choices for an example in a step of training.

    Attributes:
        time: from 0, noise, to 1, data.
        noise: standard normal, as the spectrum.
        prompt: steps of the spectrum that are given as they are.
        codes: whether the codes are given.
        text: whether the text is given.
    """

    time: float
    noise: Tensor
    prompt: int
    codes: bool = True
    text: bool = True


def mel_flow_examples(
    model: MelFlow,
    recordings: Sequence[Recording],
    *,
    longest: float = MelFlowTraining.longest,
    console: Console | None = None,
) -> list[Example]:
    """Return spectra and texts of recordings; those of a wrong length or no text are left out.

    Args:
        model: network whose spectra and text tokens they are.
        recordings: recordings of any rate, with their text.
        longest: longest recording in seconds.
        console: where progress is shown; stderr if None.
    """
    encoder = cast("tadicodec.Encoder", model.prompt_encoder)
    examples = []
    spoken = [recording for recording in recordings if recording.text]
    size = model.frame_size
    for recording, mono in mono_recordings(spoken, "spectra", console=console):
        audio = mono.resample(model.sample_rate)
        wave = audio.samples[:, : len(audio) // size * size]
        if 2 * size <= wave.shape[1] <= longest * model.sample_rate:
            text = torch.tensor(model.text_tokens(recording.text))
            examples.append(Example(encoder.normalised(wave)[0], text))
    return examples


def velocity_loss(model: MelFlow, example: Example, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """Return by how much a velocity is off after the prompt (L1), and the loss of the quantizer.

    Args:
        model: the network.
        example: a recording.
        drawn: time, noise, and what the network is told.
    """
    data = example.spectrum[None]
    encoder = cast("tadicodec.Encoder", model.prompt_encoder)
    quantized = model.quantizer(encoder.pooled(data))
    codes = stretched(quantized.latent) if drawn.codes else data.new_zeros(1, model.config.width, 1)
    codes = codes.expand(-1, -1, data.shape[2])
    time = data.new_full((1,), drawn.time)
    x, target = straight_path(data, drawn.noise[None], time, sigma=model.config.sigma)
    x = torch.cat([data[:, :, : drawn.prompt], x[:, :, drawn.prompt :]], 2)
    text = model.text(example.text)[None] if drawn.text else None
    off = (model.sampler.velocity(x, time, codes, text) - target).abs()
    return off[:, :, drawn.prompt :].mean(), torch.stack([*quantized.losses.values()]).sum()


def fit_mel_flow(
    examples: Sequence[Example],
    model: MelFlow,
    training: MelFlowTraining | None = None,
    *,
    console: Console | None = None,
) -> MelFlow:
    """Train a tokenizer and its decoder together, in place.

    Args:
        examples: spectra and texts of `mel_flow_examples`.
        model: a new network; its vocoder, if there is one, stays as it is.
        training: settings.
        console: where progress is shown; stderr if None.

    Returns:
        The same network in eval mode, with a card of the training; `own_tokenizer` is its
        tokenizer.

    Raises:
        InputError: there are no examples.
    """
    training = training or MelFlowTraining()
    if not examples:
        raise InputError(
            f"no recording with a text, of up to {training.longest:g} s: give some, or more seconds"
        )
    random = np.random.default_rng(training.seed)
    weights = [p for n, p in model.named_parameters() if not n.startswith("decoder.vocoder.")]

    def step() -> float:
        total = 0.0
        for i in random.integers(len(examples), size=training.batch):
            drawn = _draw(examples[i].spectrum, training, random)
            off, of_codes = velocity_loss(model, examples[i], drawn)
            ((off + of_codes) / training.batch).backward()
            total += off.item() / training.batch
        return total

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(training.seed)
        model.train().requires_grad_(True)
        losses = descend(
            weights,
            step,
            steps=training.steps,
            rate=training.rate,
            what="flow of spectra",
            clip=0.5,
            console=console,
        )
    model.card = {
        "mel_flow": {
            "recordings": len(examples),
            "training": asdict(training),
            "loss_first": float(np.mean(losses[:20])),
            "loss": float(np.mean(losses[-100:])),
        }
    }
    return model.eval().requires_grad_(False)


def _draw(spectrum: Tensor, training: MelFlowTraining, random: np.random.Generator) -> Drawn:
    """Draw what a step of training takes for a recording."""
    steps = spectrum.shape[1]
    prompt = int(random.integers(min(steps // 4, 5), max(5, int(steps * training.prompt)) + 1))
    return Drawn(
        float(random.random()),
        torch.randn_like(spectrum),
        0 if random.random() < training.prompt_drop else prompt,
        codes=bool(random.random() >= training.code_drop),
        text=bool(random.random() >= training.text_drop),
    )


@torch.no_grad()
def mel_flow_loss(
    model: MelFlow, examples: Sequence[Example], *, codes: bool = True, text: bool = True
) -> float:
    """Return the loss without a prompt, at fixed times and with fixed noise.

    Args:
        model: the network.
        examples: recordings, none of which it learnt from.
        codes: whether it is given the codes.
        text: whether it is given the text.

    Raises:
        InputError: there are no examples.
    """
    if not examples:
        raise InputError("a loss of no recordings: give some with a text")
    random = torch.Generator().manual_seed(0)
    losses = []
    for example in examples:
        noise = torch.randn(example.spectrum.shape, generator=random)
        for i in range(TIMES):
            drawn = Drawn((i + 0.5) / TIMES, noise, 0, codes=codes, text=text)
            losses.append(float(velocity_loss(model, example, drawn)[0]))
    return float(np.mean(losses))


def small_mel_flow(seed: int = 0) -> MelFlow:
    """Return a new network of 2 M parameters, whose text tokens are bytes, and no vocoder.

    Args:
        seed: random seed of its weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MelFlow(
            Config(
                bands=80,
                width=128,
                encoder_blocks=1,
                blocks=4,
                heads=2,
                vocabulary=256,
                vocoder_blocks=0,
            )
        )
