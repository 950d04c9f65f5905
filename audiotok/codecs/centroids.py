"""Fitting of k-means units to recordings, and reading of centroids that others fitted.

    recordings -> features, kept in a `FeatureCache` -> (less their largest principal components)
               -> passes of mini-batch k-means -> `Kmeans`

A component that all centroids lack cannot change which of them is nearest, so the codec has no need
to know which are left out. Those of most variance may be of no use (Mu & Viswanath 2018,
arXiv:1702.01417): in Whisper they say how long ago the recording began.

Memory stays the same however many recordings there are. What takes long are the features, which
stay in the cache; a fit that was stopped reads them there and comes to the same centroids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.audio.audio import AudioFileError
from audiotok.codecs.catalogue import CheckpointError
from audiotok.codecs.checkpoint import save
from audiotok.codecs.models.kmeans import Kmeans, KmeansConfig, teacher_of
from audiotok.data.feature_cache import FeatureCache
from audiotok.data.features.base import Choice, read_weights
from audiotok.data.recording import Recording
from audiotok.nn.clusters import nearest

BATCH = 8192  # frames of a mini-batch, or 8 a centroid if that is more
POOL = 8  # mini-batches that are shuffled together
PICKLES = (".km", ".bin", ".pkl", ".pickle", ".joblib", ".pt", ".pth")


@dataclass(frozen=True)
class UnitFit:
    """Fit of the centroids of a layer to its recordings.

    Attributes:
        layer: hidden state of the feature extractor.
        recordings: number of recordings.
        frames: number of frames.
        inertia: mean squared distance of a frame from its centroid.
        explained: share of the variance of frames that the centroids explain.
        used: number of units that are used.
        perplexity: number of units that would have the same entropy if all were used alike.
    """

    layer: Choice
    recordings: int
    frames: int
    inertia: float
    explained: float
    used: int
    perplexity: float


def fit_units(
    recordings: Sequence[Recording],
    config: KmeansConfig,
    *,
    cache: str | Path,
    bundle: bool = False,
    drop: int | None = None,
    rounds: int = 10,
    seed: int = 0,
    device: str | torch.device = "cpu",
    console: Console | None = None,
) -> tuple[Kmeans, list[UnitFit]]:
    """Fit centroids to the features of recordings.

    Args:
        recordings: recordings of any length and rate (`draw_recordings` draws some).
        config: extractor, its weights and options, layers, and number of centroids.
        cache: folder of features (`FeatureCache`); two bytes a number.
        bundle: whether the checkpoint is to hold the extractor's weights, in half precision: those
            and the centroids are rounded here, so that codes are the same after loading.
        drop: number of principal components, from that of most variance, that are left out; what
            the extractor advises if None (`Teacher.positional`).
        rounds: passes over the features.
        seed: random seed; the same gives the same centroids.
        device: where features are computed.
        console: where progress is shown; stderr if None.

    Returns:
        The codec, with a card of the fit, and the fit of each layer.

    Raises:
        InputError: recordings without features, fewer frames than centroids, or no such layer.
        MissingLibraryError: scikit-learn is not installed.
        TeacherError: no such weights.
    """
    codec = _unfitted(config, bundle=bundle)
    cluster = optional_import("sklearn.cluster", "scikit-learn", extra="units")
    console = console or Console(stderr=True)
    drop = codec.teacher.positional if drop is None else drop
    centroids, fits = [], []
    for layer in config.layers:
        features = FeatureCache.build(
            recordings, codec.teacher.to(device), layer=layer, cache=cache, console=console
        )
        size = config.size
        frames = _Frames(features.at(codec.frame_rate), config, drop=drop, seed=seed)
        engine = cluster.MiniBatchKMeans(
            size, batch_size=frames.batch, compute_labels=False, random_state=seed
        )
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"k-means of layer {layer}", total=rounds * len(frames))
            for batch, seen in frames.batches(rounds):
                if len(batch) < size and not hasattr(engine, "cluster_centers_"):
                    raise InputError(f"{len(batch)} frames are too few for {size} centroids")
                engine.partial_fit(batch)
                bar.advance(task, seen)
        centres = torch.from_numpy(engine.cluster_centers_.astype(np.float32))
        centroids.append(centres.half().float() if bundle else centres)
        fits.append(_measured(layer, frames, centroids[-1]))
    codec.set_centroids(centroids)
    codec.card = {
        "units": {
            "recordings": fits[0].recordings,
            "hours": round(fits[0].frames / float(codec.frame_rate) / 3600, 3),
            "dropped": drop,
            "rounds": rounds,
            "seed": seed,
            "layers": [vars(fit) for fit in fits],
        }
    }
    return codec.to("cpu").eval().requires_grad_(False), fits


def draw_recordings(
    recordings: Sequence[Recording], *, hours: float = 0, most: int = 0, seed: int = 0
) -> list[Recording]:
    """Return recordings in random order, of so many hours and so many at most.

    Args:
        recordings: all recordings.
        hours: stop after so many hours; 0 for no limit.
        most: stop after so many recordings; 0 for no limit.
        seed: random seed of the order.
    """
    order = np.random.default_rng(seed).permutation(len(recordings))[: most or None]
    chosen, seconds = [], 0.0
    for i in order:
        if hours and seconds >= 3600 * hours:
            break
        chosen.append(recordings[i])
        seconds += _seconds(recordings[i]) if hours else 0
    return chosen


def import_units(
    files: Sequence[str | Path], config: KmeansConfig, *, bundle: bool = False
) -> Kmeans:
    """Return the codec of centroids that another program fitted, such as fairseq or textlesslib.

    Args:
        files: centroids `[k d]` of each layer: .npy files, or .safetensors files of one tensor.
        config: as for `fit_units`; its `size` is that of the files. Features of HuBERT base in
            fairseq are those of the option normalise=False.
        bundle: as for `fit_units`.

    Raises:
        CheckpointError: a file that is no such array, or of another width than the features.
        InputError: not as many files as layers.
        TeacherError: no such weights.
    """
    if len(files) != len(config.layers):
        raise InputError(
            f"{len(files)} files of centroids for {len(config.layers)} layers: give one for each"
        )
    centroids = [read_centroids(file) for file in files]
    sizes = sorted({len(each) for each in centroids})
    if len(sizes) > 1:
        raise CheckpointError(f"{files[0]}: layers of {sizes} centroids: give as many for each")
    codec = _unfitted(replace(config, size=sizes[0]), bundle=bundle)
    for file, each in zip(files, centroids, strict=True):
        if each.shape[1] != codec.teacher.width:
            raise CheckpointError(
                f"{file}: centroids of {each.shape[1]} numbers, where features of teacher "
                f"{codec.teacher.name!r} have {codec.teacher.width}"
            )
    codec.set_centroids([each.half().float() if bundle else each for each in centroids])
    codec.card = {"units": {"imported": [Path(file).name for file in files]}}
    return codec.eval().requires_grad_(False)


def save_units(codec: Kmeans, path: str | Path) -> None:
    """Write units to a .safetensors file that `audiotok.load` loads.

    It holds the extractor's weights in half precision, or only says where they are; see
    `KmeansConfig.weights`.

    Args:
        codec: units of `fit_units` or `import_units`.
        path: the file.
    """
    save(codec, path, dtype=torch.float32 if codec.config.weights else torch.float16)


def read_centroids(path: str | Path) -> Tensor:
    """Return the centroids `[k d]` in a .npy or .safetensors file, in float32.

    Raises:
        CheckpointError: no such file, or none of one array of two axes; the message tells how
            pickles of fairseq and scikit-learn are converted.
    """
    path = Path(path)
    if path.suffix in PICKLES:
        save_it = "numpy.save('centroids.npy', joblib.load(FILE).cluster_centers_)"
        raise CheckpointError(
            f"{path}: a pickle, which may run code, is not read: where you trust it, run "
            f'python -c "import joblib, numpy; {save_it}" and give centroids.npy'
        )
    try:
        if path.suffix not in (".npy", ".safetensors"):
            raise InputError("neither .npy nor .safetensors")
        if path.suffix == ".npy":
            arrays = [torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))]
        else:
            arrays = list(read_weights(path).values())
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: no centroids that can be read ({error})") from None
    shapes = [list(array.shape) for array in arrays]
    if len(arrays) != 1 or arrays[0].ndim != 2 or not arrays[0].numel():
        raise CheckpointError(f"{path}: arrays of shapes {shapes}, where one [k d] is expected")
    if not arrays[0].isfinite().all():
        raise CheckpointError(f"{path}: centroids that are NaN or infinite")
    return arrays[0].float()


def _unfitted(config: KmeansConfig, *, bundle: bool) -> Kmeans:
    """Return units without centroids; in a bundle, the extractor's weights are rounded."""
    if not config.weights:
        raise InputError(f"no weights of teacher {config.teacher!r}: give a path, or a hub's name")
    teacher = teacher_of(config)
    config = replace(config, options=dict(teacher.settings))
    if not bundle:
        path = Path(config.weights).expanduser()
        weights = str(path.resolve()) if path.exists() else config.weights
        config = replace(config, weights=weights, fingerprint=teacher.fingerprint)
        return Kmeans(config, teacher=teacher)
    if teacher.sizes is None:
        raise InputError(f"teacher {config.teacher!r} cannot be built without weights: no bundle")
    with torch.no_grad():
        for value in [*teacher.parameters(), *teacher.buffers()]:
            if value.is_floating_point():
                value.copy_(value.half())
    network = dict(teacher.sizes)
    return Kmeans(replace(config, network=network, weights="", fingerprint=""), teacher=teacher)


