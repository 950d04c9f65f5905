"""Public names of `audiotok.runtime`."""

from audiotok.runtime.backends.base import Backend as Backend
from audiotok.runtime.base import Executor as Executor
from audiotok.runtime.base import RunnableCodec as RunnableCodec
from audiotok.runtime.batching_numpy import GraphStream as GraphStream
from audiotok.runtime.batching_numpy import GraphStreamBatch as GraphStreamBatch
from audiotok.runtime.exported import Exported as Exported
from audiotok.runtime.exported import ExportError as ExportError
from audiotok.runtime.files import FileReport as FileReport
from audiotok.runtime.files import decode_file as decode_file
from audiotok.runtime.files import encode_file as encode_file
from audiotok.runtime.stream import Latency as Latency
from audiotok.runtime.stream import Stream as Stream
from audiotok.runtime.stream import StreamBatch as StreamBatch
from audiotok.runtime.windows import Loss as Loss
from audiotok.runtime.windows import Windowed as Windowed
from audiotok.runtime.windows import loss as loss
