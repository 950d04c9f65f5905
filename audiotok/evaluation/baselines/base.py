"""What every anchor promises: what a recording comes back as, and how many bytes it took."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from torch.nn import functional as F

from audiotok.audio.audio import Audio


class Anchor:
    """A codec by another program, or a row such as the original or noise.

    Attributes:
        option: what stands behind the colon in `opus:6`; what it means is the anchor's.
        nominal_kbps: the rate it names; None where it has none.
        facts: versions and settings, printed with the results.
        slack: seconds by which an output may be longer or shorter than its recording.
    """

    nominal_kbps: float | None = None
    slack: float = 0.0

    def __init__(self, option: str = "") -> None:
        """See the anchor.

        Raises:
            ValueError: it has no such option; says which there are.
        """
        self.option = option
        self.facts: dict[str, Any] = {}

    def through(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """The recording `[1 t]` as it comes back, at its own rate and, but for `slack`, its length.

        Args:
            audio: the recording.
            name: its path relative to the corpus, for an anchor that looks it up.

        Returns:
            The audio and the bytes written; None where nothing is.

        Raises:
            ValueError: the program failed on this recording; says why.
            MissingModelError: weights are not here; says where to put them.
            ImportError: a program or library is missing; says how to get it.
        """
        raise NotImplementedError

    def stamp(self, name: str) -> str:
        """What changes when the output for this recording may, whose option is the same."""
        return ""


def run(package: str, *command: object) -> str:
    """What a program says, run with these words.

    Raises:
        ImportError: there is no such program; `package` is the Debian package that has it.
        ValueError: it failed; its last words say why.
    """
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise ImportError(f"the program {words[0]} is not installed: apt-get install {package}")
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ValueError(f"{words[0]} failed ({done.returncode}): {last[:200]}")
    return done.stdout or done.stderr


def version_of(program: str, *words: str) -> str:
    """The first line of what a program says of its version, or that it is not installed."""
    if shutil.which(program) is None:
        return "not installed"
    lines = run(program, program, *words).strip().splitlines()
    return lines[0] if lines else "unknown"


def fitted(made: Audio, audio: Audio, *, seconds: float) -> Audio:
    """`made` at the rate and the length of `audio`: cut, or filled with zeros, at its end.

    Raises:
        ValueError: the lengths differ by more than `seconds`.
    """
    made = made.mono().resample(audio.rate)
    short = len(audio) - len(made)
    if abs(short) > seconds * audio.rate:
        raise ValueError(
            f"came back as {made.seconds:.3f} s, the recording has {audio.seconds:.3f} s; at most "
            f"{seconds * 1000:.0f} ms are made up for"
        )
    return Audio(F.pad(made.samples, (0, max(0, short)))[:, : len(audio)], audio.rate)