class _Frames:
    """Frames of cached features, in mini-batches or recording by recording."""

    def __init__(
        self, features: FeatureCache, config: KmeansConfig, *, drop: int, seed: int
    ) -> None:
        if not 0 <= drop < features.width:
            raise InputError(f"{drop} of {features.width} components left out: some must stay")
        self.features = features
        self.centred = config.centred
        self.batch = max(BATCH, 8 * config.size)
        self.seed = seed
        self.recordings = [i for i in range(len(features)) if features.has(i)]
        if not self.recordings:
            raise InputError("no recordings to fit units to")
        self.dropped = torch.zeros(features.width, 0)
        self.dropped = self._largest(drop)

    def _largest(self, count: int) -> Tensor:
        """Return the principal components `[d count]` of most variance."""
        width = self.features.width
        if not count:
            return torch.zeros(width, 0)
        n, total, products = 0, torch.zeros(width).double(), torch.zeros(width, width).double()
        for i in self.recordings:
            x = self.of(i)
            n, total, products = n + len(x), total + x.double().sum(0), products + x.T @ x
        mean = total / n
        return torch.linalg.eigh(products / n - mean[:, None] * mean)[1][:, -count:].float()

    def __len__(self) -> int:
        return len(self.recordings)

    def of(self, recording: int) -> Tensor:
        """Return the frames `[f d]` of a recording."""
        x = self.features[recording]
        x = x - x.mean(0) if self.centred else x
        return x - x @ self.dropped @ self.dropped.T

    def batches(self, rounds: int) -> Iterator[tuple[np.ndarray, int]]:
        """Yield mini-batches `[n d]`, each with the number of recordings that were read for it."""
        random = np.random.default_rng(self.seed)
        for _ in range(rounds):
            pool: list[np.ndarray] = []
            order = random.permutation(self.recordings)
            for at, i in enumerate(order, 1):
                pool.append(self.of(int(i)).numpy())
                if sum(map(len, pool)) >= POOL * self.batch or at == len(order):
                    frames = random.permutation(np.concatenate(pool))
                    parts = np.array_split(frames, max(1, len(frames) // self.batch))
                    for j, part in enumerate(parts):
                        yield part, 0 if j else len(pool)
                    pool = []


def _measured(layer: Choice, frames: _Frames, centroids: Tensor) -> UnitFit:
    """Return what centroids are like on all frames."""
    counts = torch.zeros(len(centroids), dtype=torch.float64)
    total, squares, distance = torch.zeros(centroids.shape[1], dtype=torch.float64), 0.0, 0.0
    for i in frames.recordings:
        x = frames.of(i)
        index = nearest(x, centroids)
        counts += torch.bincount(index, minlength=len(centroids))
        total += x.double().sum(0)
        squares += float(x.double().square().sum())
        distance += float((x - centroids[index]).double().square().sum())
    n = float(counts.sum())
    variance = squares / n - float((total / n).square().sum())
    share = counts[counts > 0] / n
    return UnitFit(
        layer=layer,
        recordings=len(frames),
        frames=int(n),
        inertia=distance / n,
        explained=1 - distance / n / variance if variance else 0.0,
        used=len(share),
        perplexity=float((-(share * share.log()).sum()).exp()),
    )


def _seconds(recording: Recording) -> float:
    """Return the duration of a recording; 0 if it cannot be read."""
    if recording.seconds is not None:
        return recording.seconds
    try:
        probe = recording.probe()
    except AudioFileError:
        return 0.0
    return probe.samples / probe.rate
