"""The graphs of a codec, with their inputs and outputs, traced by torch and written as ONNX."""

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

from audiotok._platform.errors import InputError
from audiotok.codecs.export.forms import exportable
from audiotok.codecs.export.sequences import Rings
from audiotok.codecs.models.base import Codec
from audiotok.nn.layers.base import State

OPSET = 18
LARGEST = 1 << 30  # bytes of weights above which they are in a file beside the graph (`data_of`)


@dataclass(frozen=True)
class Graph:
    """An ONNX graph before it is written to a file.

    Attributes:
        name: name of the file.
        run: function of input and states that returns output and states, as a tuple of tensors.
        module: module whose weights `run` uses.
        input_name: name of the input.
        output_name: name of the output.
        example: an input, or None; its batch and its last axis stand for any other size.
        states: input states by name.
        state_outputs: names of output states: "next." and the name of the state that it replaces,
            or "new." and the name of the ring buffer that it goes into.
        min_size: smallest size of the last axis.
    """

    name: str
    run: Callable[..., tuple[Tensor, ...]]
    module: nn.Module
    input_name: str
    output_name: str
    example: Tensor | None
    states: dict[str, Tensor]
    state_outputs: tuple[str, ...] = ()
    min_size: int = 1


class States:
    """A tree of states as a flat list of named tensors, and back.

    Some leaves are constant and rebuilt instead: tensors without elements, and a convolution's
    flags of the signals that have begun, as all have.
    """

    def __init__(self, state: State, prefix: str) -> None:
        self._tree = state
        self.named = {
            f"{prefix}.{name}": leaf for name, leaf in _leaves(state) if not _constant(leaf)
        }
        rings = {f"{prefix}.{name}" for name in _rings(state)}
        self.rings = tuple(name for name in self.named if name in rings)
        self.state_outputs = tuple(f"{'new' if n in rings else 'next'}.{n}" for n in self.named)

    def flat(self, state: State) -> tuple[Tensor, ...]:
        """Return the tensors of a state, in the order of `named`."""
        pairs = zip(_leaves(self._tree), _leaves(state), strict=True)
        return tuple(leaf for (_, like), (_, leaf) in pairs if not _constant(like))

    def tree(self, leaves: Sequence[Tensor], batch: Any) -> State:
        """Return the state that consists of these tensors.

        Args:
            leaves: tensors in the order of `named`.
            batch: size of the batch.
        """
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
    """Return the tensors of a tree of states with their names."""
    if isinstance(state, tuple):
        parts = [_leaves(part, f"{name}.{i}" if name else str(i)) for i, part in enumerate(state)]
        return [leaf for part in parts for leaf in part]
    return [] if state is None else [(name or "0", state)]


def _rings(state: State, name: str = "") -> list[str]:
    """Return the names of leaves that are ring buffers."""
    if isinstance(state, Rings):
        return [leaf for leaf, _ in _leaves(state, name)]
    parts = enumerate(state if isinstance(state, tuple) else ())
    return [leaf for i, part in parts for leaf in _rings(part, f"{name}.{i}" if name else str(i))]


def _constant(leaf: Tensor) -> bool:
    """Return whether a leaf is the same in every state."""
    return not leaf.numel() or (leaf.dtype == torch.bool and leaf.ndim == 1)


