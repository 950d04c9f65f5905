"""Public names of `audiotok.tokens`."""

from audiotok.tokens.bits import pack as pack
from audiotok.tokens.bits import unpack as unpack
from audiotok.tokens.errors import TokenFileDamagedError as TokenFileDamagedError
from audiotok.tokens.errors import TokenFileError as TokenFileError
from audiotok.tokens.errors import TokenFileExistsError as TokenFileExistsError
from audiotok.tokens.format import Header as Header
from audiotok.tokens.latents import Latents as Latents
from audiotok.tokens.pipe import TokenSink as TokenSink
from audiotok.tokens.pipe import TokenSource as TokenSource
from audiotok.tokens.reader import TokenReader as TokenReader
from audiotok.tokens.reader import frame_range as frame_range
from audiotok.tokens.recovery import DamageReport as DamageReport
from audiotok.tokens.recovery import Piece as Piece
from audiotok.tokens.recovery import salvage as salvage
from audiotok.tokens.recovery import verify as verify
from audiotok.tokens.statistics import code_counts as code_counts
from audiotok.tokens.statistics import deduplicated as deduplicated
from audiotok.tokens.statistics import entropy as entropy
from audiotok.tokens.statistics import mutual_information as mutual_information
from audiotok.tokens.tokenizer import Tokenizer as Tokenizer
from audiotok.tokens.tokenizer import WrongTokensError as WrongTokensError
from audiotok.tokens.tokens import Recovery as Recovery
from audiotok.tokens.tokens import Tokens as Tokens
from audiotok.tokens.writer import TokenWriter as TokenWriter
