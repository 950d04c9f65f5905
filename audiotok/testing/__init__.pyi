"""Public names of `audiotok.testing`."""

from audiotok.testing.checks import assert_close as assert_close
from audiotok.testing.checks import assert_refuses as assert_refuses
from audiotok.testing.codecs import assert_batches as assert_batches
from audiotok.testing.codecs import assert_cuttable as assert_cuttable
from audiotok.testing.codecs import assert_latency as assert_latency
from audiotok.testing.codecs import assert_lengths_exact as assert_lengths_exact
from audiotok.testing.codecs import assert_no_future as assert_no_future
from audiotok.testing.codecs import assert_prefixes as assert_prefixes
from audiotok.testing.codecs import assert_receptive_field as assert_receptive_field
from audiotok.testing.codecs import assert_trains as assert_trains
from audiotok.testing.codecs import latents as latents
from audiotok.testing.codecs import noise as noise
from audiotok.testing.layers import NAN as NAN
from audiotok.testing.layers import assert_causal as assert_causal
from audiotok.testing.layers import assert_finishes as assert_finishes
from audiotok.testing.layers import assert_input_span as assert_input_span
from audiotok.testing.layers import assert_lags as assert_lags
from audiotok.testing.layers import assert_lengths as assert_lengths
from audiotok.testing.layers import assert_padding as assert_padding
from audiotok.testing.layers import assert_streams as assert_streams
from audiotok.testing.quantizers import assert_quantizes as assert_quantizes
from audiotok.testing.quantizers import assert_refines as assert_refines
from audiotok.testing.quantizers import assert_tables as assert_tables
from audiotok.testing.tensors import assert_differentiable as assert_differentiable
from audiotok.testing.tensors import assert_embeddings as assert_embeddings
from audiotok.testing.tensors import assert_tensors as assert_tensors
