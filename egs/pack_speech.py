"""Pack speech of any source into one small tar file, to take to a machine for an hour of training.

    python egs/pack_speech.py LISTING OUT.tar [MEGABYTES=40] [KBPS=32]

Recordings are drawn at random and stored as Opus, with their split, speaker and text beside them.
The tar file is a WebDataset, so training reads it like any other source. Lossy audio is heard:
for 40 MB of speech, 32 kbps keeps more voices than FLAC would.
"""

from __future__ import annotations

import io
import json
import random
import sys
import tarfile
from collections.abc import Iterator

import soundfile

from audiotok import Audio, Error
from audiotok.data import Recording, read_manifest

RATE = 16000  # Hz
HIGHEST = 256  # kbps of one channel at a compression level of 0; 6 at a level of 1


def members(
    recording: Recording, audio: Audio, name: str, kbps: float
) -> Iterator[tuple[str, bytes]]:
    """Yield the members of a recording, name and content: its audio, then what is known of it."""
    file, level = io.BytesIO(), (HIGHEST - kbps) / (HIGHEST - 6)
    soundfile.write(
        file, audio.samples[0].numpy(), RATE, format="OGG", subtype="OPUS", compression_level=level
    )
    yield f"{name}.opus", file.getvalue()
    known = {"split": recording.split, "speaker": recording.speaker, "text": recording.text}
    yield f"{name}.json", json.dumps(known).encode()


def pack(listing: str, out: str, megabytes: float, kbps: float) -> None:
    """Write recordings of a listing, drawn at random, to a tar file of at most this size."""
    recordings, count, seconds = list(read_manifest(listing)), 0, 0.0
    random.Random(0).shuffle(recordings)
    with tarfile.open(out, "w") as tar:
        for recording in recordings:
            audio = recording.load().mono().resample(RATE)
            pairs = list(members(recording, audio, f"{count:06}", kbps))
            # Each member fills blocks of 512 bytes after a header of one.
            size = sum(1024 + len(data) for _, data in pairs)
            if tar.offset + size + tarfile.RECORDSIZE > megabytes * 1e6:
                break
            for name, data in pairs:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
            count, seconds = count + 1, seconds + audio.seconds
    print(f"{out}: {count:,} of {len(recordings):,} recordings, {seconds / 3600:.2f} h")


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    try:
        sizes = [*sys.argv[3:], *("40", "32")[len(sys.argv) - 3 :]]
        pack(sys.argv[1], sys.argv[2], *map(float, sizes))
    except (Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
