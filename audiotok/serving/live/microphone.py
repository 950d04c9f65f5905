"""Microphone to tokens to loudspeaker, frame by frame, with what is heard and how late.

microphone -> callback -> queue -> encode -> tokens -> decode -> queue -> callback -> loudspeaker

Two devices are opened, not one both ways: that stalls where ALSA stands in for PulseAudio or
PipeWire, as on most desktops with Linux.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
import torch

from audiotok._platform.optional import needed
from audiotok.codecs.models.base import Codec
from audiotok.runtime.stream import Stream
from audiotok.serving.live.latency import Spread, Times
from audiotok.serving.live.pipe import header_of
from audiotok.tokens import TokenSink

WAIT = 5.0  # seconds for a sound device that gives nothing
LATE = 0.1  # seconds of decoded audio that may wait for the loudspeaker; older ones are left out


class MicrophoneError(ValueError):
    """No sound device that will do; one line."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Where a conversation with the microphone is."""

    seconds: float
    level: float  # dB below full scale, of the latest frame
    nominal_kbps: float
    frames: int
    latency: float  # seconds, algorithmic
    device: float  # seconds, of the sound devices, as they say
    took: Spread  # to compute a frame there and back
    dropped: int  # times that the loudspeaker had nothing to play, or the microphone lost some


def library() -> ModuleType:
    """The sounddevice library, with PortAudio under it.

    Raises:
        MicrophoneError: PortAudio is not on this machine.
        ImportError: sounddevice is not installed.
    """
    try:
        return needed("sounddevice", extra="mic")
    except OSError as error:  # what it raises where PortAudio is not
        way = "`apt install libportaudio2`, `brew install portaudio`"
        raise MicrophoneError(f"no PortAudio here ({error}): {way}") from None


def devices() -> str:
    """The sound devices there are, a line each."""
    return str(library().query_devices())


@contextmanager
def _explained(sound: ModuleType) -> Iterator[None]:
    try:
        yield
    except (sound.PortAudioError, ValueError) as error:
        why = " ".join(str(error.args[0] if error.args else error).split())
        way = "--list shows the devices, --input and --output choose one"
        raise MicrophoneError(f"no sound device will do: {why}; {way}") from None


def talk(
    codec: Codec,
    *,
    codebooks: int | None = None,
    source: int | str | None = None,
    target: int | str | None = None,
    play: bool = True,
    out: BufferedIOBase | None = None,
    seconds: float = math.inf,
    told: Callable[[Level], None] = lambda _level: None,
) -> Level:
    """Talks to itself until so many seconds are over, or Ctrl-C.

    Args:
        codec: that can stream.
        codebooks: how many to use (all if None).
        source: the microphone, a number or a part of its name; the system's if None.
        target: the loudspeaker, likewise.
        play: whether what is decoded is played.
        out: where tokens go too, as a .tok file.
        seconds: how long.
        told: of every frame.

    Raises:
        MicrophoneError: there is no such device, or it stopped.
        ValueError: a codec that cannot stream.
    """
    sound = library()
    size, rate = codec.frame_size, codec.sample_rate
    heard: queue.Queue[np.ndarray] = queue.Queue()
    said: queue.Queue[np.ndarray] = queue.Queue()
    lost = [0]

    def listen(incoming: Any, _count: int, _time: Any, status: Any) -> None:
        lost[0] += bool(status)
        heard.put(incoming.T.copy())

    def speak(outgoing: Any, _count: int, _time: Any, status: Any) -> None:
        lost[0] += bool(status)
        while said.qsize() > max(1, LATE * rate / size):
            said.get_nowait()
            lost[0] += 1
        try:
            outgoing[:] = said.get_nowait().T
        except queue.Empty:
            outgoing.fill(0)
            lost[0] += begun

    stream, times = Stream(codec, codebooks=codebooks), Times()
    header = header_of(codec, codebooks=codebooks, rate=rate)
    sink = TokenSink(out, header) if out is not None else None
    options: dict[str, Any] = {"samplerate": rate, "channels": codec.channels}
    options |= {"blocksize": size, "dtype": "float32", "latency": "low"}
    begun, samples, frames = False, 0, 0
    waiting = torch.zeros(codec.channels, 0)  # decoded, less than a block of the loudspeaker's
    with _explained(sound):
        devices = [sound.InputStream(device=source, callback=listen, **options)]
        if play:  # runs first, so that nothing piles up before it
            devices.insert(0, sound.OutputStream(device=target, callback=speak, **options))
    level = None

    def told_of(piece: np.ndarray) -> Level:
        power = float(np.square(piece).mean()) if piece.size else 0.0
        bits = sum(map(math.log2, header.sizes)) * float(codec.frame_rate)
        return Level(
            seconds=samples / rate,
            level=10 * math.log10(max(power, 1e-10)),
            nominal_kbps=bits / 1000,
            frames=frames,
            latency=stream.latency.algorithmic,
            device=sum(device.latency for device in devices),
            took=times.spread(),
            dropped=lost[0],
        )

    try:
        with _explained(sound), ExitStack() as stack:
            for device in devices:
                stack.enter_context(device)
            while samples < seconds * rate:
                try:
                    piece = heard.get(timeout=WAIT)
                except queue.Empty:
                    raise MicrophoneError(f"the microphone gave nothing for {WAIT:g} s") from None
                start = perf_counter()
                codes = stream.encode(torch.from_numpy(piece))
                sound_of = stream.decode(codes)
                times.add(perf_counter() - start)
                samples, frames = samples + piece.shape[1], frames + codes.shape[1]
                if sink is not None:
                    sink.append(codes.numpy())
                waiting = torch.cat([waiting, sound_of], 1)
                while waiting.shape[1] >= size:
                    said.put(waiting[:, :size].numpy())
                    waiting = waiting[:, size:]
                    begun = True
                level = told_of(piece)
                told(level)
    finally:
        if sink is not None:
            sink.append(stream.finish_encode().numpy())
            sink.finish(samples)
    return level or told_of(np.zeros((1, 0)))
