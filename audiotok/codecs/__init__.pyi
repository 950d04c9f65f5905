"""Public names of `audiotok.codecs`."""

from audiotok.codecs.catalogue import CheckpointError as CheckpointError
from audiotok.codecs.centroids import UnitFit as UnitFit
from audiotok.codecs.centroids import draw_recordings as draw_recordings
from audiotok.codecs.centroids import fit_units as fit_units
from audiotok.codecs.centroids import import_units as import_units
from audiotok.codecs.centroids import save_units as save_units
from audiotok.codecs.checkpoint import read_card as read_card
from audiotok.codecs.checkpoint import save as save
from audiotok.codecs.conformance import CheckResult as CheckResult
from audiotok.codecs.conformance import InapplicableError as InapplicableError
from audiotok.codecs.conformance import PromiseError as PromiseError
from audiotok.codecs.conformance import conform as conform
from audiotok.codecs.functions import FunctionCodec as FunctionCodec
from audiotok.codecs.load import load_decoder as load_decoder
from audiotok.codecs.models.base import Codec as Codec
from audiotok.codecs.models.kmeans import Kmeans as Kmeans
from audiotok.codecs.models.kmeans import KmeansConfig as KmeansConfig
from audiotok.codecs.tensors import CodeBatch as CodeBatch
from audiotok.codecs.tensors import Reconstruction as Reconstruction
from audiotok.codecs.tensors import WaveBatch as WaveBatch
