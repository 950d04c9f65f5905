"""Write the graphs that ship beside the weights of a codec, after its weights have changed.

    python tests/golden/graphs.py [audiotok/codecs/weights/speech.safetensors]

Prints how far they are from torch. Needs the extra `export`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import audiotok
from audiotok.codecs.catalogue import WEIGHTS
from audiotok.codecs.export.shipped import ship


def main() -> None:
    """Export the codec of a checkpoint beside it."""
    weights = Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS / "speech.safetensors"
    print(ship(audiotok.load(weights), weights))


if __name__ == "__main__":
    main()
