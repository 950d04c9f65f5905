"""Choice of the fastest backend that gives a codec's codes on this machine, measured once.

Only graphs that are at hand take part: those that ship beside the weights of a codec, and exported
folders. Others are exported when they are asked for by name (`load(..., backend="onnx")`).
"""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotok._platform.atomic import atomic_file
from audiotok._platform.console import one_line
from audiotok._platform.errors import InputError
from audiotok._platform.jsonfile import parse
from audiotok.codecs.catalogue import WEIGHTS
from audiotok.nn.pretrained.hub import cache_folder
from audiotok.runtime.exported import is_exported

if TYPE_CHECKING:
    from audiotok.runtime.base import RunnableCodec

Load = Callable[[str | Path, str], "RunnableCodec[Any]"]

log = logging.getLogger("audiotok")

VARIABLE = "AUDIOTOK_BACKEND"  # environment variable that overrides the choice
LIBRARIES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
SECONDS = 6.0  # length of the audio to measure on
ROUNDS = 3
CLOSE = 1e-4  # largest difference of decoded samples
WORTH = 1.25  # times as fast as another backend that torch has to be
"""Importing torch takes the time of coding minutes of audio, which is most of many a command."""


def shipped_graphs(codec: str | Path) -> Path | None:
    """Return the JSON file of the graphs that ship beside the weights of a codec, or None."""
    path = WEIGHTS / f"{codec}.json"
    return path if str(codec).isidentifier() and path.is_file() else None


def fastest_backend(codec: str | Path, device: str, load: Load) -> str:
    """Return the name of the fastest backend on this machine whose codes are those of torch.

    Others are taken unless torch is a good deal faster, as they start in a second less. It is
    measured when a codec is first asked for, and stored in the cache; the message of the
    log says so. The environment variable AUDIOTOK_BACKEND overrides it.

    Args:
        codec: name or path, as of `load`.
        device: device to run on; others than the CPU have torch only.
        load: function that loads the codec in a backend, to measure it.

    Raises:
        ValueError: the environment variable names no backend.
    """
    there = [name for name, library in LIBRARIES.items() if find_spec(library)]
    others = [name for name in there if name != "torch"]
    chosen = os.environ.get(VARIABLE)
    if chosen and chosen not in LIBRARIES:
        raise InputError(f"{VARIABLE}={chosen}: the backends are {', '.join(LIBRARIES)}")
    if is_exported(codec):  # which torch cannot run
        return chosen if chosen in others else (others or ["onnx"])[0]
    graphs = None if device != "cpu" else shipped_graphs(codec)
    if chosen or not others or graphs is None:
        return chosen or "torch"
    if "torch" not in there:
        return others[0]
    key = _key(parse(graphs.read_bytes(), str(graphs)), there)
    row = _stored().get(key)
    known = row.get("backend") if isinstance(row, dict) else None
    return known if known in there else _measure(codec, key, others, load)


def _measure(codec: str | Path, key: str, others: list[str], load: Load) -> str:
    """Measure the backends, store the fastest and return it."""
    tokens, wave, seconds = {}, {}, {}
    for name in ("torch", *others):
        try:
            model = load(codec, name)
            audio = _noise(model.sample_rate)
            tokens[name] = model.encode(audio, model.sample_rate)
            wave[name] = model.decode(tokens[name]).samples.numpy()
            seconds[name] = _quickest(lambda m=model, a=audio: m.decode(m.encode(a, m.sample_rate)))
        except Exception as error:  # a library that is there but broken: torch needs none of them
            if name == "torch":
                raise
            log.warning("%s does not run in %s here: %s", codec, name, one_line(str(error)))
    equal = [
        name
        for name in others
        if name in seconds
        and tokens[name] == tokens["torch"]
        and np.abs(wave[name] - wave["torch"]).max() <= CLOSE
    ]
    cost = {name: seconds[name] * (WORTH if name == "torch" else 1) for name in seconds}
    best = min(["torch", *equal], key=cost.__getitem__)
    ratios = {name: round(seconds["torch"] / seconds[name], 2) for name in seconds}
    path = _path()
    row = {"codec": str(codec), "backend": best, "speed": ratios, "equal": equal}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part:
            part.write_text(json.dumps({**_stored(), key: row}, indent=1) + "\n", "utf-8")
    except OSError:
        log.debug("%s cannot be written", path, exc_info=True)
    why = "no other backend with equal codes is nearly as fast"
    if best in equal:
        why = f"equal codes, {ratios[best]:g} times as fast as torch, which need not be imported"
    log.warning("%s runs in %s on this machine: %s (measured once: %s)", codec, best, why, path)
    return best


def _noise(rate: int) -> np.ndarray:
    """Return noise `[1 t]` of a varying level, the same every time."""
    time = np.arange(int(SECONDS * rate)) / rate
    white = np.random.default_rng(0).standard_normal(len(time))
    return (0.1 * white * (1 + np.sin(2 * np.pi * 3.1 * time)))[None].astype(np.float32)


def _quickest(run: Callable[[], Any]) -> float:
    """Return the seconds of the quickest of some runs."""
    times = []
    for _ in range(ROUNDS):
        begin = perf_counter()
        run()
        times.append(perf_counter() - begin)
    return min(times)


def _key(metadata: dict[str, Any], backends: list[str]) -> str:
    """Return what a measurement holds for: weights, versions, and processor."""
    libraries = [f"{name} {_version(LIBRARIES[name])}" for name in backends]
    weights = f"{metadata['fingerprint']} {metadata['decoder_fingerprint']}"
    return ", ".join([weights, _version("audiotok"), *libraries, _processor()])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


def _processor() -> str:
    """Return the name of the processor and the number of its cores."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:  # not on Linux
        lines = []
    model = next((line.partition(":")[2] for line in lines if line.startswith("model name")), name)
    return f"{' '.join(model.split())} x {os.cpu_count()}"


def _path() -> Path:
    return cache_folder() / "backends.json"


def _stored() -> dict[str, Any]:
    """Return the measurements so far by key; none if there is no file, or none that can be read."""
    try:
        content = json.loads(_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
