"""UTMOS: mean opinion score without a reference (Saeki et al. 2022, arXiv:2204.02152)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrize import remove_parametrizations

from audiotok._platform.errors import InputError
from audiotok.data.features.wav2vec2 import Wav2vec2
from audiotok.evaluation.metrics.base import MissingModelError, OpinionMetric
from audiotok.nn.finite import check_finite
from audiotok.nn.pretrained import hub
from audiotok.nn.pretrained import reader as weights_reader
from audiotok.nn.skip_init import SkipInit

PAGE = "github.com/sarulab-speech/UTMOS22 (epoch=3-step=7459.ckpt)"
SOURCE = hub.PublishedWeights(
    file="utmos22_strong_step7459_v1.pt",
    url="https://github.com/tarepan/SpeechMOS/releases/download/v1.0.0/utmos22_strong_step7459_v1.pt",
)
# Rows of the tables of 3 data sets and 3000 listeners, as in the authors' demo.
DOMAIN = 0
LISTENER = 288
# torchaudio's wav2vec2_base, without its dropout.
BASE: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 768,
    "encoder_pos_conv_kernel": 128,
    "encoder_pos_conv_groups": 16,
    "encoder_num_layers": 12,
    "encoder_num_heads": 12,
    "encoder_ff_interm_features": 3072,
    "encoder_layer_norm_first": False,
}


class Utmos(OpinionMetric):
    """Predicted opinion, 1 to 5, by the strong learner of UTMOS22.

    `models["utmos"]` is the path of its weights: the authors' Lightning checkpoint, or SpeechMOS's
    copy of its inference weights, which is also downloaded where no path is given.
    """

    parts = ("utmos",)
    protocol = (
        "UTMOS22 strong learner (step 7459), one listener (288) and data set (0), 16 kHz, "
        "mono mean, no reference"
    )

    def opinions(self, waves: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """See `OpinionMetric.opinions`."""
        network = load(self.models.get("utmos") or "")
        return network(waves.to(network.judge.device))


class StrongLearner(nn.Module):
    """wav2vec 2.0 with embeddings of a listener and a data set, a BiLSTM and two linear layers.

    The published model predicts the opinions of 3000 listeners in three data sets; only one of each
    is kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hearing = Wav2vec2(BASE, normalise=False)
        network: Any = self.hearing.network
        # Checkpoints come with the weight normalisation folded in.
        remove_parametrizations(network.encoder.transformer.pos_conv_embed.conv, "weight")
        self.domain = nn.Parameter(torch.zeros(128))
        self.judge = nn.Parameter(torch.zeros(128))
        self.lstm = nn.LSTM(768 + 128 + 128, 512, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 1))

    def forward(self, wave: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """Return the opinions of waveforms `[b t]` at 16 kHz, all of one length."""
        *_, x = self.hearing.states(wave)
        conditions = torch.cat([self.domain, self.judge]).expand(*x.shape[:2], -1)
        x = self.projection(self.lstm(torch.cat([x, conditions], 2))[0])
        return x.mean((1, 2)) * 2 + 3


# Parameter names of fairseq's wav2vec 2.0, and torchaudio's for them.
RENAMED = (
    (r"feature_extractor\.conv_layers\.(\d)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"feature_extractor\.conv_layers\.0\.2\.", "feature_extractor.conv_layers.0.layer_norm."),
    (r"layer_norm\.", "encoder.feature_projection.layer_norm."),
    (r"post_extract_proj\.", "encoder.feature_projection.projection."),
    (r"encoder\.pos_conv\.0\.", "encoder.transformer.pos_conv_embed.conv."),
    (r"encoder\.layer_norm\.", "encoder.transformer.layer_norm."),
    (r"encoder\.layers\.(\d+)\.self_attn\.", r"encoder.transformer.layers.\1.attention."),
    (
        r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.",
        r"encoder.transformer.layers.\1.layer_norm.",
    ),
    (
        r"encoder\.layers\.(\d+)\.final_layer_norm\.",
        r"encoder.transformer.layers.\1.final_layer_norm.",
    ),
    (
        r"encoder\.layers\.(\d+)\.fc1\.",
        r"encoder.transformer.layers.\1.feed_forward.intermediate_dense.",
    ),
    (
        r"encoder\.layers\.(\d+)\.fc2\.",
        r"encoder.transformer.layers.\1.feed_forward.output_dense.",
    ),
)
# Prefixes of the other parts: the authors', SpeechMOS's and this package's. Then the tables, of
# which one row is kept: authors' name, shape, row, SpeechMOS's name and this package's.
PARTS = (
    ("feature_extractors.0.ssl_model.", "wav2vec2.", "hearing.network."),
    ("output_layers.0.decoder_rnn.", "blstm.", "lstm."),
    ("output_layers.1.net.0.", "projection.0.", "projection.0."),
    ("output_layers.1.net.3.", "projection.2.", "projection.2."),
)
TABLES: tuple[tuple[str, tuple[int, int], int, str, str], ...] = (
    ("feature_extractors.1.embedding.weight", (3, 128), DOMAIN, "domain_emb", "domain"),
    ("output_layers.0.judge_embedding.weight", (3000, 128), LISTENER, "judge_emb", "judge"),
)


def map_state_dict(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of either kind of file by the names used here, weight norm folded in.

    Raises:
        ValueError: a table of listeners or data sets is missing or of another shape.
    """
    weights = weights_reader.fold(dict(weights))
    ours: dict[str, Tensor] = {}
    for theirs, shape, row, copied, name in TABLES:
        table, copy = weights.pop(theirs, None), weights.pop(copied, None)
        if table is not None and table.shape == shape:
            ours[name] = table[row]
        elif copy is not None and copy.shape == (1, shape[1]):
            ours[name] = copy[0]
        else:
            raise InputError(f"no {theirs} {list(shape)} or {copied} [1, {shape[1]}]")
    for name, value in weights.items():
        for theirs, copied, part in PARTS:
            if not name.startswith((theirs, copied)):
                continue
            name = name.removeprefix(theirs if name.startswith(theirs) else copied)
            if part == "hearing.network.":
                name = _replace_prefix(RENAMED, name)
            name = part + name
            break
        ours[name] = value
    # Both files hold the embedding of masked frames, which only training needs.
    ours.pop("hearing.network.mask_emb", None)
    return ours


def _replace_prefix(patterns: tuple[tuple[str, str], ...], name: str) -> str:
    """Return the name changed by the first of the patterns that matches, or as it is."""
    for pattern, put in patterns:
        changed, times = re.subn(f"^{pattern}", put, name)
        if times:
            return changed
    return name


@cache
def load(path: str = "") -> StrongLearner:
    """Return the network with the weights at `path`, or else with cached or downloaded ones.

    Raises:
        MissingModelError: there is no such file, or it is not UTMOS's; the message says where to
            get it.
    """
    try:
        file = Path(path).expanduser() if path else _cached_or_downloaded()
        with inert_globals(file):
            weights, _ = weights_reader.read(file)
        with SkipInit():
            network = StrongLearner()
        network.load_state_dict(map_state_dict(weights))
        check_finite(network.state_dict(), file)
    except (hub.HubError, weights_reader.WeightsFileError) as error:
        raise MissingModelError(
            f'UTMOS: {error}; or give the path of the checkpoint of {PAGE} as the model "utmos"'
        ) from None
    except (ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())[:300]
        raise MissingModelError(f"{path}: not UTMOS22's strong learner: {line}") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return network.eval().requires_grad_(False).to(device)


def _cached_or_downloaded() -> Path:
    """Return the path of the weights in the cache, downloaded first where they are not there."""
    path = hub.cache_folder() / "utmos" / SOURCE.name
    try:
        return hub.cached("utmos", SOURCE) or hub.download(SOURCE.address, path)
    except hub.HubError as error:
        raise hub.HubError(f"{error}; put it into {path.parent}") from None


@contextmanager
def inert_globals(path: Path) -> Iterator[None]:
    """Let `torch.load` read a Lightning checkpoint, still with `weights_only`.

    Beside the weights it holds the options of its training run as objects of other packages. Empty
    classes stand in for them here, so that no code named by the file is run.
    """
    listed: Callable[[Path], list[str]] | None = getattr(
        torch.serialization, "get_unsafe_globals_in_checkpoint", None
    )
    try:
        names = listed(path) if listed else []
    except Exception:  # not a checkpoint: reading it raises a clearer error
        names = []
    with torch.serialization.safe_globals([_stand_in(name) for name in names]):
        yield


def _stand_in(name: str) -> type:
    """Return an empty class of the given dotted name."""
    module, _, word = name.rpartition(".")

    def nothing(*_: Any, **__: Any) -> None:
        """Ignore the state that a pickle gives the object."""

    def create(cls: type, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    content = {"__new__": create, "__init__": nothing, "__setstate__": nothing}
    return type(word, (), {"__module__": module, "__setitem__": nothing, **content})
