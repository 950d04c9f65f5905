"""Public names of `audiotok.serving`."""

from audiotok.serving.client import AsyncClient as AsyncClient
from audiotok.serving.client import AsyncConversation as AsyncConversation
from audiotok.serving.client import Client as Client
from audiotok.serving.client import ClientSession as ClientSession
from audiotok.serving.live.microphone import MicrophoneError as MicrophoneError
from audiotok.serving.live.pipe import PipeSummary as PipeSummary
from audiotok.serving.live.pipe import decode_pcm as decode_pcm
from audiotok.serving.live.pipe import encode_pcm as encode_pcm
from audiotok.serving.server.conversation import ClientError as ClientError
from audiotok.serving.server.conversation import Received as Received
from audiotok.serving.server.engine import EngineError as EngineError
from audiotok.serving.server.run import ListenError as ListenError
from audiotok.serving.server.run import Server as Server
from audiotok.serving.server.run import make_server as make_server
from audiotok.serving.server.run import serve as serve
from audiotok.serving.server.schema import ProtocolError as ProtocolError
from audiotok.serving.server.sessions import Settings as Settings
