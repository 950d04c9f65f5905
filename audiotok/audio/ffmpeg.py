"""Decoding of audio tracks by the ffmpeg program, where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from audiotok.audio.base import CHUNK, AudioFileError, Decoder, cut_off


def open_ffmpeg(path: str, name: str, stack: ExitStack) -> Decoder | None:
    """Open the first audio track of a file; return None where ffmpeg is not installed.

    Args:
        path: the file to decode.
        name: the file, for messages.
        stack: owns the process and its log.

    Raises:
        AudioFileError: ffmpeg cannot read the file, or it has no audio track.
    """
    ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
    if ffmpeg is None or ffprobe is None:
        return None
    # "file:" and the whitelist keep a file's name and its content from making ffmpeg go online.
    source = ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]
    show = ["-select_streams", "a:0", "-show_entries", "stream=sample_rate,channels", "-of", "json"]
    probe = subprocess.run(
        [ffprobe, "-v", "error", *show, *source], capture_output=True, stdin=subprocess.DEVNULL
    )
    streams = json.loads(probe.stdout or b"{}").get("streams", [])
    if not probe.returncode and not streams:
        raise AudioFileError(f"{name}: there is no sound in this file")
    track = streams[0] if streams else {}
    rate, channels = int(track.get("sample_rate", 0)), int(track.get("channels", 0))
    if probe.returncode or not rate or not channels:
        raise AudioFileError(
            f"{name}: neither libsndfile nor ffmpeg can read it (damaged, or not audio)"
        )
    target = ["-map", "0:a:0", "-ac", str(channels), "-ar", str(rate)]
    target += ["-c:a", "pcm_f32le", "-f", "f32le"]
    log = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    process = subprocess.Popen(
        [ffmpeg, "-nostdin", "-v", "error", "-xerror", *source, *target, "pipe:1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
    )
    stack.enter_context(process)  # closes the pipe and waits for the process
    stack.callback(process.kill)

    def chunks() -> Iterator[np.ndarray]:
        assert process.stdout is not None
        done = 0
        while data := process.stdout.read(CHUNK * channels * 4):
            whole = len(data) // (4 * channels) * channels
            chunk = np.frombuffer(data, "<f4", whole).astype(np.float32).reshape(-1, channels)
            done += len(chunk)
            yield chunk
        failed = process.wait() != 0
        log.seek(0)
        lines = log.read().decode(errors="replace").splitlines()
        if failed or any("ended prematurely" in line for line in lines):  # of a cut matroska file
            why = re.sub(r"^\[.*?\] ", "", lines[-1]) if lines else "ffmpeg failed"
            why = why.replace(f"file:{path}", name)
            if not done:
                raise AudioFileError(
                    f"{name}: libsndfile cannot read this format, and ffmpeg fails ({why}); "
                    "convert it to wav or flac with the program that wrote it"
                )
            raise cut_off(name, done, rate, why)

    return Decoder(name, rate, channels, None, 0, chunks())
