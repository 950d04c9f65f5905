"""Fixtures of codecs that are held against golden files of their programs."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def stored(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    """The golden file that the module imports as `golden`: what the program gave."""
    with np.load(request.module.golden.STORED) as file:
        return dict(file)
