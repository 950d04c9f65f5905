"""The graphs of a codec: what each takes and gives, traced by torch and written as ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.codecs.export.forms import exportable
from audiotok.codecs.export.sequences import Rings
from audiotok.codecs.models.base import Codec
from audiotok.nn.layers.base import State

OPSET = 18


@dataclass(frozen=True)
class Graph:
    """One ONNX file before it is written.

    Attributes:
        name: of the file.
        run: input and states to output and states, the last two tuples of tensors.
        takes, gives: names of input and output.
        module: whose weights `run` uses.
        example: an input, or None; its batch and its last axis stand for any other size.
        states: those that come in, by name.
        handed: outputs that are states: "next." and the name of one that it takes the place of,
            "new." and the name of a ring that it goes into.
        least: the smallest last axis.
    """

    name: str
    run: Callable[..., tuple[Tensor, ...]]
    module: nn.Module
    takes: str
    gives: str
    example: Tensor | None
    states: dict[str, Tensor]
    handed: tuple[str, ...] = ()
    least: int = 1


class States:
    """A tree of states as a flat list of named tensors, and back.

    What needs no passing on is made anew: tensors without elements, and a convolution's note of
    which signals have begun, as all have.
    """

    def __init__(self, state: State, prefix: str) -> None:
        self._tree = state
        self.named = {
            f"{prefix}.{name}": leaf for name, leaf in _leaves(state) if not _constant(leaf)
        }
        rings = {f"{prefix}.{name}" for name in _rings(state)}
        self.rings = tuple(name for name in self.named if name in rings)
        self.handed = tuple(f"{'new' if n in rings else 'next'}.{n}" for n in self.named)

    def flat(self, state: State) -> tuple[Tensor, ...]:
        """The tensors of a state, in the order of `named`."""
        pairs = zip(_leaves(self._tree), _leaves(state), strict=True)
        return tuple(leaf for (_, like), (_, leaf) in pairs if not _constant(like))

    def tree(self, leaves: Sequence[Tensor], batch: Any) -> State:
        """The state of these tensors."""
        left = iter(leaves)

        def build(node: State) -> State:
            if isinstance(node, tuple):
                return tuple(build(part) for part in node)
            if node is None:
                return None
            if _constant(node):
                return torch.zeros(batch, *node.shape[1:], dtype=node.dtype)
            return next(left)

        return build(self._tree)


def _leaves(state: State, name: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(state, tuple):
        parts = [_leaves(part, f"{name}.{i}" if name else str(i)) for i, part in enumerate(state)]
        return [leaf for part in parts for leaf in part]
    return [] if state is None else [(name or "0", state)]


def _rings(state: State, name: str = "") -> list[str]:
    """Names of leaves that are rings."""
    if isinstance(state, Rings):
        return [leaf for leaf, _ in _leaves(state, name)]
    parts = enumerate(state if isinstance(state, tuple) else ())
    return [leaf for i, part in parts for leaf in _rings(part, f"{name}.{i}" if name else str(i))]


def _constant(leaf: Tensor) -> bool:
    return not leaf.numel() or (leaf.dtype == torch.bool and leaf.ndim == 1)


def whole(codec: Codec, codebooks: int) -> list[Graph]:
    """Encoder and decoder of whole utterances: audio `[b c t]` to the first so many codes a frame,
    `[b k f]`, and back."""
    ready = exportable(codec)
    frames = codec.first_frames + 2

    def encode(wave: Tensor) -> tuple[Tensor, ...]:
        if not ready.fills_up:
            return (ready.quantizer.encode(ready.finish_latent(wave, None), codebooks),)
        fill = -wave.shape[2] % ready.frame_size
        wave = F.pad(wave, (ready.ahead, fill + ready.lead))
        latent, _ = ready.step_latent(wave, ready.start_latent(wave.shape[0]))
        return (ready.quantizer.encode(latent[:, :, ready.early :], codebooks),)

    def decode(codes: Tensor) -> tuple[Tensor, ...]:
        latent = ready.quantizer.decode(codes)
        if not ready.fills_up:
            return (ready.finish_wave(latent, None),)
        state = ready.start_wave(codes.shape[0])
        made, state = ready.step_wave(latent, state, codes.shape[2])
        if ready.lead:
            made = torch.cat([made[:, :, ready.lead :], ready.flush_wave(state)], 2)
        return (made,)

    wave = torch.randn(2, codec.channels, frames * codec.frame_size - 3)
    codes = _codes(codec, codebooks, frames)
    return [
        Graph("encoder", encode, ready, "audio", "codes", wave, {}),
        Graph("decoder", decode, ready, "codes", "audio", codes, {}),
    ]


def stepwise(
    codec: Codec, codebooks: int, *, rings: bool = False
) -> tuple[list[Graph], dict[str, States]]:
    """Graphs of whole frames at a time, any number of them, with states in and out; and the states
    of encoder and decoder before the first step (all zeros).

    Where a codec mirrors its first frames, `_begin` takes at least so many and no states, and
    `encoder_finish` takes the last samples, which do not fill a frame. Where the decoder lags,
    `decoder_flush` gives what it holds back.

    Raises:
        ValueError: it looks ahead: no step of one frame is determined.
    """
    if not codec.causal:
        raise ValueError(f"{codec.name} looks ahead, so it has no steps: export it whole")
    ready, going = (exportable(codec, going=going, rings=rings) for going in (False, True))
    hop, frames = codec.frame_size, codec.first_frames + 2
    encoder = States(going.start_latent(2), "encoder")
    decoder = States(going.start_wave(2), "decoder")
    if codec.fills_up and any(s.any() for part in (encoder, decoder) for s in part.named.values()):
        raise ValueError(f"{codec.name} starts from states that are not zero")

    def encode(wave: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        latent, after = going.step_latent(wave, encoder.tree(states, wave.shape[0]))
        return (going.quantizer.encode(latent, codebooks), *encoder.flat(after))

    def decode(codes: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        state, latent = decoder.tree(states, codes.shape[0]), going.quantizer.decode(codes)
        made, after = going.step_wave(latent, state, codes.shape[2])
        return (made, *decoder.flat(after))

    def begin_encode(wave: Tensor) -> tuple[Tensor, ...]:
        latent, after = ready.step_latent(wave, ready.start_latent(wave.shape[0]))
        return (ready.quantizer.encode(latent, codebooks), *encoder.flat(after))

    def begin_decode(codes: Tensor) -> tuple[Tensor, ...]:
        state, latent = ready.start_wave(codes.shape[0]), ready.quantizer.decode(codes)
        made, after = ready.step_wave(latent, state, codes.shape[2])
        return (made, *decoder.flat(after))

    def finish_encode(wave: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        state = encoder.tree(states, wave.shape[0])
        return (going.quantizer.encode(going.finish_latent(wave, state), codebooks),)

    def flush(*states: Tensor) -> tuple[Tensor, ...]:
        return (going.flush_wave(decoder.tree(states, states[0].shape[0])),)

    wave, codes = torch.randn(2, codec.channels, frames * hop), _codes(codec, codebooks, frames)
    e, d = encoder.handed, decoder.handed
    made = [
        Graph("encoder_step", encode, going, "audio", "codes", wave, encoder.named, e),
        Graph("decoder_step", decode, going, "codes", "audio", codes, decoder.named, d),
    ]
    if not codec.fills_up:
        least = codec.first_frames
        short = torch.randn(2, codec.channels, hop - 3)
        made += [
            Graph("encoder_begin", begin_encode, ready, "audio", "codes", wave, {}, e, least * hop),
            Graph("decoder_begin", begin_decode, ready, "codes", "audio", codes, {}, d, least),
            Graph("encoder_finish", finish_encode, going, "audio", "codes", short, encoder.named),
        ]
    if codec.lead:
        made.append(Graph("decoder_flush", flush, going, "", "audio", None, decoder.named))
    return made, {"encoder": encoder, "decoder": decoder}


def _codes(codec: Codec, codebooks: int, frames: int) -> Tensor:
    rows = [torch.randint(size, (2, frames)) for size in codec.sizes[:codebooks]]
    return torch.stack(rows, 1)


class _Traced(nn.Module):
    """A graph's function as a module, as torch traces modules."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.codec, self._run = graph.module, graph.run

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._run(*tensors)


