"""Public names of `audiotok.runtime`."""

from audiotok.runtime.backends.base import Backend as Backend
from audiotok.runtime.base import Executor as Executor
from audiotok.runtime.base import Plan as Plan
from audiotok.runtime.base import RunnableCodec as RunnableCodec
from audiotok.runtime.exported import Exported as Exported
from audiotok.runtime.exported import ExportError as ExportError
from audiotok.runtime.files import FileReport as FileReport
from audiotok.runtime.files import decode_file as decode_file
from audiotok.runtime.files import encode_file as encode_file
from audiotok.runtime.graph_executor import GraphExecutor as GraphExecutor
from audiotok.runtime.graph_executor import GraphPlan as GraphPlan
from audiotok.runtime.network_executor import NetworkExecutor as NetworkExecutor
from audiotok.runtime.sessions import Decoding as Decoding
from audiotok.runtime.sessions import Encoding as Encoding
from audiotok.runtime.stream import Latency as Latency
from audiotok.runtime.stream import Stream as Stream
from audiotok.runtime.stream import StreamBatch as StreamBatch
from audiotok.runtime.windows import Loss as Loss
from audiotok.runtime.windows import Windowed as Windowed
from audiotok.runtime.windows import loss as loss