def whole(codec: Codec, codebooks: int) -> list[Graph]:
    """Return the graphs of encoder and decoder of whole recordings.

    They turn audio `[b c t]` into codes `[b k f]` of the first `codebooks` codebooks, or into
    latents `[b d f]`, and back where there is a decoder.
    """
    fresh = exportable(codec)
    frames, holds = codec.first_frames + 2, codec.kind
    if codec.period > 1:  # so that what is traced is the case of several segments
        frames += 2 * codec.period

    def encode(wave: Tensor) -> tuple[Tensor, ...]:
        if not fresh.fills_up:
            return (fresh.quantizer.encode(fresh.finish_latent(wave, None), codebooks),)
        fill = -wave.shape[2] % fresh.frame_size
        wave = F.pad(wave, (fresh.start_padding, fill + fresh.look_ahead))
        latent, _ = fresh.step_latent(wave, fresh.start_latent(wave.shape[0]))
        return (fresh.quantizer.encode(latent[:, :, fresh.padding_frames :], codebooks),)

    def decode(codes: Tensor) -> tuple[Tensor, ...]:
        latent = fresh.quantizer.decode(codes)
        if not fresh.fills_up:
            return (fresh.finish_wave(latent, None),)
        state = fresh.start_wave(codes.shape[0])
        audio, state = fresh.step_wave(latent, state, codes.shape[2])
        if fresh.look_ahead:
            audio = torch.cat([audio[:, :, fresh.look_ahead :], fresh.flush_wave(state)], 2)
        return (audio,)

    # What a codec computes once, such as windows and filters, is not to be what is traced.
    short = (codec.first_frames + 1) * codec.frame_size
    with torch.no_grad():
        codec.latents(torch.zeros(1, codec.channels, short, device=codec.device))
    wave = torch.randn(2, codec.channels, frames * codec.frame_size - 3)
    codes = _codes(codec, codebooks, frames)
    encoder = Graph("encoder", encode, fresh, "audio", holds, wave, {})
    if not codec.decodes:
        return [encoder]
    return [encoder, Graph("decoder", decode, fresh, holds, "audio", codes, {})]


