"""The base of all feature extractors: features of a recording, frame by frame."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from audiotok._platform.errors import Error, InputError
from audiotok.audio.audio import Audio
from audiotok.nn.finite import check_finite
from audiotok.nn.pretrained.reader import read_config

Batch = Float[Tensor, "b t"]
States = Float[Tensor, "b f d"]
FeatureFrames = Float[Tensor, "f d"]
Choice = int | Literal["mean"]
"""A hidden state (0 is the input of the first layer, n the output of layer n), or their mean."""


class TeacherError(Error, ValueError):
    """Weights that are missing, or that belong to another model."""


class Teacher(nn.Module):
    """A frozen pretrained model that turns a recording into features `[f d]`.

    Attributes:
        name: name of the model, and of all its features depend on beside weights and layer.
        sample_rate: rate of its input, Hz.
        frame_rate: features per second.
        width: numbers in one feature, d.
        layers: number of layers; there is one hidden state more.
        reads_text: whether its features depend on the text rather than on the sound.
        positional: number of principal components, from that of most variance, that depend on the
            time since the start rather than on the sound; fitted units leave them out.
        settings: arguments of `load`, and of the constructor, that its features depend on.
        sizes: the other arguments of the constructor, which builds the network without weights;
            None where it cannot do so.
    """

    name: str
    sample_rate: int = 16000
    frame_rate: Fraction = Fraction(50)
    width: int
    layers: int
    reads_text: bool = False
    positional: int = 0
    settings: Mapping[str, Any] = MappingProxyType({})
    sizes: Mapping[str, Any] | None = None

    @classmethod
    def load(cls, weights: str | Path) -> Teacher:
        """Load a model with these weights, in eval mode and without gradients.

        Args:
            weights: a path, or a name on a hub.

        Raises:
            TeacherError: no such weights, or another model's; the message tells where to put them.
        """
        raise NotImplementedError

    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> FeatureFrames:
        """Return the features `[f d]` of one recording, in float32 and without gradients.

        Args:
            audio: a recording of any length, at any rate.
            layer: a hidden state, 0 to `layers`, or "mean" for the mean of all, as in
                SpeechTokenizer (Zhang et al. 2024, arXiv:2308.16692, section 3.2) and DM-Codec.
            text: transcript of the recording, for a model that reads text.

        Raises:
            ValueError: no such layer, no samples, or no text where it is needed.
        """
        raise NotImplementedError

    def chosen(self, wave: Batch, layers: Sequence[Choice]) -> Float[Tensor, "s b f d"]:
        """Return hidden states of recordings of one length.

        Args:
            wave: samples `[b t]` at `sample_rate`, of any length.
            layers: hidden states, as for `features`; s of them.
        """
        audios = [Audio(samples[None], self.sample_rate) for samples in wave]
        rows = [[self.features(audio, layer=layer) for audio in audios] for layer in layers]
        return torch.stack([torch.stack(row) for row in rows])

    def check_layer(self, layer: Choice) -> None:
        """Raise ValueError unless the model has such a hidden state."""
        if layer != "mean" and not 0 <= layer <= self.layers:
            raise InputError(
                f"teacher {self.name!r} has hidden states 0 to {self.layers}, or their mean"
                f' ("mean"), not {layer!r}'
            )

    def choose(self, states: Iterable[Tensor], layers: Sequence[Choice]) -> Tensor:
        """Return the chosen of all hidden states, stacked; states after them are not computed."""
        last = self.layers if "mean" in layers else max(int(layer) for layer in layers)
        kept: dict[Choice, Tensor] = {}
        total = torch.zeros(())
        for i, state in zip(range(last + 1), states, strict=False):
            if i in layers:
                kept[i] = state
            if "mean" in layers:
                total = state + total
        kept["mean"] = total / (self.layers + 1)
        return torch.stack([kept[layer] for layer in layers])

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that identify the weights, on any device and from any file."""
        if not hasattr(self, "_fingerprint"):
            digest = hashlib.sha256()
            for key, value in sorted(self.state_dict().items()):
                digest.update(key.encode())
                digest.update(value.detach().cpu().float().contiguous().numpy())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def ready(self, state: dict[str, Tensor], source: Path) -> None:
        """Load the weights into the network and freeze it.

        Args:
            state: tensors by the names of this network.
            source: file or folder that they come from, for messages.

        Raises:
            TeacherError: they do not fit.
            NotFiniteError: they hold NaN or infinity.
        """
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise TeacherError(
                f"{source}: no weights of teacher {self.name!r}: {_line(error)}"
            ) from None
        check_finite(self.state_dict(), source)
        self.eval().requires_grad_(False)


