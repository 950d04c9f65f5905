"""What every teacher promises: features of one recording, frame by frame, to distil from."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from audiotok.audio.audio import Audio
from audiotok.nn.finite import check_finite
from audiotok.nn.pretrained.reader import read_config

Batch = Float[Tensor, "b t"]
States = Float[Tensor, "b f d"]
FeatureFrames = Float[Tensor, "f d"]
Choice = int | Literal["mean"]
"""Which hidden state: 0 is what enters the first layer, n what layer n gives; or their mean."""


class TeacherError(ValueError):
    """Weights that are not there, or that are not this teacher's."""


class Teacher(nn.Module):
    """A frozen model that turns a recording into features `[f d]`.

    Attributes:
        name: the teacher, and what its features depend on beside weights and layer.
        frame_rate: features per second.
        width: numbers in one feature, d.
        layers: how many; there is one hidden state more.
        reads_text: whether its features depend on the text rather than on the sound.
    """

    name: str
    frame_rate: Fraction = Fraction(50)
    width: int
    layers: int
    reads_text: bool = False

    @classmethod
    def load(cls, weights: str | Path) -> Teacher:
        """A teacher with these weights, in eval mode and without gradients.

        Args:
            weights: a path, or a name on a hub.

        Raises:
            TeacherError: no such weights, or another model's; says where to put them.
        """
        raise NotImplementedError

    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> FeatureFrames:
        """Features of one recording of any length, at any rate, in float32, without gradients.

        Args:
            audio: the recording.
            layer: a hidden state, 0 to `layers`, or the mean of all, which is that of
                SpeechTokenizer (Zhang et al. 2024, arXiv:2308.16692, section 3.2) and DM-Codec.
            text: what is said in it, for a teacher that reads.

        Raises:
            ValueError: no such layer, no samples, or no text where it is needed.
        """
        raise NotImplementedError

    def check_layer(self, layer: Choice) -> None:
        """Raises ValueError unless there is such a hidden state."""
        if layer != "mean" and not 0 <= layer <= self.layers:
            raise ValueError(
                f"teacher {self.name!r} has hidden states 0 to {self.layers}, or their mean"
                f' ("mean"), not {layer!r}'
            )

    def choose(self, states: Iterable[Tensor], layer: Choice) -> Tensor:
        """One of the hidden states, or their mean; those past it are not computed."""
        if layer != "mean":
            return next(state for i, state in enumerate(states) if i == layer)
        total = sum(states, start=torch.zeros(()))
        return total / (self.layers + 1)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name these weights, whatever the device or file format."""
        if not hasattr(self, "_fingerprint"):
            digest = hashlib.sha256()
            for key, value in sorted(self.state_dict().items()):
                digest.update(key.encode())
                digest.update(value.detach().cpu().float().contiguous().numpy())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def ready(self, state: dict[str, Tensor], source: Path) -> None:
        """Take the weights and freeze.

        Raises:
            TeacherError: they do not fit.
            NotFiniteError: they hold NaN or infinity.
        """
        try:
            self.load_state_dict({key: value.float() for key, value in state.items()})
        except RuntimeError as error:
            raise TeacherError(
                f"{source}: no weights of teacher {self.name!r}: {_line(error)}"
            ) from None
        check_finite(self.state_dict(), source)
        self.eval().requires_grad_(False)


class SpeechTeacher(Teacher):
    """A teacher that hears: a subclass writes `states`.

    Attributes:
        sample_rate: of what it hears, in Hz.
        window: the longest piece that it hears at once, in frames.
        overlap: frames that neighbouring pieces of a longer recording share.
    """

    sample_rate: int = 16000
    window: int = 1500
    overlap: int = 200

    def states(self, wave: Batch) -> Iterator[States]:
        """Hidden states 0 to `layers`, in turn, of samples at `sample_rate`."""
        raise NotImplementedError

    def hidden(self, wave: Batch) -> Float[Tensor, "s b f d"]:
        """All hidden states of samples at `sample_rate`, `s = layers + 1`."""
        return torch.stack(list(self.states(wave)))

    @torch.no_grad()
    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> FeatureFrames:
        """See `Teacher.features`; the audio is mixed to mono and resampled.

        A recording longer than `window` is heard in pieces of that length. A frame is taken from
        the piece that holds it further from its edge:

            |----------- piece 1 ---|...|
                                |...|----------- piece 2 ---|...|
                                                        |...|--- piece 3 ---|
        """
        self.check_layer(layer)
        wave = audio.mono().resample(self.sample_rate).samples
        samples = wave.shape[1]
        if not samples:
            raise ValueError(f"teacher {self.name!r} was given no samples")
        wave = wave.to(next(self.parameters()).device)
        hop = int(self.sample_rate / self.frame_rate)
        step, size, half = self.window - self.overlap, self.window * hop, self.overlap // 2
        kept, first = [], 0
        for start in range(0, samples, step * hop):
            piece = self.choose(self.states(wave[:, start : start + size]), layer)[0]
            last = start + size >= samples
            kept.append(piece[first:] if last else piece[first : step + half])
            if last:
                break
            first = half
        return torch.cat(kept)


def _line(error: Exception) -> str:
    """torch's messages run over many lines."""
    return " ".join(str(error).split())[:300]


