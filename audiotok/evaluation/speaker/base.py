"""Interface of a speaker encoder: the embedding of a recording's speaker."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.optional import MissingModelError
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.evaluation.cache import BoundedCache, fingerprint

USUAL = "resemblyzer"
REMEMBERED = 2000  # vectors


class SpeakerEncoder:
    """Speaker encoder, loaded when it is first used; cosines of its vectors measure similarity.

    Attributes:
        usual: name of the default model; "" where it comes with the package, or must be given.
        model: a local path or a name.
    """

    usual: str = ""

    def __init__(self, model: str = "") -> None:
        self.model = model or self.usual
        self._cache = BoundedCache[Tensor](REMEMBERED)

    @property
    def protocol(self) -> str:
        """Model and settings, printed beside every number that depends on them."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Name of the model, without its folder."""
        return Path(self.model).name if Path(self.model).expanduser().exists() else self.model

    def embed(self, audio: Audio) -> Float[Tensor, " d"]:
        """Return the vector `[d]` of length 1 of a recording of any rate.

        Raises:
            ValueError: there is no speech in the recording, or too little.
            MissingModelError: the model is not here; the message says where to get it.
            ImportError: a library is not installed; the message says how to install it.
        """
        raise NotImplementedError

    def vector(self, audio: Audio) -> Float[Tensor, " d"]:
        """Return the vector as `embed` does, from the cache for recordings embedded before."""
        if audio.silent:
            raise InputError("nobody speaks: the recording is silent or has no samples")
        key = fingerprint(audio.samples, audio.rate)
        cached = self._cache.get(key)
        return self._cache.put(key, self.embed(audio)) if cached is None else cached


@cache
def speaker_encoder(spec: str = "") -> SpeakerEncoder:
    """Return the speaker encoder that `NAME:MODEL` names, one for the whole process.

    Args:
        spec: "wespeaker:/path/of/model.onnx"; without a model the encoder's default one; "" is
            resemblyzer.

    Raises:
        UnknownPartError: there is no such encoder; the message lists those there are.
    """
    name, _, model = spec.partition(":")
    return find("speaker", name or USUAL)(model)


def local(model: str, what: str) -> Path:
    """Return the path of the file or folder that a model's name is.

    Args:
        model: path as the user gave it.
        what: description of the file that is needed and where to get it, for the message.

    Raises:
        MissingModelError: there is no such file.
    """
    path = Path(model).expanduser()
    if not model or not path.exists():
        raise MissingModelError(f"{model or 'no model given'}: no such file; wanted is {what}")
    return path


def unit(vector: Tensor) -> Float[Tensor, " d"]:
    """Return the vector scaled to length 1, as a flat float32 vector on the CPU.

    Raises:
        ValueError: its length is zero or not finite.
    """
    vector = vector.detach().cpu().float().flatten()
    length = vector.norm()
    if not (length.isfinite() and length > 0):
        raise InputError("the embedder found no voice in the recording")
    return vector / length
