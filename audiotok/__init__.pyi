"""Public names of the package."""

from audiotok._platform.errors import Error as Error
from audiotok._platform.registry import find as find
from audiotok.audio.audio import Audio as Audio
from audiotok.codecs.load import load as load
from audiotok.codecs.load import names as names
from audiotok.codecs.models.base import Codec as Codec
from audiotok.corpus.read import Corpus as Corpus
from audiotok.lm.layout.sequence import Layout as Layout
from audiotok.runtime.stream import Stream as Stream
from audiotok.runtime.stream import StreamBatch as StreamBatch
from audiotok.tokens.latents import Latents as Latents
from audiotok.tokens.tokens import Tokens as Tokens

__version__: str
