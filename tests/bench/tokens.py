"""Speed of packing, unpacking, saving and loading codes, beside np.save and np.load, in one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from audiotok.tokens import pack, unpack, verify
from audiotok.tokens.format import BATCH
from audiotok.tokens.tokens import Tokens

HOURS = 3


def best(action: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of some runs."""
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        durations.append(time.perf_counter() - began)
    return min(durations)


def main() -> None:
    random = np.random.default_rng(0)
    print(f"packing, {BATCH} codes at a time")
    for widths in ([10] * 8, [1], [12, 11, 10, 9], [24] * 3, [10] * 32):
        frames = BATCH // len(widths)
        codes = np.stack([random.integers(0, 1 << width, frames) for width in widths])
        packed = pack(codes, widths)
        speeds = [
            codes.size / best(action, 20) / 1e6
            for action in (lambda: pack(codes, widths), lambda: unpack(packed, widths, frames))  # noqa: B023
        ]
        print(f"  bits {widths!s:.24}: pack {speeds[0]:.0f}, unpack {speeds[1]:.0f} M codes/s")

    frames = HOURS * 3600 * 50
    tokens = Tokens(
        codes=random.integers(0, 1024, (8, frames)),
        size=1024,
        codec="speech",
        fingerprint="00ff",
        sample_rate=16000,
        frame_size=320,
        samples=frames * 320,
        original_rate=16000,
        original_samples=frames * 320,
    )
    print(f"{HOURS} hours at {tokens.kbps} kbps: {tokens.codes.size / 1e6:.1f} M codes, with fsync")
    with tempfile.TemporaryDirectory() as folder:
        tok, npy = Path(folder) / "a.tok", Path(folder) / "a.npy"
        small = tokens.codes.astype(np.int16)
        for name, path, action in (
            (".tok save", tok, lambda: tokens.save(tok, force=True)),
            (".tok load", tok, lambda: Tokens.load(tok)),
            (".tok load 10 s at 1 h", tok, lambda: Tokens.load(tok, start=3600, end=3610)),
            (".tok verify", tok, lambda: verify(tok)),
            ("np.save int64", npy, lambda: np.save(npy, tokens.codes)),
            ("np.load int64", npy, lambda: np.load(npy)),
            ("np.save int16", npy, lambda: np.save(npy, small)),
            ("np.load int16", npy, lambda: np.load(npy)),
        ):
            seconds = best(action)
            size = path.stat().st_size / 1e6
            rates = f"{tokens.codes.size / seconds / 1e6:6.0f} M codes/s {size / seconds:6.0f} MB/s"
            print(f"  {name:22} {1000 * seconds:7.1f} ms {rates}  file {size:6.1f} MB")


if __name__ == "__main__":
    main()
