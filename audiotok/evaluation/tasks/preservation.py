"""Words and voice preserved when codebook 1 alone, and when all codebooks are decoded."""

from __future__ import annotations

from audiotok._platform.registry import find
from audiotok.evaluation.metrics.base import Metric, MissingModelError
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task


class Preservation(Task):
    """Information preservation, SLMTokBench's second axis (Zhang et al. 2023, arXiv:2308.16692)."""

    protocol = (
        "metrics `wer` (where there is text) and `speaker` of what the codec decodes from codebook "
        "1 alone and from all of them, by the models that the bench was given; `wer` of the "
        "originals beside it"
    )

    def run(self, bench: Bench) -> list[Finding]:
        """Return word error rates and speaker similarities; see `Task.run`."""
        findings = []
        kinds = {"codebook 1": 1, f"codebooks 1 to {bench.codebooks}": bench.codebooks}
        if bench.codebooks == 1:
            del kinds[f"codebooks 1 to {bench.codebooks}"]
        for name in ("wer", "speaker"):
            try:
                metric = find("metrics", name)(models=bench.models)
                if name == "wer":
                    findings.append(self._scored(bench, metric, "wer of the originals", None))
                for of, codebooks in kinds.items():
                    findings.append(self._scored(bench, metric, f"{name} of {of}", codebooks))
            except (ImportError, ValueError) as error:  # the other metric may run
                findings.append(self.absent(name, f"not run: {error}"))
        return findings

    def _scored(self, bench: Bench, metric: Metric, name: str, codebooks: int | None) -> Finding:
        """Return a metric of the audio decoded from the first codebooks; None: of the originals."""
        totals, counts, failed = [], [], {}
        for recording in bench.over(bench.recordings, name):
            original = bench.original(recording).mono()
            output = original
            if codebooks is not None:
                tokens = bench.encode(recording).first(codebooks)
                output = bench.codec.decode(tokens).resample(original.rate)[: len(original)]
            try:
                score = metric.score(output.mono(), original, recording.text or None)
            except MissingModelError:
                raise
            except ValueError as error:
                failed[str(error)] = failed.get(str(error), 0) + 1
                continue
            totals.append(score.total)
            counts.append(score.count)
        note = "; ".join(f"{n} not scored: {why}" for why, n in failed.items())
        fields = {"unit": metric.unit, "better": metric.better}
        return self.mean(
            name, totals, counts, note=f"{metric.protocol}{'; ' if note else ''}{note}", **fields
        )
