"""Work of a build as processes exchange it: options, tasks and outcomes; torch is not needed.

task        a recording, or a container: a file of which a worker lists the recordings itself
outcome     one of each recording, known by the number of its task and its index in it (0 where
            the task is one recording)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import numpy as np

from audiotok.corpus.inputs import UNSEEN, FileStamp
from audiotok.data.recording import Recording
from audiotok.data.sources.base import Listing
from audiotok.tokens import Header

GROUP = 16  # recordings in a batch on a GPU


def version_here() -> str:
    """Return the version of audiotok that is installed here; "" if it only lies on the path."""
    try:
        return version("audiotok")
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class Work:
    """Options of encoding, for every worker; picklable.

    Attributes:
        codec: name of a codec, or path of a checkpoint.
        backend: backend that runs it; the fastest of each machine if empty.
        device: a torch device.
        codebooks: number of codebooks to use, from the first; all if None.
        half: whether latents are stored in half precision.
        search: paths of the search for codes (`Codec.set_search`); the codec's own if None.
        readers: number of threads that decode and resample.
        group: recordings in a batch; 0 for 1 on a CPU, else `GROUP`.
        commands: whether shell commands of listings may run.
        scratch: folder that all processes of this machine share while they run; see `opened`.
        threads: number of threads within one operation.
        waits: seconds before each retry, where reading fails for a transient reason.
        fingerprint: fingerprint that the codec must have; any if empty.
        version: version of audiotok that every worker must have.
    """

    codec: str
    backend: str = ""
    device: str = "cpu"
    codebooks: int | None = None
    half: bool = False
    search: int | None = None
    readers: int = 1
    group: int = 0
    commands: bool = False
    scratch: str = ""
    threads: int = 1
    waits: tuple[float, ...] = (0.5, 2.0, 8.0, 30.0)
    fingerprint: str = ""
    version: str = field(default_factory=version_here)

    @property
    def batch_size(self) -> int:
        """Number of recordings in a batch."""
        return self.group or (1 if self.device == "cpu" else GROUP)

    @property
    def prefetch(self) -> int:
        """Number of recordings that a worker is given in advance, so that it never waits."""
        return 2 * self.readers if self.batch_size == 1 else 4 * self.batch_size


@dataclass(frozen=True)
class Container:
    """A file of recordings that a worker lists and encodes, as a tar file or a table of bytes.

    Attributes:
        source: reader of its kind of listing.
        listing: path of the listing.
        file: the file, as the listing spells it.
        folder: folder that relative paths start from.
        first: index of the first recording to return; those before are listed only.
        done: indices of later recordings that are not to be returned either.
        careful: number of recordings from `first` on that are encoded one at a time, each when the
            build knows of it, so that the one that ends the process is known.
        coded: whether to encode; else the outcomes have no codes, only item and digest.
    """

    source: Listing
    listing: str
    file: str
    folder: str
    first: int = 0
    done: frozenset[int] = frozenset()
    careful: int = 0
    coded: bool = True


Task = tuple[int, Recording | Container]
Sent = tuple[int, Recording | Container | None]  # None: the announced recording may be encoded


def smallest(codes: np.ndarray, header: Header) -> np.ndarray:
    """Return codes in the smallest type that holds them, or latents in the type of their file.

    Args:
        codes: `[k f]`, or latents `[d f]`.
        header: of the corpus.
    """
    if header.width:
        header.check(codes)
        return codes.astype(header.dtype)
    return codes.astype(np.uint16 if max(header.sizes) <= 1 << 16 else np.uint32)


@dataclass(frozen=True)
class EncodedRecording:
    """Outcome of one recording: its codes, or an error."""

    error: str = ""
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint16))  # or latents
    samples: int = 0  # length at the codec's rate
    original_rate: int = 0  # Hz
    original_samples: int = 0
    audio: int = 0  # 64-bit hash of the samples at the codec's rate
    busy: float = 0.0  # seconds of processor time since the worker's last outcome
    passing: bool = False  # whether the error is transient
    missing: str = ""  # path of its file, or of a folder, that the worker's machine does not have
    apart: bool = False  # whether its folder or mount is missing too
    input: FileStamp = UNSEEN  # stamp of its file


class Listed(NamedTuple):
    """A recording of a container as its worker has listed it."""

    item: Recording  # without the audio's bytes
    digest: bytes  # of `digest_of`


@dataclass(frozen=True)
class Outcome:
    """Outcome of a recording, as an executor returns it."""

    number: int  # of the task
    coded: EncodedRecording
    index: int = 0  # in the container
    listed: Listed | None = None  # of a recording in a container
    node: str = ""  # machine that encoded it


@dataclass(frozen=True)
class End:
    """End of the listing of a container."""

    number: int  # of the task
    count: int  # recordings in it
    error: str = ""  # why it cannot be listed further
    node: str = ""  # machine that listed it


Event = Outcome | End
