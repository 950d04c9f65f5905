"""Interface of a baseline: the output for a recording, and the bytes it took."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from torch.nn import functional as F

from audiotok._platform.errors import InputError, MissingLibraryError
from audiotok.audio.audio import Audio


class Baseline:
    """Codec run by another program, or a reference row such as the original or noise.

    Attributes:
        option: the part behind the colon in `opus:6`; each baseline defines its meaning.
        nominal_kbps: nominal rate in kbps; None where it has none.
        facts: versions and settings, printed with the results.
        slack: seconds by which an output may be longer or shorter than its recording.
    """

    nominal_kbps: float | None = None
    slack: float = 0.0

    def __init__(self, option: str = "") -> None:
        """Create the baseline.

        Raises:
            ValueError: there is no such option; the message says which there are.
        """
        self.option = option
        self.facts: dict[str, Any] = {}

    def process(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """Return the output for a recording `[1 t]`, at its rate and, but for `slack`, its length.

        Args:
            audio: the recording.
            name: its path relative to the corpus, for a baseline that looks it up.

        Returns:
            The audio and the bytes written; None where none are.

        Raises:
            ValueError: the program failed on this recording; the message says why.
            MissingModelError: model weights are missing; the message says where to put them.
            ImportError: a program or library is missing; the message says how to install it.
        """
        raise NotImplementedError

    def stamp(self, name: str) -> str:
        """Return a text that changes when the output for a recording may, at the same option."""
        return ""


def run(package: str, *command: object) -> str:
    """Run a program and return its output.

    Args:
        package: Debian package of the program, for the message.
        *command: program and arguments.

    Raises:
        ImportError: the program is not installed.
        ValueError: the program failed; the message has its last line.
    """
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise MissingLibraryError(
            f"the program {words[0]} is not installed: apt-get install {package}"
        )
    completed = subprocess.run(words, capture_output=True, text=True, errors="replace")
    if completed.returncode:
        last = (completed.stderr.strip() or completed.stdout.strip() or "no message").splitlines()[
            -1
        ]
        raise InputError(f"{words[0]} failed ({completed.returncode}): {last[:200]}")
    return completed.stdout or completed.stderr


def program_version(program: str, *words: str) -> str:
    """Return the first line of a program's version, or that it is not installed."""
    if shutil.which(program) is None:
        return "not installed"
    lines = run(program, program, *words).strip().splitlines()
    return lines[0] if lines else "unknown"


def fit_length(output: Audio, audio: Audio, *, seconds: float) -> Audio:
    """Return an output at the rate and length of the recording, cut or padded at its end.

    Args:
        output: the output.
        audio: the recording.
        seconds: largest difference of lengths.

    Raises:
        ValueError: the lengths differ by more than `seconds`.
    """
    output = output.mono().resample(audio.rate)
    missing = len(audio) - len(output)
    if abs(missing) > seconds * audio.rate:
        raise InputError(
            f"came back as {output.seconds:.3f} s, the recording has {audio.seconds:.3f} s; "
            f"at most {seconds * 1000:.0f} ms are made up for"
        )
    return Audio(F.pad(output.samples, (0, max(0, missing)))[:, : len(audio)], audio.rate)
