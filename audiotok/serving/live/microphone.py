"""Microphone to tokens to loudspeaker, frame by frame, with level and latency.

microphone -> callback -> queue -> encode -> tokens -> decode -> queue -> callback -> loudspeaker

Two devices are opened and not one for both directions: that stalls where ALSA stands in for
PulseAudio or PipeWire, as on most Linux desktops.
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

from audiotok._platform.errors import Error
from audiotok._platform.optional import optional_import
from audiotok._platform.signals import DeferredInterrupts
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.stream import Stream
from audiotok.serving.live.latency import Spread, Times
from audiotok.serving.live.pipe import header_of
from audiotok.tokens import TokenSink

WAIT = 5.0  # seconds to wait for samples of a sound device
LATE = 0.1  # seconds of decoded audio that may wait for the loudspeaker; older audio is dropped


class MicrophoneError(Error, ValueError):
    """Error of a missing or failed sound device; one line."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """State of a run of the microphone after a frame."""

    seconds: float
    level: float  # dB below full scale, of the latest frame
    nominal_kbps: float
    frames: int
    latency: float  # seconds, algorithmic
    device: float  # seconds, latency that the sound devices report
    took: Spread  # seconds to encode and decode a frame
    dropped: int  # number of gaps: nothing to play, or samples of the microphone lost


def library() -> ModuleType:
    """Return the sounddevice library.

    Raises:
        MicrophoneError: PortAudio is not installed.
        ImportError: sounddevice is not installed.
    """
    try:
        return optional_import("sounddevice", extra="mic")
    except OSError as error:  # raised by sounddevice without PortAudio
        way = "`apt install libportaudio2`, `brew install portaudio`"
        raise MicrophoneError(f"no PortAudio here ({error}): {way}") from None


def devices() -> str:
    """Return a list of the sound devices, one per line."""
    return str(library().query_devices())


@contextmanager
def _explained(sound: ModuleType) -> Iterator[None]:
    try:
        yield
    except (sound.PortAudioError, ValueError) as error:
        why = " ".join(str(error.args[0] if error.args else error).split())
        way = "--list shows the devices, --input and --output choose one"
        raise MicrophoneError(f"no sound device will do: {why}; {way}") from None


def loopback(
    codec: RunnableCodec[Any],
    *,
    codebooks: int | None = None,
    source: int | str | None = None,
    target: int | str | None = None,
    play: bool = True,
    out: BufferedIOBase | None = None,
    seconds: float = math.inf,
    on_frame: Callable[[Level], None] = lambda _level: None,
) -> Level:
    """Encode the microphone and play the decoded audio, until a time limit or Ctrl-C.

    Args:
        codec: a codec that can stream.
        codebooks: number of codebooks to use; all if None.
        source: microphone, a number or part of its name; the system's default if None.
        target: loudspeaker, likewise.
        play: whether the decoded audio is played.
        out: file or pipe to which the tokens are written as a .tok file, if any.
        seconds: time limit in seconds.
        on_frame: function that is called with the state after every frame.

    Returns:
        The state after the last frame.

    Raises:
        MicrophoneError: there is no such device, or it stopped.
        ValueError: the codec cannot stream.
    """
    sound = library()
    codec.check_one_rate()
    size, rate = codec.frame_size, codec.sample_rate
    recorded: queue.Queue[np.ndarray] = queue.Queue()
    played: queue.Queue[np.ndarray] = queue.Queue()
    lost = [0]

    def listen(incoming: Any, _count: int, _time: Any, status: Any) -> None:
        lost[0] += bool(status)
        recorded.put(incoming.T.copy())

    def speak(outgoing: Any, _count: int, _time: Any, status: Any) -> None:
        lost[0] += bool(status)
        while played.qsize() > max(1, LATE * rate / size):
            played.get_nowait()
            lost[0] += 1
        try:
            outgoing[:] = played.get_nowait().T
        except queue.Empty:
            outgoing.fill(0)
            lost[0] += playing

    stream, times = Stream(codec, codebooks=codebooks), Times()
    header = header_of(codec, codebooks=codebooks, rate=rate)
    sink = TokenSink(out, header) if out is not None else None
    options: dict[str, Any] = {"samplerate": rate, "channels": codec.channels}
    options |= {"blocksize": size, "dtype": "float32", "latency": "low"}
    playing, samples, frames = False, 0, 0
    # Decoded samples, less than a block of the loudspeaker.
    waiting, numpy = np.zeros((codec.channels, 0), np.float32), codec.executor.numpy
    with _explained(sound):
        devices = [sound.InputStream(device=source, callback=listen, **options)]
        if play:  # starts first, so that no audio accumulates before it
            devices.insert(0, sound.OutputStream(device=target, callback=speak, **options))
    level = None

    def status(piece: np.ndarray) -> Level:
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
        # Ctrl-C waits for the end of a step, so that the tokens are of all that was heard.
        with DeferredInterrupts() as interrupts, _explained(sound), ExitStack() as stack:
            for device in devices:
                stack.enter_context(device)
            while samples < seconds * rate:
                try:
                    with interrupts.allowed():
                        piece = recorded.get(timeout=WAIT)
                except queue.Empty:
                    raise MicrophoneError(f"the microphone gave nothing for {WAIT:g} s") from None
                start = perf_counter()
                codes = stream.encode(piece)
                decoded = numpy(stream.decode(codes))
                times.add(perf_counter() - start)
                samples, frames = samples + piece.shape[1], frames + codes.shape[1]
                if sink is not None:
                    sink.append(numpy(codes))
                waiting = np.concatenate([waiting, decoded], 1)
                while waiting.shape[1] >= size:
                    played.put(waiting[:, :size])
                    waiting = waiting[:, size:]
                    playing = True
                level = status(piece)
                on_frame(level)
    finally:
        if sink is not None:
            sink.append(numpy(stream.finish_encode()))
            sink.finish(samples)
    return level or status(np.zeros((1, 0)))