class SpeechTeacher(Teacher):
    """A feature extractor that takes audio; a subclass implements `states`.

    Attributes:
        window: longest piece that it processes at once, in frames.
        overlap: frames that neighbouring pieces of a longer recording share.
    """

    window: int = 1500
    overlap: int = 200

    def states(self, wave: Batch) -> Iterator[States]:
        """Yield hidden states 0 to `layers`, `[b f d]`, of samples `[b t]` at `sample_rate`."""
        raise NotImplementedError

    def hidden(self, wave: Batch) -> Float[Tensor, "s b f d"]:
        """Return all hidden states `[s b f d]` of samples at `sample_rate`, with s = layers + 1."""
        return torch.stack(list(self.states(wave)))

    @torch.no_grad()
    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> FeatureFrames:
        """See `Teacher.features`; the audio is mixed to mono and resampled."""
        self.check_layer(layer)
        wave = audio.mono().resample(self.sample_rate).samples
        if not wave.shape[1]:
            raise InputError(f"teacher {self.name!r} was given no samples")
        return self.chosen(wave.to(next(self.parameters()).device), [layer])[0, 0]

    def chosen(self, wave: Batch, layers: Sequence[Choice]) -> Float[Tensor, "s b f d"]:
        """See `Teacher.chosen`; it passes gradients on, and computes no later layer.

        A recording longer than `window` is processed in pieces of that length. A frame is taken
        from the piece that holds it further from its edge:

            |----------- piece 1 ---|...|
                                |...|----------- piece 2 ---|...|
                                                        |...|--- piece 3 ---|
        """
        samples = wave.shape[1]
        hop = int(self.sample_rate / self.frame_rate)
        step, size, half = self.window - self.overlap, self.window * hop, self.overlap // 2
        pieces, first = [], 0
        for start in range(0, samples, step * hop):
            piece = self.choose(self.states(wave[:, start : start + size]), layers)
            last = start + size >= samples
            pieces.append(piece[:, :, first:] if last else piece[:, :, first : step + half])
            if last:
                break
            first = half
        return torch.cat(pieces, 2)


def _line(error: Exception) -> str:
    """Return a message of torch, which may run over many lines, as one line."""
    return " ".join(str(error).split())[:300]


def read_weights(path: Path) -> dict[str, Any]:
    """Return the tensors of a .safetensors file by name, or the content of a PyTorch file.

    Pickles are only read as far as PyTorch holds them safe (`weights_only`).

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
    """Return config and tensors of a folder that `transformers` wrote, of all its weights files.

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
    """Return the variables under `prefix` of a CTranslate2 `model.bin`, version 6 of its format.

    The file is little-endian; a text is its length with the closing zero (u16), bytes, zero:

        u32 version   text model   u32 revision   u32 variables
        of each:      text name    u8 axes, u32 of each   u8 type   u32 bytes, content
        u32 aliases   of each: text alias, text name

    (`ModelSpec._serialize` in CTranslate2's python/ctranslate2/specs/model_spec.py.)

    Args:
        path: the `model.bin` file.
        prefix: beginning of the names of the variables to return.

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
            variables = {}
            for _ in range(read("I")):
                name = text()
                shape = [read("I") for _ in range(read("B"))]
                dtype, size = CT2_TYPES[read("B")], read("I")
                if not name.startswith(prefix):
                    file.seek(size, 1)
                    continue
                content = bytearray(file.read(size))
                variables[name] = torch.frombuffer(content, dtype=dtype).reshape(shape)
        except (struct.error, ValueError, IndexError, RuntimeError) as error:
            if isinstance(error, TeacherError):
                raise
            raise TeacherError(f"{path}: a damaged CTranslate2 model ({error})") from None
    return variables


def local_weights(weights: str | Path, *, needs: str) -> Path:
    """Return the local path of `weights`: itself if it exists, else its download from the hub.

    Args:
        weights: a path, or a model's name on the Hugging Face hub ("owner/name").
        needs: description of the files that belong at such a path, for the message.

    Raises:
        TeacherError: neither exists; the message tells where to put the files.
    """
    path = Path(weights).expanduser()
    if path.exists():
        return path
    remedy = f"download {needs} on a machine that has a network and give its path"
    name = str(weights)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise TeacherError(f"{weights}: no such file or folder; {remedy}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise TeacherError(
            f"{name}: no such folder, and the hub needs `pip install huggingface_hub`; or {remedy}"
        ) from None
    try:
        kinds = ["*.json", "*.txt", "*.safetensors", "pytorch_model*.bin"]
        return Path(snapshot_download(name, allow_patterns=kinds))
    except Exception as error:  # the hub raises its own errors, those of requests and of the OS
        raise TeacherError(
            f"{name}: not to be had from the hub ({type(error).__name__}); {remedy}"
        ) from None
