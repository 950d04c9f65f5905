"""Public names of `audiotok.audio`."""

from audiotok.audio.audio import Audio as Audio
from audiotok.audio.base import AudioFileError as AudioFileError
from audiotok.audio.decoders import HeaderlessError as HeaderlessError
from audiotok.audio.pcm import PcmError as PcmError
from audiotok.audio.pcm import PcmReader as PcmReader
from audiotok.audio.reader import Source as Source
from audiotok.audio.reader import open_audio as open_audio
from audiotok.audio.resample import Resampler as Resampler
from audiotok.audio.writer import Sink as Sink
