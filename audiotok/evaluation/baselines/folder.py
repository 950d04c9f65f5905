"""Folder of outputs that another program wrote for the recordings, in files of the same names."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePath

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.audio.walk import files_below
from audiotok.evaluation.baselines.base import Baseline

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".aiff", ".aif", ".wv"}


class Folder(Baseline):
    """Outputs of another program in a folder, as `folder:DIR`.

    The file for `a/b.flac` is DIR/a/b with any audio suffix, or else the only file below DIR that
    is called b. A file may be longer or shorter by at most 50 ms, since codecs round lengths to
    frames of their own. The part that both have from the start is scored; an output with a delay
    scores low.
    """

    slack = 0.05

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        self.folder = Path(option).expanduser()
        if not option or not self.folder.is_dir():
            raise InputError(f"folder:{option}: the option is a folder of audio, and there is none")
        self.files: dict[str, list[Path]] = defaultdict(list)  # by path and by stem
        for path in files_below(self.folder, SUFFIXES):
            name = path.relative_to(self.folder).with_suffix("").as_posix()
            for key in {name, path.stem}:
                self.files[key].append(path)
        self.facts = {"folder": self.folder.name}

    def find(self, name: str) -> Path:
        """Return the file for a recording, given by its path relative to the corpus.

        Raises:
            ValueError: there is none, or more than one.
        """
        if not name:
            raise InputError(f"a recording without a name has no file in {self.folder}")
        for key in (PurePath(name).with_suffix("").as_posix(), PurePath(name).stem):
            matches = self.files.get(key, [])
            if len(matches) == 1:
                return matches[0]
            if matches:
                named = ", ".join(str(path.relative_to(self.folder)) for path in matches[:3])
                raise InputError(f"{name}: more than one file in {self.folder} is it: {named}")
        raise InputError(f"{name}: no such file in {self.folder}")

    def process(self, audio: Audio, name: str = "") -> tuple[Audio, int | None]:
        """See `Baseline.process`; a file at another rate is resampled."""
        path = self.find(name)
        output = Audio.load(path).mono().resample(audio.rate)
        if abs(len(output) - len(audio)) > self.slack * audio.rate:
            raise InputError(
                f"{path}: is {output.seconds:.3f} s long, the recording {audio.seconds:.3f} s; "
                f"they may differ by {self.slack * 1000:.0f} ms"
            )
        return output, None

    def stamp(self, name: str) -> str:
        """See `Baseline.stamp`: a file that was replaced is scored again."""
        try:
            status = self.find(name).stat()
        except (ValueError, OSError):
            return "none"
        return f"{status.st_size} {status.st_mtime_ns}"
