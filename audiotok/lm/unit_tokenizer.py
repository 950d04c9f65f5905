"""A recording to the ids of pieces of its units, in one step, and back to the units.

    wave -> units of a codec -> runs -> pieces -> ids

With units without the means of recordings, runs dropped and BPE this is the token stream of Vec-Tok
(Zhu et al. 2023, arXiv:2310.07246); the `Layout` is the vocabulary, in one JSON file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from audiotok.audio.coerce import Recording
from audiotok.codecs.models.base import Codec
from audiotok.lm.bpe import learn_pieces
from audiotok.lm.layout import Layout, LayoutError
from audiotok.tokens.tokens import Tokens


class UnitTokenizer:
    """Tokenizer of recordings to ids of a layout, which decode to the units without loss.

    Args:
        codec: the tokenizer of the units.
        layout: a layout of its codes, in one row.

    Raises:
        InputError: the layout is for another codec or other weights.
        LayoutError: it has ids in several rows.
    """

    def __init__(self, codec: Codec, layout: Layout) -> None:
        layout.check_tokenizer(codec)
        if not layout.serial:
            raise LayoutError(f"the ids of {layout.pattern} are in rows: a token stream has one")
        self.codec = codec
        self.layout = layout

    @classmethod
    def learn(
        cls,
        codec: Codec,
        recordings: Iterable[Tokens | np.ndarray],
        *,
        size: int = 8192,
        codebooks: int = 1,
        runs: Literal["keep", "drop", "durations"] = "drop",
        kind: Literal["bpe", "unigram"] = "bpe",
        progress: bool = False,
    ) -> UnitTokenizer:
        """Return a tokenizer whose pieces are learned from recordings.

        Args:
            codec: the tokenizer of the units.
            recordings: tokens of the codec, or their codes `[k f]`; read once, one at a time.
            size: number of ids.
            codebooks: number of codebooks, from the first.
            runs: treatment of runs of equal units; with "durations" frames come back too.
            kind: the subword model.
            progress: whether the library shows a progress bar.

        Raises:
            LayoutError: `size` is smaller than the number of units and marks.
            ImportError: `tokenizers` is not installed.
        """
        layout = Layout(
            sizes=codec.sizes[: codec.kept(codebooks)],
            runs=runs,
            codec=codec.name,
            fingerprint=codec.fingerprint,
            sample_rate=codec.sample_rate,
            frame_size=codec.frame_size,
        )
        chosen: Iterable[Any] = (
            each if isinstance(each, Tokens) else each[:codebooks] for each in recordings
        )
        return cls(codec, learn_pieces(layout, chosen, size=size, kind=kind, progress=progress))

    def encode(self, recording: Recording | Tokens, rate: int | None = None) -> np.ndarray:
        """Return the ids `[n]` of a recording, with `begin` and `end`.

        Args:
            recording: as for `Codec.encode`; or its tokens.
            rate: sample rate of an array or tensor in Hz.
        """
        return self.layout.encode(self._tokens(recording, rate))

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Return the units `[k r]` of ids: every frame, unless runs are dropped.

        Raises:
            LayoutError: the ids are cut short or damaged.
        """
        return self.layout.decode(ids)

    def units(self, recording: Recording | Tokens, rate: int | None = None) -> np.ndarray:
        """Return the units `[k r]` of a recording, to which its ids decode.

        Args:
            recording: as for `encode`.
            rate: as for `encode`.
        """
        codes = self.layout.checked(self._tokens(recording, rate))
        return self.layout.ordered(codes) if self.layout.runs == "drop" else codes

    def _tokens(self, recording: Recording | Tokens, rate: int | None) -> Tokens:
        """Return the tokens of a recording, if they are none already."""
        if isinstance(recording, Tokens):
            return recording
        return self.codec.encode(recording, rate, codebooks=len(self.layout.sizes))
