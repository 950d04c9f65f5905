#!/usr/bin/env bash
# sphn 0.2.1 (the audio library of moshi): its Opus files have no mark of their end.
#
# A guess that nearly every Ogg file supports: a stream's last page has the end-of-stream flag
# (RFC 3533, section 6, header_type 0x04), so a file whose last page lacks it was cut short. Every
# file of sphn.write_opus lacks it, however long the audio is. libsndfile's own Opus files have it.
# A reader that calls the absence damage refuses everything that sphn wrote; a last page that is
# whole is the better sign. A second surprise: libsndfile reads back 60 to 80 ms less than went in,
# so lengths cannot be taken from such a file either.
#
# Seen 2026-11-29, Linux x86-64, Python 3.11:
#   sphn      0.5 s  end mark: no   read back 0.420 s
#   soundfile 0.5 s  end mark: yes  read back 0.500 s
#   sphn      3.0 s  end mark: no   read back 2.940 s
#   soundfile 3.0 s  end mark: yes  read back 3.000 s
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet sphn==0.2.1 soundfile==0.14.0 numpy==2.2.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
import sphn

RATE = 24000


def marked(path: str) -> bool:
    """Return whether the last page of an Ogg file has the end-of-stream flag."""
    data = Path(path).read_bytes()
    return bool(data[data.rindex(b"OggS") + 5] & 0x04)


print(f"sphn {version('sphn')}, soundfile {soundfile.__version__}")
marks, lengths = {}, {}
for seconds in (0.5, 3.0):
    time = np.arange(int(seconds * RATE)) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 330 * time)).astype(np.float32)
    sphn.write_opus("sphn.opus", tone, RATE)
    soundfile.write("soundfile.opus", tone, RATE, format="OGG", subtype="OPUS")
    for name in ("sphn", "soundfile"):
        mark = marks[name, seconds] = marked(f"{name}.opus")
        back, rate = soundfile.read(f"{name}.opus")
        lengths[name, seconds] = round(len(back) / rate, 3)
        print(
            f"{name:9} {seconds} s  end mark: {'yes' if mark else 'no ':3}"
            f"  read back {len(back) / rate:.3f} s"
        )
same = all(mark == (name == "soundfile") for (name, _), mark in marks.items())
same &= list(lengths.values()) == [0.42, 0.5, 2.94, 3.0]
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
