"""DNSMOS: mean opinion score of denoised speech, predicted without a reference."""

from __future__ import annotations

from collections.abc import Mapping

from audiotok.audio.audio import Audio
from audiotok.evaluation.cache import BoundedCache, fingerprint
from audiotok.evaluation.metrics.base import Metric, Score, listener_input, optional_import, version

KEYS = {"ovrl": "ovrl_mos", "sig": "sig_mos", "bak": "bak_mos", "p808": "p808_mos"}
# One run of the model gives all four variants, so its results are cached.
_memory = BoundedCache[dict[str, float]](10_000)


class Dnsmos(Metric):
    """Predicted opinion, 1 to 5, by Microsoft's `speechmos` package, which carries its weights.

    Variants: `ovrl` overall (the default), `sig` speech and `bak` background of P.835 (Reddy et al.
    2022, arXiv:2110.01763), `p808` overall of P.808 (Reddy et al. 2021, arXiv:2010.15258). The
    model was trained to rate noise suppressors and is hardly sensitive to coding artefacts.
    """

    better = "higher"
    unit = "MOS"
    options = ("ovrl", "sig", "bak", "p808")
    aligned = False

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.option = option or "ovrl"
        model = "P.808" if self.option == "p808" else f"P.835 {self.option.upper()}"
        self.protocol = (
            f"{version('speechmos')}, DNSMOS {model}, not personalised, 16 kHz, mono mean, "
            "mean over windows of 9.01 s every second, shorter recordings repeated; no reference"
        )

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; the reference is not used."""
        wave = listener_input(output, 16000)
        key = fingerprint(wave, 16000)
        scores = _memory.get(key)
        if scores is None:
            ratings = optional_import("speechmos.dnsmos", "speechmos").run(
                wave.cpu().numpy(), sr=16000
            )
            scores = _memory.put(key, {name: float(ratings[of]) for name, of in KEYS.items()})
        return Score(scores[self.option], 1)
