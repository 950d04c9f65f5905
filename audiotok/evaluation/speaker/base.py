"""What every embedder promises: a vector that says who speaks."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from audiotok._platform.cache import Memory, fingerprint
from audiotok._platform.optional import MissingModelError
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio

USUAL = "resemblyzer"
REMEMBERED = 2000  # vectors


class Embedder:
    """Speech to a speaker's vector; cosine tells how alike two are. Models load at first use.

    Attributes:
        usual: its model where none is asked for; "" where it comes with the package, or must be
            given.
        model: a local path or a name.
    """

    usual: str = ""

    def __init__(self, model: str = "") -> None:
        self.model = model or self.usual
        self._seen = Memory[Tensor](REMEMBERED)

    @property
    def protocol(self) -> str:
        """Model and settings, printed beside every number made with it."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The model's, without where it lies."""
        return Path(self.model).name if Path(self.model).expanduser().exists() else self.model

    def embed(self, audio: Audio) -> Float[Tensor, " d"]:
        """The vector of a recording of any rate, of length 1.

        Raises:
            ValueError: nobody speaks in it, or not for long enough.
            MissingModelError: no such model here; says where to get it.
            ImportError: a library is not installed; says how to.
        """
        raise NotImplementedError

    def vector(self, audio: Audio) -> Float[Tensor, " d"]:
        """As `embed`, but what was heard lately is not heard again."""
        if audio.silent:
            raise ValueError("nobody speaks: the recording is silent or has no samples")
        key = fingerprint(audio.samples, audio.rate)
        found = self._seen.get(key)
        return self._seen.put(key, self.embed(audio)) if found is None else found


@cache
def embedder(spec: str = "") -> Embedder:
    """The embedder that `NAME:MODEL` names, one for the whole process.

    Args:
        spec: "wespeaker:/path/of/model.onnx"; without a model the embedder's usual one; "" is
            resemblyzer.

    Raises:
        UnknownPartError: no such embedder; the message lists those there are.
    """
    name, _, model = spec.partition(":")
    return find("embedders", name or USUAL)(model)


def local(model: str, what: str) -> Path:
    """The file or folder that a model's path names.

    Raises:
        MissingModelError: there is none; `what` says what is wanted and where to get it.
    """
    path = Path(model).expanduser()
    if not model or not path.exists():
        raise MissingModelError(f"{model or 'no model given'}: no such file; wanted is {what}")
    return path


def unit(vector: Tensor) -> Float[Tensor, " d"]:
    """The vector's direction.

    Raises:
        ValueError: it has none.
    """
    vector = vector.detach().cpu().float().flatten()
    length = vector.norm()
    if not (length.isfinite() and length > 0):
        raise ValueError("the embedder found no voice in the recording")
    return vector / length
