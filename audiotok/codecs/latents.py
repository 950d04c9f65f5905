"""Latents of a codec with codebooks: what it would quantize, and the way on from there.

    wave -> encoder -> latents [d f] -> quantizer -> codes [k f]

Those of k-means units are the vectors of Vec-Tok (Zhu et al. 2023, arXiv:2310.07246).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio, AudioFileError
from audiotok.audio.coerce import Recording, to_audio
from audiotok.audio.levels import check_level
from audiotok.codecs.models.base import Codec, WrongTokensError
from audiotok.data.recording import Recording as Listed
from audiotok.runtime.latent_executor import LatentExecutor
from audiotok.runtime.sessions import encode_together
from audiotok.tokens.latents import Latents
from audiotok.tokens.tokens import Tokens

log = logging.getLogger("audiotok")
T = TypeVar("T")


def latents_of(codec: Codec, recording: Recording, rate: int | None = None) -> Latents:
    """Return the latents of one recording, which `quantize` turns into its codes to the bit.

    They are computed in the blocks of `codec.encode`, so they are equal however many recordings
    follow each other.

    Args:
        codec: any codec of one audio channel; for k-means units without the means of recordings,
            `Kmeans.uncentred` gives the vectors of Vec-Tok.
        recording: as for `Codec.encode`; channels are mixed down.
        rate: sample rate of an array or tensor in Hz.

    Raises:
        AudioFileError: the file cannot be read.
        ValueError: samples that `Codec.encode` refuses.
    """
    audio = to_audio(recording, rate)
    if len(audio):
        check_level(*map(float, audio.samples.aminmax()))
    at_rate = (audio.mono() if codec.channels == 1 else audio).resample(codec.sample_rate)
    if at_rate.channels != codec.channels:
        raise InputError(f"{at_rate.channels} channels: {codec.name} takes {codec.channels}")
    executor = LatentExecutor(codec, codec.device)
    wave = at_rate.samples.to(codec.device)
    values = encode_together(executor, [wave], codec.codebooks)[0]
    return Latents(
        values=values.float().cpu().numpy(),
        codec=codec.name,
        fingerprint=codec.fingerprint,
        sample_rate=codec.sample_rate,
        frame_size=codec.frame_size,
        samples=len(at_rate),
        original_rate=audio.rate,
        original_samples=len(audio),
    )


def mono_audio(
    recordings: Sequence[Listed], what: str, *, console: Console | None = None
) -> Iterator[Audio]:
    """Yield the audio of `mono_recordings`."""
    for _, audio in mono_recordings(recordings, what, console=console):
        yield audio


def mono_recordings(
    recordings: Sequence[Listed], what: str, *, console: Console | None = None
) -> Iterator[tuple[Listed, Audio]]:
    """Yield recordings with their mono audio; what cannot be read is left out and logged.

    Args:
        recordings: recordings of a listing.
        what: what is computed of them, for the progress bar.
        console: where progress is shown; stderr if None.
    """
    for recording in progress(recordings, what, console):
        try:
            audio = recording.load().mono()
        except AudioFileError as error:
            log.warning("%s; it is left out", error)
            continue
        yield recording, audio


def progress(of: Sequence[T], what: str, console: Console | None = None) -> Iterable[T]:
    """Return items with a progress bar beside them, on a terminal only.

    Args:
        of: the items.
        what: what is done with them.
        console: where it is shown; stderr if None.
    """
    console = console or Console(stderr=True)
    hidden = not console.is_terminal
    return track(of, what, console=console, transient=True, disable=hidden)


@torch.no_grad()
def quantize(codec: Codec, latents: Latents) -> Tokens:
    """Return the tokens of latents.

    Args:
        codec: the codec that the latents are of.
        latents: latents of `latents_of`.

    Raises:
        WrongTokensError: they are of another codec, or of other weights.
        NoCodesError: the codec has no quantizer.
    """
    if latents.codec != codec.name or not codec.has_codes_of(latents.fingerprint):
        raise WrongTokensError(
            f"latents of {latents.codec!r} {latents.fingerprint}, where the codec is "
            f"{codec.name!r} {codec.fingerprint}"
        )
    codec.needs_codes("quantize")
    values = torch.tensor(latents.values, dtype=torch.float32, device=codec.device)[None]
    codes = codec.quantizer.encode(values)[0].cpu().numpy()
    return codec.tokens_of(
        codes,
        codebooks=codec.codebooks,
        samples=latents.samples,
        original_rate=latents.original_rate,
        original_samples=latents.original_samples,
    )
