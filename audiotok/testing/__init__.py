"""Contracts of parts, for the tests of whoever writes one: plain assertions, without pytest.

    from audiotok.testing import assert_cuttable, noise

    def test_my_codec_can_be_cut_anywhere():
        codec = Mine().eval()
        assert_cuttable(codec, noise(codec, 50_000))

A whole codec, with its weights, is tried by `audiotok conform` as well.
"""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
