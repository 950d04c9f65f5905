"""Entries that were not seen are called dead only where frames suffice for it."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from audiotok.tokens.statistics import FRAMES_AN_ENTRY, EntryUse


@given(st.integers(1, 5000), st.integers(0, 10**6))
def test_a_verdict_needs_frames(size: int, frames: int):
    use = EntryUse(min(size, frames), size, frames)
    if frames >= FRAMES_AN_ENTRY * size:
        assert use.dead == size - use.seen
        assert use.too_few == ""
        assert str(use).endswith(f"{use.dead:,} dead")
        assert use.expected_unseen < size / 20_000
    else:
        assert use.dead is None
        assert f"{use.frames_needed:,} are needed for {size:,} entries" in str(use)


@pytest.mark.parametrize("frames", [100, 1000, 5000])
def test_the_expected_number_is_that_of_uniform_draws(frames: int):
    draw = np.random.default_rng(0)
    unseen = [1024 - len(np.unique(draw.integers(0, 1024, frames))) for _ in range(200)]
    assert EntryUse(0, 1024, frames).expected_unseen == pytest.approx(np.mean(unseen), abs=1.5)


def test_a_codebook_used_alike_loses_no_entry_to_few_frames():
    """500 frames of 1,024 entries leave 628 of them unseen, none of which is dead."""
    use = EntryUse(396, 1024, 500)
    assert use.expected_unseen == pytest.approx(628, abs=1)
    assert (use.dead, str(use)) == (
        None,
        "396 of 1,024 entries seen; 500 frames are too few to call entries dead; "
        "10,240 are needed for 1,024 entries",
    )
    assert (
        str(EntryUse(1000, 1024, 20480)) == "1,000 of 1,024 entries seen in 20,480 frames, 24 dead"
    )
