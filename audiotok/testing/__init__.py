"""Contracts of parts, for the tests of whoever writes one: plain assertions, without pytest.

    from audiotok.testing import assert_cuttable, noise

    def test_my_codec_can_be_cut_anywhere():
        codec = Mine().eval()
        assert_cuttable(codec, noise(codec, 50_000))

A whole codec, with its weights, is tried by `audiotok conform` as well.
"""

from audiotok.testing.checks import assert_close, assert_refuses
from audiotok.testing.codecs import (
    assert_batches,
    assert_cuttable,
    assert_latency,
    assert_lengths_exact,
    assert_no_future,
    assert_prefixes,
    assert_receptive_field,
    assert_trains,
    latents,
    noise,
)
from audiotok.testing.layers import (
    NAN,
    assert_causal,
    assert_finishes,
    assert_input_span,
    assert_lags,
    assert_lengths,
    assert_padding,
    assert_streams,
)
from audiotok.testing.quantizers import assert_quantizes, assert_refines, assert_tables
from audiotok.testing.tensors import assert_differentiable, assert_embeddings, assert_tensors

__all__ = [
    "NAN",
    "assert_batches",
    "assert_causal",
    "assert_close",
    "assert_cuttable",
    "assert_differentiable",
    "assert_embeddings",
    "assert_finishes",
    "assert_input_span",
    "assert_lags",
    "assert_latency",
    "assert_lengths",
    "assert_lengths_exact",
    "assert_no_future",
    "assert_padding",
    "assert_prefixes",
    "assert_quantizes",
    "assert_receptive_field",
    "assert_refines",
    "assert_refuses",
    "assert_streams",
    "assert_tables",
    "assert_tensors",
    "assert_trains",
    "latents",
    "noise",
]
