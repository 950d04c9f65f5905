"""Idempotence of coding, encode(decode(codes)) == codes, after one round and after several."""

from __future__ import annotations

import numpy as np

from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task

ROUNDS = 5


class Idempotence(Task):
    """Share of codes that survive decoding and encoding, once and repeatedly."""

    protocol = (
        f"share of codes equal to the first ones after 1 to {ROUNDS} rounds of decode and encode "
        "at the codec's rate, in float, with no file between"
    )

    def run(self, bench: Bench) -> list[Finding]:
        """Return shares by codebook and round; see `Task.run`."""
        unchanged = np.zeros((len(bench.recordings), ROUNDS, bench.codebooks))  # codes as at first
        settled = np.zeros_like(unchanged)  # as a round before
        frames = np.zeros(len(bench.recordings))
        for i, recording in enumerate(bench.over(bench.recordings, "again")):
            first = tokens = bench.encode(recording)
            frames[i] = tokens.frames
            for r in range(ROUNDS if tokens.frames else 0):
                before = tokens
                audio = bench.codec.decode(tokens)
                tokens = bench.codec.encode(audio, codebooks=bench.codebooks)
                unchanged[i, r] = (tokens.codes == first.codes).sum(1)
                settled[i, r] = (tokens.codes == before.codes).sum(1)
        how = {"unit": "%", "better": "higher", "scale": 100}
        every = (frames * bench.codebooks).tolist()
        findings = [
            self.mean(f"kept after {_rounds(r + 1)}", unchanged[:, r].sum(1).tolist(), every, **how)
            for r in range(ROUNDS)
        ]
        findings += [
            self.mean(
                f"kept after 1 round of codebook {k + 1}",
                unchanged[:, 0, k].tolist(),
                frames.tolist(),
                **how,
            )
            for k in range(bench.codebooks)
        ]
        last = settled[:, -1].sum(1).tolist()
        note = f"codes of round {ROUNDS} that are as in round {ROUNDS - 1}"
        return [*findings, self.mean("settled", last, every, note=note, **how)]


def _rounds(n: int) -> str:
    return f"{n} round{'s' if n > 1 else ''}"