def stepwise(
    codec: Codec, codebooks: int, *, rings: bool = False
) -> tuple[list[Graph], dict[str, States]]:
    """Return the graphs that run any number of whole frames at a time, with states in and out.

    Where a codec mirrors its first frames, `_begin` takes at least that many and no states, and
    `encoder_finish` takes the last samples, which do not fill a frame. Where the decoder lags,
    `decoder_flush` returns the samples that it holds back.

    Args:
        codec: the codec.
        codebooks: number of codebooks, from the first.
        rings: whether keys and values of attention are in ring buffers.

    Returns:
        The graphs, and the states of "encoder" and "decoder" before the first step (all zeros).

    Raises:
        ValueError: it looks ahead: no step of one frame is determined.
    """
    if not codec.causal:
        raise InputError(f"{codec.name} looks ahead, so it has no steps: export it whole")
    fresh, started = (exportable(codec, started=begun, rings=rings) for begun in (False, True))
    hop, frames = codec.frame_size, codec.first_frames + 2
    encoder = States(started.start_latent(2), "encoder")
    decoder = States(started.start_wave(2) if codec.decodes else None, "decoder")
    if codec.fills_up and any(s.any() for part in (encoder, decoder) for s in part.named.values()):
        raise InputError(f"{codec.name} starts from states that are not zero")

    def encode(wave: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        latent, after = started.step_latent(wave, encoder.tree(states, wave.shape[0]))
        return (started.quantizer.encode(latent, codebooks), *encoder.flat(after))

    def decode(codes: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        state, latent = decoder.tree(states, codes.shape[0]), started.quantizer.decode(codes)
        audio, after = started.step_wave(latent, state, codes.shape[2])
        return (audio, *decoder.flat(after))

    def begin_encode(wave: Tensor) -> tuple[Tensor, ...]:
        latent, after = fresh.step_latent(wave, fresh.start_latent(wave.shape[0]))
        return (fresh.quantizer.encode(latent, codebooks), *encoder.flat(after))

    def begin_decode(codes: Tensor) -> tuple[Tensor, ...]:
        state, latent = fresh.start_wave(codes.shape[0]), fresh.quantizer.decode(codes)
        audio, after = fresh.step_wave(latent, state, codes.shape[2])
        return (audio, *decoder.flat(after))

    def finish_encode(wave: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        state = encoder.tree(states, wave.shape[0])
        return (started.quantizer.encode(started.finish_latent(wave, state), codebooks),)

    def flush(*states: Tensor) -> tuple[Tensor, ...]:
        return (started.flush_wave(decoder.tree(states, states[0].shape[0])),)

    wave, codes = torch.randn(2, codec.channels, frames * hop), _codes(codec, codebooks, frames)
    e, d, holds = encoder.state_outputs, decoder.state_outputs, codec.kind
    graphs = [
        Graph("encoder_step", encode, started, "audio", holds, wave, encoder.named, e),
        Graph("decoder_step", decode, started, holds, "audio", codes, decoder.named, d),
    ]
    if not codec.fills_up:
        least = codec.first_frames
        short = torch.randn(2, codec.channels, hop - 3)
        graphs += [
            Graph("encoder_begin", begin_encode, fresh, "audio", holds, wave, {}, e, least * hop),
            Graph("decoder_begin", begin_decode, fresh, holds, "audio", codes, {}, d, least),
            Graph("encoder_finish", finish_encode, started, "audio", holds, short, encoder.named),
        ]
    if codec.look_ahead:
        graphs.append(Graph("decoder_flush", flush, started, "", "audio", None, decoder.named))
    if not codec.decodes:
        graphs = [graph for graph in graphs if graph.name.startswith("encoder")]
    return graphs, {"encoder": encoder, "decoder": decoder}


def _codes(codec: Codec, codebooks: int, frames: int) -> Tensor:
    """Return random codes `[2 codebooks frames]`, or latents `[2 width frames]`."""
    if codec.width:
        return torch.randn(2, codec.width, frames)
    rows = [torch.randint(size, (2, frames)) for size in codec.sizes[:codebooks]]
    return torch.stack(rows, 1)


class _Traced(nn.Module):
    """A graph's function as a module, which is what torch traces."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.codec = graph.module
        self._run = graph.run

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._run(*tensors)


@torch.no_grad()
def write(graph: Graph, path: Path) -> None:
    """Write a graph as an ONNX file, which holds 2 GB at most: with large weights beside it.

    Raises:
        ValueError: torch cannot trace it, or ONNX has no such operation; the message gives the
            reason.
    """
    inputs = [*([graph.example] if graph.example is not None else []), *graph.states.values()]
    free = torch.export.Dim.DYNAMIC
    axes = [{0: free} for _ in inputs]
    if graph.example is not None:
        axes[0][2] = torch.export.Dim.DYNAMIC(min=graph.min_size) if graph.min_size > 1 else free
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations within torch
            # torch warns that torchvision is missing, which is not needed.
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                _Traced(graph),
                tuple(inputs),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(tuple(axes),),
                input_names=[*([graph.input_name] if graph.input_name else []), *graph.states],
                output_names=[graph.output_name, *graph.state_outputs],
                verbose=False,
            )
            if program is None:
                raise InputError("torch made nothing")
            _remove_metadata(program.model)
            weights = program.model.graph.initializers.values()
            size = sum(x.const_value.nbytes for x in weights if x.const_value is not None)
            program.save(str(path), external_data=size > LARGEST)
    except (RuntimeError, torch.onnx.OnnxExporterError, TypeError, ValueError) as error:
        why = " ".join(str(error.__cause__ or error).split())[:200]
        raise InputError(f"{graph.name} cannot be written as ONNX: {why}") from None


def data_of(path: Path) -> Path:
    """Return the path of the file beside an ONNX file that holds its weights if they are large."""
    return path.with_name(f"{path.name}.data")


def _remove_metadata(model: Any) -> None:
    """Remove torch's notes on the origin of each node.

    They are stack traces with the paths of this machine and names of Python modules, together
    larger than the graph.
    """
    parts = (model.graph, *model.functions.values())
    for owner in (*parts, *(node for part in parts for node in part.all_nodes())):
        owner.metadata_props.clear()