@torch.no_grad()
def write(graph: Graph, path: Path) -> None:
    """Write a graph as an ONNX file.

    Raises:
        ValueError: torch cannot trace it, or ONNX has no such operation; says why.
    """
    inputs = [*([graph.example] if graph.example is not None else []), *graph.states.values()]
    free = torch.export.Dim.DYNAMIC
    axes = [{0: free} for _ in inputs]
    if graph.example is not None:
        axes[0][2] = torch.export.Dim.DYNAMIC(min=graph.least) if graph.least > 1 else free
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own deprecations
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision is not missed
            program = torch.onnx.export(
                _Traced(graph),
                tuple(inputs),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(tuple(axes),),
                input_names=[*([graph.takes] if graph.takes else []), *graph.states],
                output_names=[graph.gives, *graph.handed],
                verbose=False,
            )
            if program is None:
                raise ValueError("torch made nothing")
            _forget_origin(program.model)
            program.save(str(path), external_data=False)
    except (RuntimeError, torch.onnx.OnnxExporterError, TypeError, ValueError) as error:
        said = " ".join(str(error.__cause__ or error).split())[:200]
        raise ValueError(f"{graph.name} cannot be written as ONNX: {said}") from None


def _forget_origin(model: Any) -> None:
    """Drop what torch notes of each node's origin: stack traces with the paths of this machine and
    names of Python modules, together larger than the graph."""
    parts = (model.graph, *model.functions.values())
    for owner in (*parts, *(node for part in parts for node in part.all_nodes())):
        owner.metadata_props.clear()
