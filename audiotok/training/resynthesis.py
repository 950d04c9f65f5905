"""Training of a vocoder on the tokens of a frozen tokenizer: what it hears, and learns from.

    recording -> tokens of the frozen tokenizer, pitch, traits of the voice      input
              -> latents of `speech`'s encoder                                   target of `latent`

All of it is computed once for whole recordings, as features of a recogniser depend on what is
around a crop, and kept on disk:

    CACHE/tokens-2-dmel_40hz-0f3a...-a148.../3f/3f9c....npy  [traits, then a row a group of frames]

A name contains all that the content depends on and a file appears when it is complete, so a run
that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio, AudioFileError
from audiotok.codecs.checkpoint import load
from audiotok.codecs.decoders.base import Source
from audiotok.codecs.decoders.vocoder import SPOKEN, TRAITS, Config, Vocoder, traits_of
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.speech import Speech
from audiotok.data.batches import Batch
from audiotok.data.recording import Recording, stamp_of
from audiotok.nn.pitch import track_pitch
from audiotok.nn.quantizer import check_type, types_of
from audiotok.nn.quantizers.base import Quantized
from audiotok.training.recipe import Recipe

log = logging.getLogger("audiotok")

LEARNT = ("latent", "pitch")  # losses of a vocoder beside those of sound
NOBODY = 0.15  # share of crops whose voice is not given
FORMAT = 2  # of a file of the cache
LARGEST = 1 << 16  # entries of a codebook, as tokens are stored in 16 bits


class TokenFeatures:
    """Tokens, pitch, latents and traits of recordings, as a `FeatureSource` of groups of frames.

    Attributes:
        files: the file of each recording; None where it cannot be read.
        width: numbers in a row.
        frame_rate: rows per second.
    """

    def __init__(
        self, files: Sequence[Path | None], *, codes: int, width: int, frame_rate: Fraction
    ) -> None:
        self.files = list(files)
        self.codes = codes
        self.stored = width
        self.width = width + TRAITS
        self.frame_rate = frame_rate

    def has(self, recording: int, /) -> bool:
        """See `FeatureSource.has`."""
        return self.files[recording] is not None

    def crop(self, recording: int, start: int, frames: int, /) -> Tensor:
        """See `FeatureSource.crop`; past the end the last row is repeated."""
        file = self.files[recording]
        if file is None:
            raise InputError(f"recording {recording} has no tokens; ask `has` first")
        stored = np.load(file, mmap_mode="r")
        rows = stored[TRAITS:].reshape(-1, self.stored)
        chosen = rows[np.arange(start, start + frames).clip(max=len(rows) - 1)]
        codes = chosen[:, : self.codes].astype(np.float32)
        floats = np.ascontiguousarray(chosen[:, self.codes :]).view(np.float16).astype(np.float32)
        traits = np.array(stored[:TRAITS]).view(np.float16).astype(np.float32)
        parts = [codes, floats, np.broadcast_to(traits, (frames, TRAITS))]
        return torch.from_numpy(np.concatenate(parts, 1))


class Resynthesis:
    """A frozen tokenizer and `speech`, from which a vocoder learns.

    Args:
        recipe: a recipe with a `tokenizer`.
        device: where tokenizer and `speech` run.

    Attributes:
        group: frames of tokens that are as long as ...
        spectra: ... so many frames of `speech`, in the least whole numbers: a row of features.
        group_samples: samples of a row.

    Raises:
        InputError: the recipe's decoder cannot be trained so, or the tokenizer cannot be used.
    """

    def __init__(self, recipe: Recipe, device: torch.device | str = "cpu") -> None:
        self.tokenizer: Codec = load(recipe.tokenizer, device=device)
        speech = load("speech", device=device)
        assert isinstance(speech, Speech)
        self.speech = speech
        if not issubclass(find("decoders", recipe.codec), Vocoder):
            raise InputError(f"codec = {recipe.codec!r}: only a vocoder learns from a tokenizer")
        self.tokenizer.needs_codes("a decoder of tokens")
        frame = Fraction(self.tokenizer.frame_size, self.tokenizer.sample_rate)
        ratio = frame * speech.sample_rate / speech.frame_size
        self.group = ratio.denominator
        self.spectra = ratio.numerator
        self.group_samples = self.spectra * speech.frame_size
        if max(self.tokenizer.sizes) > LARGEST:
            raise InputError(
                f"tokenizer {self.tokenizer.name!r} has a codebook of {max(self.tokenizer.sizes)} "
                f"entries: {LARGEST} are the most"
            )

    def vocoder(self, sizes: dict[str, Any]) -> Vocoder:
        """Return a new vocoder of the tokenizer, which begins with `speech`'s decoder.

        Args:
            sizes: fields of its `Config` that differ from the defaults.

        Raises:
            InputError: it has no such field.
        """
        known = [name for name in vars(Config()) if name not in ("source", "speech")]
        if unknown := {*sizes} - {*known}:
            raise InputError(f"[config]: unknown {sorted(unknown)}; known: {', '.join(known)}")
        hints = types_of(Config)
        for key, value in sizes.items():
            check_type(f"[config]: {key!r}", value, hints[key])
        tokenizer, speech = self.tokenizer, self.speech
        source = Source(
            tokenizer.name,
            tokenizer.sample_rate,
            tokenizer.frame_size,
            tokenizer.sizes,
            "" if tokenizer.own_weights else tokenizer.fingerprint,
        )
        voiced = {name: getattr(speech.config, name) for name in SPOKEN}
        codec = Vocoder(Config(**sizes, source=asdict(source), speech=voiced))
        codec.parts()[3].load_state_dict(speech.decoder.state_dict())
        return codec

    # -- what is heard ----------------------------------------------------------------------------

    def features(self, recordings: Sequence[Recording], cache: Path) -> TokenFeatures:
        """Return the features of recordings, computed where the cache has none yet.

        Args:
            recordings: recordings of any length and rate.
            cache: folder of the cache.
        """
        tokenizer, speech = self.tokenizer, self.speech
        name = f"tokens-{FORMAT}-{tokenizer.name}-{tokenizer.fingerprint}-{speech.fingerprint}"
        console, what = Console(stderr=True), f"tokens of {tokenizer.name}"
        hidden = not console.is_terminal
        files: list[Path | None] = []
        for recording in track(recordings, what, console=console, transient=True, disable=hidden):
            stamp = json.dumps(stamp_of(recording), default=str).encode()
            digest = hashlib.blake2b(stamp, digest_size=16).hexdigest()
            file = cache / name / digest[:2] / f"{digest}.npy"
            try:
                if not file.is_file():
                    self._store(recording, file)
                files.append(file)
            except AudioFileError as error:
                log.warning("%s; it is left out", error)
                files.append(None)
        codes = self.group * tokenizer.codebooks
        return TokenFeatures(
            files,
            codes=codes,
            width=codes + 2 * self.group + self.spectra * speech.config.latent,
            frame_rate=Fraction(speech.sample_rate, self.group_samples),
        )

    def _store(self, recording: Recording, file: Path) -> None:
        content = io.BytesIO()
        np.save(content, self.described(recording.load().mono()))
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as part:
            part.write_bytes(content.getvalue())

    @torch.no_grad()
    def described(self, audio: Audio) -> np.ndarray:
        """Return traits and rows of a recording in 16 bits each: codes, and halves as they are."""
        rate, size = self.speech.sample_rate, self.group_samples
        wave = audio.resample(rate).samples
        groups = -(-wave.shape[1] // size)
        codes = torch.from_numpy(self.tokenizer.encode(audio).codes.astype(np.int64))
        octaves, voiced = track_pitch(wave[0], rate=rate, hop=size // self.group)
        latents = self.speech.latents(wave[None].to(self.speech.device))[0].cpu()

        def rows(x: Tensor, frames: int) -> Tensor:
            """Return signals `[d n]` as rows `[groups ...]` of frames; the last is repeated."""
            at = torch.arange(groups * frames).clamp(max=x.shape[1] - 1)
            return x[:, at].T.reshape(groups, -1)

        pitch = torch.stack([octaves, voiced.float()])
        halves = torch.cat([rows(pitch, self.group), rows(latents, self.spectra)], 1)
        numbers = rows(codes, self.group).numpy().astype(np.uint16)
        table = np.concatenate([numbers, _bits(halves)], 1, dtype=np.uint16)
        return np.concatenate([_bits(traits_of(wave[0])), table.ravel()])

    # -- what is learnt ---------------------------------------------------------------------------

    def __call__(
        self, codec: Codec, batch: Batch, keep: Tensor | None = None, *, sound: bool = True
    ) -> tuple[Tensor | None, Quantized]:
        """Return what a vocoder makes of a batch, on its true pitch, and its losses.

        Args:
            codec: the vocoder.
            batch: crops of recordings with features.
            keep: `[b]`, number of codebooks that each crop uses; all if None.
            sound: whether waves are wanted.

        Returns:
            The waves `[b 1 t]`, or None; and latents, codes and the losses `latent` and `pitch`.
        """
        assert isinstance(codec, Vocoder)
        assert batch.features is not None
        codes, octaves, voiced, target, traits = self._parts(batch.features)
        if keep is None:
            keep = torch.full((len(codes),), codec.codebooks, device=codes.device)
        reading, pitch, latents, spectra, head = codec.parts()
        voices = codec.voice(traits)
        if codec.training:
            unnamed = torch.rand(len(voices)).to(voices) < NOBODY
            voices = torch.where(unnamed[:, None], codec.voice.nobody, voices)
        embedded = codec.tables.dropped(codes, keep.to(codes.device))
        x = reading(codec.with_voice(embedded, voices))
        losses: dict[str, Tensor] = {}
        real = batch.real.to(x)
        if pitch is not None:
            there = real.repeat_interleave(codec.group, 1)
            losses["pitch"] = _pitch_loss(pitch.predicted(x), octaves, voiced, there)
            x = pitch.added(x, octaves, voiced)
        latent = latents(x)
        there = real.repeat_interleave(latent.shape[2] // real.shape[1], 1)
        errors = (latent.float() - target).square().mean(1)
        losses["latent"] = (errors * there).sum() / there.sum().clamp(min=1)
        quantized = Quantized(latent, codes, losses)
        output = head(spectra(latent)) * _until_end(batch.wave) if sound else None
        return output, quantized

    def _parts(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return codes `[b k f]`, octaves and voicing `[b f]`, latents `[b d n]` and traits."""
        k, width = self.tokenizer.codebooks, self.speech.config.latent
        sizes = [self.group * k, self.group * 2, self.spectra * width, TRAITS]
        codes, pitch, latents, traits = features.split(sizes, 2)
        octaves, voiced = pitch.reshape(len(pitch), -1, 2).unbind(2)
        return (
            codes.reshape(len(codes), -1, k).transpose(1, 2).long(),
            octaves,
            voiced,
            latents.reshape(len(latents), -1, width).transpose(1, 2),
            traits[:, 0],
        )

    def noise(self, wave: Tensor) -> Tensor:
        """Return features of random tokens for waves `[b 1 t]` of whole rows, to measure costs."""
        b, rows = len(wave), wave.shape[2] // self.group_samples
        sizes = torch.tensor(self.tokenizer.sizes).repeat(self.group)
        codes = (torch.rand(b, rows, len(sizes)) * sizes).floor()
        width = 2 * self.group + self.spectra * self.speech.config.latent + TRAITS
        return torch.cat([codes, torch.rand(b, rows, width)], 2).to(wave)

    def on(self, batch: Batch) -> Callable[[Codec], tuple[Tensor, Quantized]]:
        """Return a function that makes waves of the same batch by any vocoder."""

        def run(codec: Codec) -> tuple[Tensor, Quantized]:
            output, quantized = self(codec, batch)
            assert output is not None
            return output, quantized

        return run

    def decoded(self, codec: Codec, audio: Audio, codebooks: int) -> Audio:
        """Return a recording as decoded from the first codebooks' tokens, in its own voice."""
        assert isinstance(codec, Vocoder)
        tokens = self.tokenizer.encode(audio, codebooks=codebooks)
        return codec.conditioned(prompt=audio).decode(tokens)


def _bits(x: Tensor) -> np.ndarray:
    """Return numbers in half precision as the integers of their bits."""
    return x.half().numpy().view(np.uint16)


def _until_end(wave: Tensor) -> Tensor:
    """Return 1 up to the last sample of waves `[b 1 t]` that is not zero, and 0 after it.

    Tokens know nothing of the silence that crops are filled up with, and the loss of a logarithm
    would be of little else.
    """
    return wave.ne(0).flip(2).int().cummax(2).values.flip(2).to(wave)


def _pitch_loss(predicted: Tensor, octaves: Tensor, voiced: Tensor, real: Tensor) -> Tensor:
    """Return the loss of predicted pitch `[b 2 f]`: of voicing, and of octaves where voiced."""
    logits, guess = predicted.float().unbind(1)
    voicing = F.binary_cross_entropy_with_logits(logits, voiced, reduction="none")
    height = (guess - octaves).abs() * voiced
    return ((voicing + 4 * height) * real).sum() / real.sum().clamp(min=1)
