"""Executor of the graphs of an exported codec, in numpy alone (`network_executor` in torch)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from audiotok.runtime.backends.base import Backend
from audiotok.runtime.base import Plan, Way
from audiotok.runtime.table import (
    DENSE,
    Arrays,
    GraphState,
    TableRow,
    TableRows,
    store_outputs,
    together,
)

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class GraphPlan(Plan):
    """Plan of a codec, and the states of its graphs.

    Attributes:
        rings: names of ring-buffer states `[b h slots d]`, which a step only reads. Any other state
            is an input by its name and an output as "next.NAME", which replaces it; a ring has an
            output "new.NAME" `[b h n d]`, a fixed number of columns per frame (Mimi: two), to be
            stored from slot (columns so far) mod slots on (`store_outputs` does so).
        encoder: dtype, and shape for one signal, of each state of the encoder, which starts at
            zero; none where a codec begins with graphs of their own.
        decoder: the same for the decoder.
        latents: whether frames hold latents, `codebooks` numbers each, and inputs and outputs are
            called so, in place of codes.
    """

    rings: tuple[str, ...] = ()
    encoder: Shapes = field(default_factory=dict)
    decoder: Shapes = field(default_factory=dict)
    latents: bool = False

    @property
    def holds(self) -> str:
        """Content of a frame, which inputs and outputs are named by: "codes" or "latents"."""
        return "latents" if self.latents else "codes"

    @property
    def kind(self) -> str:
        """See `Executor.kind`: with rings, states are others."""
        return "graphs with rings" if self.rings else "graphs"

    def as_run(self) -> Plan:
        """Return the plan as a session runs it: graphs of whole recordings handle their ends."""
        whole = not self.steps
        return Plan(
            frame_size=self.frame_size,
            channels=self.channels,
            codebooks=self.codebooks,
            look_ahead=0 if whole else self.look_ahead,
            fills_up=self.fills_up and not whole,
            first_frames=self.first_frames,
            block=self.block,
            steps=self.steps,
        )


class GraphExecutor:
    """Executor of the graphs of an exported codec; see `Executor` for its methods.

    Args:
        plan: plan of the codec.
        graphs: backend with its graphs.
    """

    def __init__(self, plan: GraphPlan, graphs: Backend) -> None:
        self.plan = plan.as_run()
        self.kind = plan.kind
        self._states = {"encode": plan.encoder, "decode": plan.decoder}
        self._fills_up = plan.fills_up
        self._holds = plan.holds
        self._dtype = np.float32 if plan.latents else np.int64
        self._graphs = graphs

    # -- steps ------------------------------------------------------------------------------------

    def start(self, way: Way, batch: int) -> GraphState:
        """See `Executor.start`."""
        kinds = self._states[way].items()
        arrays = {name: np.zeros((batch, *shape), dtype) for name, (dtype, shape) in kinds}
        return GraphState(arrays, np.zeros(batch, np.int64))

    def encode(self, wave: np.ndarray, state: Any, codebooks: int) -> tuple[np.ndarray, Any]:
        """See `Executor.encode`."""
        wave = np.asarray(wave, np.float32)
        frames = wave.shape[2] // self.plan.frame_size
        return self._step("encoder", "audio", wave, state, frames)[:, :codebooks], state

    def decode(self, codes: np.ndarray, state: Any, frames: int) -> tuple[np.ndarray, Any]:
        """See `Executor.decode`."""
        # Padding is left out, since a flush is of the state after the last frame.
        codes = self._filled(codes[:, :, :frames])
        return self._step("decoder", self._holds, codes, state, frames), state

    def finish_encode(self, wave: np.ndarray, state: Any, codebooks: int) -> np.ndarray:
        """See `Executor.finish_encode`."""
        wave = np.asarray(wave, np.float32)
        if state is None:
            return self._run("encoder", {"audio": wave})[self._holds][:, :codebooks]
        whole = wave.shape[2] // self.plan.frame_size * self.plan.frame_size
        outputs = []
        if whole:
            outputs.append(self.encode(wave[:, :, :whole], state, codebooks)[0])
        if wave.shape[2] > whole:
            inputs = {"audio": wave[:, :, whole:], **state.arrays}
            outputs.append(self._run("encoder_finish", inputs)[self._holds][:, :codebooks])
        return self.join(outputs, 2)

    def finish_decode(self, codes: np.ndarray, state: Any) -> np.ndarray:
        """See `Executor.finish_decode`."""
        if state is None:
            return self._run("decoder", {self._holds: self._filled(codes)})["audio"]
        return self.decode(codes, state, codes.shape[2])[0]

    def flush(self, state: Any) -> np.ndarray:
        """See `Executor.flush`."""
        return self._run("decoder_flush", state.arrays)["audio"]

    def _step(
        self, coder: str, takes: str, x: np.ndarray, state: GraphState | TableRows, frames: int
    ) -> np.ndarray:
        """Run a step on whole frames, and update the state in place."""
        gives = self._holds if coder == "encoder" else "audio"
        if isinstance(state, TableRows):
            run = partial(self._run, f"{coder}_step")
            return _step_rows(run, takes, gives, x, state, frames)
        mirrored = not (state.begun or self._fills_up)
        graph = f"{coder}_begin" if mirrored else f"{coder}_step"
        outputs = self._run(graph, {takes: x, **({} if mirrored else state.arrays)})
        store_outputs(state.arrays, outputs, slice(None), state.positions, frames)
        state.positions += frames
        return outputs[gives]

    def _run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self._graphs.run(graph, {k: np.ascontiguousarray(x) for k, x in inputs.items()})

    def _filled(self, codes: np.ndarray) -> np.ndarray:
        """Return codes of all codebooks, in which -1 stands for a code that is not there.

        Latents, which may be in half precision, are returned in single precision.
        """
        codes = codes.astype(self._dtype, copy=False)
        missing = self.plan.codebooks - codes.shape[1]
        if not missing:
            return codes
        return np.concatenate([codes, np.full((len(codes), missing, codes.shape[2]), -1)], 1)

    # -- states of many signals --------------------------------------------------------------------

    def form(self, state: GraphState | TableRow | None) -> Hashable:
        """See `Executor.form`."""
        return state is not None and state.begun

    def gather(self, states: Sequence[GraphState | TableRow]) -> GraphState | TableRows:
        """See `Executor.gather`."""
        if len(states) > 1:
            return together(states)
        only = states[0]
        return only.copy() if isinstance(only, TableRow) else only

    def scatter(self, state: GraphState | TableRows, count: int) -> Sequence[GraphState | TableRow]:
        """See `Executor.scatter`."""
        if isinstance(state, TableRows):
            return state.rows
        return [state] if count == 1 else [state.select(slice(i, i + 1)) for i in range(count)]

    def select(self, state: GraphState, members: slice) -> GraphState:
        """See `Executor.select`."""
        return state.select(members)

    def dump(self, state: GraphState | None, arrays: dict[str, np.ndarray], name: str) -> Any:
        """See `Executor.dump`."""
        if state is None:
            return None
        arrays[f"{name}:"] = state.positions
        for part, values in state.arrays.items():
            arrays[f"{name}:{part}"] = values
        return name

    def restore(self, content: Any, arrays: dict[str, np.ndarray]) -> GraphState | None:
        """See `Executor.restore`."""
        if content is None:
            return None
        prefix = f"{content}:"
        own = {n.removeprefix(prefix): x.copy() for n, x in arrays.items() if n.startswith(prefix)}
        positions = own.pop("")
        return GraphState(own, positions)

    # -- arrays -----------------------------------------------------------------------------------

    def array(self, x: Any) -> np.ndarray:
        """See `Executor.array`."""
        return x if isinstance(x, np.ndarray) else x.detach().cpu().numpy()

    def numpy(self, x: np.ndarray) -> np.ndarray:
        """See `Executor.numpy`."""
        return x

    def zeros(
        self, batch: int, width: int, size: int, *, like: np.ndarray | None = None
    ) -> np.ndarray:
        """See `Executor.zeros`."""
        return np.zeros((batch, width, size), np.float32 if like is None else like.dtype)

    def no_codes(self, batch: int, codebooks: int) -> np.ndarray:
        """See `Executor.no_codes`."""
        return np.zeros((batch, codebooks, 0), self._dtype)

    def join(self, parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
        """See `Executor.join`."""
        return np.concatenate(list(parts), axis)


def _step_rows(
    run: Callable[[Arrays], Arrays],
    takes: str,
    gives: str,
    x: np.ndarray,
    state: TableRows,
    frames: int,
) -> np.ndarray:
    """Run a step for rows of a table, and return the output of each."""
    table, rows = state.table, state.indices
    positions, end = table.positions[rows], int(rows.max()) + 1
    if len(rows) >= DENSE * end:
        wide = np.zeros((end, *x.shape[1:]), x.dtype)
        wide[rows] = x
        outputs = run({takes: wide, **{n: values[:end] for n, values in table.arrays.items()}})
        y = outputs[gives][rows]
        order = np.argsort(rows)
        rows, positions = rows[order], positions[order]
        if len(rows) < end:
            outputs = {name: value[rows] for name, value in outputs.items()}
    else:
        outputs = run({takes: x, **{n: values[rows] for n, values in table.arrays.items()}})
        y = outputs[gives]
    stepped: Any = slice(end) if len(rows) == end else rows
    with table.lock:
        store_outputs(table.arrays, outputs, stepped, positions, frames)
        table.positions[rows] += frames
    return y
