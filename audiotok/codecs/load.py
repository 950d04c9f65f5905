"""Loading of codecs by name, by the path of their weights, or by an exported folder."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from audiotok._platform.console import UsageError
from audiotok._platform.registry import find, presets
from audiotok._platform.registry import names as parts
from audiotok.codecs.catalogue import CheckpointError, local_weights
from audiotok.codecs.fastest import fastest_backend, shipped_graphs
from audiotok.nn.pretrained.hub import cache_folder
from audiotok.runtime.exported import FORMAT, Exported, ExportError, is_exported, read_metadata

if TYPE_CHECKING:
    import torch

    from audiotok.codecs.decoders.base import Decoder
    from audiotok.codecs.models.base import Codec
    from audiotok.runtime.backends.base import Precision
    from audiotok.runtime.base import RunnableCodec

log = logging.getLogger("audiotok")


def names(family: str = "codecs") -> list[str]:
    """Return the names that can be asked for, sorted: those of codecs are what `load` takes.

    Args:
        family: "codecs"; or another family of parts, as "metrics" or "quantizers".

    Raises:
        UnknownPartError: there is no such family.
    """
    return sorted(presets(family)) if family in ("codecs", "decoders") else parts(family)


@overload
def load(
    name_or_path: str | Path = "speech",
    *,
    name: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    layout: str | None = None,
    backend: Literal["torch"] = "torch",
    precision: Precision = "float32",
) -> Codec: ...


@overload
def load(
    name_or_path: str | Path = "speech",
    *,
    name: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    layout: str | None = None,
    backend: Literal["onnx", "openvino"],
    threads: int | None = None,
    precision: Precision = "float32",
) -> Exported: ...


@overload
def load(
    name_or_path: str | Path = "speech",
    *,
    name: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    layout: str | None = None,
    backend: str,
    threads: int | None = None,
    precision: Precision = "float32",
) -> RunnableCodec[Any]: ...


def load(
    name_or_path: str | Path = "speech",
    *,
    name: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    layout: str | None = None,
    backend: str = "torch",
    threads: int | None = None,
    precision: Precision = "float32",
) -> RunnableCodec[Any]:
    """Load a codec ready to use: by name, by the path of a checkpoint, or from an exported folder.

    Weights that neither ship nor are in the cache are downloaded (`hub`). A checkpoint may be of
    audiotok or of another program (`state_dicts`): its codec is recognised from its tensors.

    Args:
        name_or_path: a codec's name (`"encodec_24khz"`, or any of `names`), or the id of the
            Hugging Face repository of its weights (`"kyutai/mimi"`); else a file, the folder of
            such a repository or of `codecs.transformers`, or a folder that `audiotok export`
            wrote, which needs a backend other than torch, and no torch; else code,
            `"my_module:codec"`: a codec, or a class or function of no arguments that gives one.
            It is imported, so pass no such name that a file holds.
        name: name of the codec in a file whose weights fit several (DM-Codec's are
            SpeechTokenizer's in all but their values).
        device: device on which to place it; torch only.
        dtype: "float32", which is the type of the weights in any case: in half precision the codes
            would not be those that the fingerprint stands for. Others are refused.
        layout: layout of the codes, for a codec whose weights have several (`codec.layouts`;
            `stable_codec`); its own if None.
        backend: backend that runs it: "torch", "onnx" (onnxruntime) or "openvino". A codec that is
            not exported yet is exported once, into the cache; that takes a minute or two. "fastest"
            is the one that is fastest here with equal codes (`fastest.fastest_backend`).
        threads: number of threads of a backend other than torch (one per core if None).
        precision: "float32"; "int8" is torch's, where the decoder computes in 8-bit integers, which
            changes no codes (`codecs.int8`); "bfloat16" is OpenVINO's, and changes codes.

    Raises:
        CheckpointError: no weights, or a file that does not fit; the message tells what to do.
        DeviceError: there is no such device here.
        ExportError: an exported folder that is damaged, or a codec that cannot be exported.
        HubError: weights that cannot be downloaded; the message tells which file to put where.
        InputError: the codec has no such layout, or but one.
        Int8Error: 8-bit integers cannot be had here, or gain nothing; the message tells why.
        ImportError: the backend's library is not installed; the message tells how to install it.
        UnknownPartError: no such name or backend; the message lists the known ones.
        UsageError: weights of another dtype than float32.
        ExternalCodecError: code that cannot be imported, or that is no codec.
        PluginError: a codec of another package that cannot be used.
    """
    if str(dtype).removeprefix("torch.") not in ("None", "float32"):
        raise UsageError(
            f"dtype {dtype}: weights are float32, since others give other codes; torch.autocast "
            "around reconstruct_tensors or codec(wave) trains faster, precision='int8' decodes "
            "faster, and backend='openvino' with precision='bfloat16' encodes faster"
        )
    if backend == "fastest":
        backend = choose_backend(name_or_path, str(device), precision)
    if backend == "torch":
        if precision == "bfloat16":
            raise UsageError("precision bfloat16: OpenVINO's; torch runs in float32 or int8")
        if is_exported(name_or_path):
            way = "load(..., backend='onnx') runs it"
            raise ExportError(f"{name_or_path}: an exported codec, which torch does not run: {way}")
        try:
            from audiotok.codecs import checkpoint, external
            from audiotok.codecs.int8 import decode_in_int8
            from audiotok.nn.device import usable_device
        except ImportError as error:
            way = "pip install torch, or give an exported codec and backend='onnx'"
            raise ExportError(f"{name_or_path}: needs torch ({error}): {way}") from None
        if external.is_import(name_or_path):
            device = usable_device(device)
            codec = external.load_import(str(name_or_path)).eval().requires_grad_(False).to(device)
            if layout is not None:
                codec.set_layout(layout)
        else:
            codec = checkpoint.load(name_or_path, name=name, device=device, layout=layout)
        return decode_in_int8(codec) if precision == "int8" else codec
    kind = find("backends", backend)
    if str(device) != "cpu":
        raise ExportError(f"backend {backend} runs on the CPU, not on {device}")
    path = Path(name_or_path)
    if not is_exported(path):
        shipped = None if layout else shipped_graphs(name_or_path)
        path = shipped or _exported(name_or_path, name, layout)
    elif layout is not None:
        raise ExportError(f"{path}: holds one layout, and {layout!r} cannot be chosen: export it")
    description = read_metadata(path)
    if name is not None and name != description["codec"]:
        raise ExportError(f"{path}: holds {description['codec']!r}, not {name!r}")
    folder = path if path.is_dir() else path.parent
    graphs = description["graphs"].items()
    files: dict[str, Any] = {n: folder / Path(graph["file"]).name for n, graph in graphs}
    data = description.get("data")
    weights = folder / Path(data["file"]).name if data else None
    return Exported(description, kind(files, threads=threads, precision=precision), weights)


def load_decoder(
    name_or_path: str | Path, *, source: str | None = None, device: str | torch.device = "cpu"
) -> Decoder:
    """Load a decoder apart from its tokenizer: by name, or by the path of a checkpoint.

    Args:
        name_or_path: a decoder's name (any of `names("decoders")`), or a checkpoint's path.
        source: name of the tokenizer, where a decoder is there for several (`"griffin_lim"`); the
            first of them if None.
        device: device on which to place it.

    Raises:
        CheckpointError: no decoder's checkpoint.
        DeviceError: there is no such device here.
        UnknownPartError: no such name; the message lists the known ones.
    """
    from audiotok.codecs import checkpoint
    from audiotok.codecs.decoders.base import Decoder
    from audiotok.nn.device import usable_device

    name = str(name_or_path)
    if checkpoint.is_path(name_or_path):
        loaded = checkpoint.load(name_or_path, device=device, family="decoders")
        if not isinstance(loaded, Decoder):
            raise CheckpointError(f"{name_or_path}: holds codec {loaded.name!r}, no decoder alone")
        return loaded
    if name in parts("decoders"):
        of_part = [preset for preset, part in presets("decoders").items() if part == name]
        built = [checkpoint.build(preset, "decoders") for preset in of_part]
        fitting = [decoder for decoder in built if source in (None, decoder.source.codec)]
        decoder = (fitting or built)[0]
    else:
        decoder = checkpoint.build(name, "decoders")
    if not decoder.own_weights:
        path = local_weights(decoder.name, None)
        if path is None:
            raise CheckpointError(
                f"decoder {name!r} has no weights here: give the path of a checkpoint, which "
                f"{decoder.trained_by} trains"
            )
        name = decoder.name
        decoder = load_decoder(path)
        decoder.name = name
    return decoder.eval().requires_grad_(False).to(usable_device(device))


def choose_backend(
    name_or_path: str | Path,
    device: str = "cpu",
    precision: Precision = "float32",
    *,
    search: int | None = None,
) -> str:
    """Return the name of the fastest backend here with equal codes; see `fastest_backend`.

    Args:
        name_or_path: as for `load`.
        device: device to run on.
        precision: "int8", which only torch has; else it is chosen among all backends.
        search: paths of the search for codes; more than 1 are torch's, too.
    """
    if precision == "int8" or (search or 1) > 1:
        return "torch"
    return fastest_backend(name_or_path, device, lambda path, name: load(path, backend=name))


def load_once(codec: str, device: str, precision: Precision = "float32") -> Codec:
    """Return the torch codec of a name or checkpoint, the same instance throughout this process.

    Args:
        codec: name or path, as for `load`.
        device: device on which to place it.
        precision: as for `load`.

    Raises:
        CheckpointError: it does not exist, or is damaged.
        DeviceError: there is no such device here.
    """
    return _load_torch(codec, device, precision, None)  # a cache tells defaults from what is given


@cache
def _load_torch(codec: str, device: str, precision: Precision, search: int | None) -> Codec:
    """Return the torch codec, the same instance each time."""
    model = load(codec, device=device, precision=precision)
    if search is not None:
        model.set_search(search)
    return model


def load_in_backend(
    codec: str,
    device: str,
    backend: str | None,
    precision: Precision = "float32",
    *,
    search: int | None = None,
) -> RunnableCodec[Any]:
    """Return the codec of a name or path in a backend, the same instance throughout this process.

    Args:
        codec: name or path, as for `load`.
        device: device on which to place it.
        backend: name of the backend; the fastest if None (`fastest.fastest_backend`).
        precision: as for `load`.
        search: paths of the search for codes (`Codec.set_search`); the codec's own if None.

    Raises:
        ValueError: as `load_once`, or the backend cannot run it or search.
    """
    backend = backend or choose_backend(codec, device, precision, search=search)
    if backend == "torch":
        return _load_torch(codec, device, precision, search)
    if (search or 1) > 1:
        raise UsageError(f"search {search}: graphs take the nearest entries; use backend torch")
    return _load_exported(codec, backend, device, precision)


@cache
def _load_exported(
    codec: str, backend: str, device: str, precision: Precision
) -> RunnableCodec[Any]:
    """Return the codec in a backend other than torch, the same instance each time."""
    return load(codec, backend=backend, device=device, precision=precision)


def _exported(name_or_path: str | Path, name: str | None, layout: str | None) -> Path:
    """Return the cached export of a codec; export it if there is none, or an old or damaged one."""
    try:
        from audiotok.codecs.export.folder import export
        from audiotok.codecs.export.supported import check_preset
    except ImportError as error:
        way = "give a folder that `audiotok export` wrote elsewhere"
        raise ExportError(
            f"{name_or_path}: no exported codec, and it cannot be exported here ({error}): {way}"
        ) from None
    check_preset(name_or_path)
    codec = load(name_or_path, name=name, layout=layout)
    weights = f"{codec.fingerprint}-{codec.decoder_fingerprint}"
    folder = cache_folder() / "exported" / f"{codec.name}-{weights}"
    if not _is_current(folder):
        again = ", once" if not folder.exists() else " again: what is there is old or damaged"
        doing = "%s is exported into %s%s; that takes a minute or two"
        log.warning(doing, codec.name, folder, again)
        export(codec, folder, rings=codec.causal, force=True)
    return folder


def _is_current(folder: Path) -> bool:
    """Return whether an export in the cache is complete and of the current format."""
    try:
        return read_metadata(folder)["format"] == FORMAT
    except ExportError:
        return False
