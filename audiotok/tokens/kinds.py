"""The kinds of tokens, of which a header says one: codes, or latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotok.tokens import Header, TokenReader
from audiotok.tokens.coded import read_part
from audiotok.tokens.latents import Latents
from audiotok.tokens.tokens import Tokens

if TYPE_CHECKING:
    from typing import TypeAlias

    # What nearly every codec gives; that one gives `Latents` shows at run time alone.
    AnyTokens: TypeAlias = Tokens
else:
    AnyTokens = Tokens | Latents

KINDS: dict[str, Any] = {"codes": Tokens, "latents": Latents}


def tokens_of(
    header: Header,
    numbers: np.ndarray,
    samples: int,
    original_samples: int,
    original_rate: int | None = None,
) -> AnyTokens:
    """Return frames as `Tokens`, or as `Latents` where the header says so.

    Args:
        header: of the recording.
        numbers: the frames `[rows f]`.
        samples: exact length at the codec's rate.
        original_samples: exact length at the original rate.
        original_rate: that rate in Hz, if it is not the header's.
    """
    return KINDS[header.kind].of(header, numbers, samples, original_samples, original_rate)


def load_tokens(
    path: str | Path, *, start: float | int | None = None, end: float | int | None = None
) -> AnyTokens:
    """Read a .tok file of either kind, or a part of it, as `Tokens.load` does.

    Args:
        path: the file.
        start: as for `Tokens.load`.
        end: as for `Tokens.load`.
    """
    with TokenReader(path) as reader:
        return read_part(KINDS[reader.header.kind], reader, start, end)