def read_weights(path: Path) -> dict[str, Any]:
    """Tensors by name of a .safetensors file, or the content of a PyTorch file; pickles only load
    as far as PyTorch holds them safe (`weights_only`).

    Raises:
        TeacherError: it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise TeacherError(
            f"{path}: not weights that can be read: no PyTorch file, or one that holds more than"
            " tensors and plain values, which may run code"
        ) from None
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise TeacherError(f"{path}: not weights that can be read: {_line(error)}") from None


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a folder that `transformers` wrote, weights in one file or several.

    Raises:
        TeacherError: a file is missing or cannot be read.
    """
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    config = folder / "config.json"
    if not files or not config.is_file():
        raise TeacherError(
            f"{folder}: not a transformers checkpoint: config.json and model.safetensors"
            " (or pytorch_model.bin) belong in it"
        )
    state: dict[str, Tensor] = {}
    for file in files:
        state |= read_weights(file)
    return read_config(config), state


CT2_TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)


def read_ctranslate2(path: Path, prefix: str) -> dict[str, Tensor]:
    """The variables under `prefix` of a CTranslate2 `model.bin`, version 6 of its format.

    Little-endian; a text is its length with the closing zero (u16), bytes, zero:

        u32 version   text model   u32 revision   u32 variables
        of each:      text name    u8 axes, u32 of each   u8 type   u32 bytes, content
        u32 aliases   of each: text alias, text name

    (`ModelSpec._serialize` in CTranslate2's python/ctranslate2/specs/model_spec.py.)

    Raises:
        TeacherError: another version, or the file ends too early.
    """
    with path.open("rb") as file:

        def read(kind: str) -> int:
            return struct.unpack("<" + kind, file.read(struct.calcsize("<" + kind)))[0]

        def text() -> str:
            return file.read(read("H"))[:-1].decode()

        try:
            version = read("I")
            if version != 6:
                raise TeacherError(f"{path}: CTranslate2 format {version}, not 6: convert it again")
            text()  # the model's kind
            read("I")  # and its revision
            found = {}
            for _ in range(read("I")):
                name = text()
                shape = [read("I") for _ in range(read("B"))]
                dtype, size = CT2_TYPES[read("B")], read("I")
                if not name.startswith(prefix):
                    file.seek(size, 1)
                    continue
                content = bytearray(file.read(size))
                found[name] = torch.frombuffer(content, dtype=dtype).reshape(shape)
        except (struct.error, ValueError, IndexError, RuntimeError) as error:
            if isinstance(error, TeacherError):
                raise
            raise TeacherError(f"{path}: a damaged CTranslate2 model ({error})") from None
    return found


def fetched(weights: str | Path, *, needs: str) -> Path:
    """The local path of `weights`: itself if it exists, else its download from the hub.

    Args:
        weights: a path, or a model's name on the Hugging Face hub ("owner/name").
        needs: what has to lie at such a path, for the error.

    Raises:
        TeacherError: neither; says where to put the files.
    """
    path = Path(weights).expanduser()
    if path.exists():
        return path
    put = f"download {needs} on a machine that has a network and give its path"
    name = str(weights)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise TeacherError(f"{weights}: no such file or folder; {put}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise TeacherError(
            f"{name}: no such folder, and the hub needs `pip install huggingface_hub`; or {put}"
        ) from None
    try:
        kinds = ["*.json", "*.txt", "*.safetensors", "pytorch_model*.bin"]
        return Path(snapshot_download(name, allow_patterns=kinds))
    except Exception as error:  # the hub raises its own, requests' and OS errors
        raise TeacherError(
            f"{name}: not to be had from the hub ({type(error).__name__}); {put}"
        ) from None
