"""Work of a build as processes exchange it: options, tasks and outcomes; torch is not needed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from audiotok.corpus.inputs import UNSEEN, FileStamp
from audiotok.data.recording import Recording

GROUP = 16  # recordings in a batch on a GPU


@dataclass(frozen=True)
class Work:
    """Options of encoding, for every worker; picklable.

    Attributes:
        codec: name of a codec, or path of a checkpoint.
        backend: backend that runs it; the fastest of each machine if empty.
        device: a torch device.
        codebooks: number of codebooks to use, from the first; all if None.
        readers: number of threads that decode and resample.
        group: recordings in a batch; 0 for 1 on a CPU, else `GROUP`.
        commands: whether shell commands of listings may run.
        scratch: folder that all processes of this machine share while they run; see `opened`.
        threads: number of threads within one operation.
        waits: seconds before each retry, where reading fails for a transient reason.
        fingerprint: fingerprint that the codec must have; any if empty.
    """

    codec: str
    backend: str = ""
    device: str = "cpu"
    codebooks: int | None = None
    readers: int = 1
    group: int = 0
    commands: bool = False
    scratch: str = ""
    threads: int = 1
    waits: tuple[float, ...] = (0.5, 2.0, 8.0, 30.0)
    fingerprint: str = ""

    @property
    def batch_size(self) -> int:
        """Number of recordings in a batch."""
        return self.group or (1 if self.device == "cpu" else GROUP)

    @property
    def prefetch(self) -> int:
        """Number of recordings that a worker is given in advance, so that it never waits."""
        return 2 * self.readers if self.batch_size == 1 else 4 * self.batch_size


Task = tuple[int, Recording]


@dataclass(frozen=True)
class EncodedRecording:
    """Outcome of one recording: its codes, or an error."""

    error: str = ""
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint16))  # [k f]
    samples: int = 0  # length at the codec's rate
    original_rate: int = 0  # Hz
    original_samples: int = 0
    audio: int = 0  # 64-bit hash of the samples at the codec's rate
    busy: float = 0.0  # seconds of processor time since the worker's last outcome
    passing: bool = False  # whether the error is transient
    input: FileStamp = UNSEEN  # stamp of its file


Outcome = tuple[int, EncodedRecording]
