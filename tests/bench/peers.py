"""Our encode and decode beside each codec's own program: same weights, same audio, same run.

    python tests/bench/peers.py [NAME ...] [--audio FILE] [--seconds 10 60] [--batch 1 8]
        [--threads 2] [--parity 30] [--cpu] [--json docs/results/peers.json]

Each reference is built in its published size with random weights (its codebooks drawn from
latents, so that codes spread), saves its state dict, and ours loads it. First parity: how
many codes are the same, how far samples are apart. Then speed: the two take turns, and the fastest
round of each counts. With `--json`, codecs that stand in the file with this commit are left out, so
that a run goes on where another was interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from clips import ROOT, commit, machine
from torch import Tensor
from torch.nn import functional as F

sys.path.extend(str(Path(__file__).parents[1] / room) for room in ("", "codecs", "nn"))

import test_codecs_mimi as mimis
import test_codecs_oracles as oracles
import test_codecs_pocket_tts as pockets
import test_codecs_snac as snacs
import test_codecs_vibevoice as vibes
import test_codecs_xcodec as xcodecs
import test_codecs_xcodec2 as xcodecs2
import test_state_dicts as state_dicts
from golden import dualcodec as duals
from golden import fish_s2 as fish
from golden import longcat as cats
from golden import moss as mosses
from golden import nanocodec as nano
from golden import qwen3_tts_12hz as qwen
from golden import voxcpm as voxcpms
from golden import voxtral as voxes
from random_weights import folder_of

from audiotok import Audio
from audiotok._platform.atomic import atomic_file
from audiotok._platform.registry import find_preset
from audiotok.codecs.checkpoint import load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.longcat import Longcat

RECORDING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"


class Pair(NamedTuple):
    """A reference and ours of its weights; codes of theirs are `[b k f]`, latents `[b d f]`."""

    reference: str
    ours: Codec
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def encodec(config: Any, file: Path) -> Pair:
    theirs, _ = oracles.encodec_pair(config)
    ours = state_dicts.saved(theirs, file)

    def encode(wave: Tensor) -> Tensor:
        return theirs.quantizer.vq.encode(theirs.encoder(wave), n_q=ours.codebooks).transpose(0, 1)

    def decode(codes: Tensor) -> Tensor:
        return theirs.decoder(theirs.quantizer.decode(codes.transpose(0, 1)))

    return Pair("encodec 0.1.1", ours, encode, decode)


def speechtokenizer(config: Any, file: Path) -> Pair:
    with pytest.MonkeyPatch.context() as patch:
        theirs: Any = oracles.their_speechtokenizer(config, patch)
    ours = state_dicts.settled(theirs, file)
    return Pair(
        "speechtokenizer 1.0.1",
        ours,
        lambda wave: theirs.encode(wave).transpose(0, 1),
        lambda codes: theirs.decode(codes.transpose(0, 1)),
    )


def dac(config: Any, file: Path) -> Pair:
    with pytest.MonkeyPatch.context() as patch:
        theirs = oracles.their_dac(config, patch)
    ours = state_dicts.saved(theirs, file)
    return Pair(
        "descript-audio-codec 1.0.0",
        ours,
        lambda wave: theirs.encode(theirs.preprocess(wave, None))[1],
        lambda codes: theirs.decode(theirs.quantizer.from_codes(codes)[0]),
    )


def wavtokenizer(config: Any, file: Path) -> Pair:
    theirs = state_dicts.Wavtokenizer(config).eval()
    oracles.enliven(theirs.feature_extractor)
    ours = state_dicts.settled(theirs, file)
    return Pair(
        "encodec 0.1.1 and vocos 0.1.0 under its names",
        ours,
        lambda wave: theirs.encode(wave)[:, None],
        lambda codes: theirs.decode(codes[:, 0])[:, None],
    )


def mimi(config: Any, file: Path) -> Pair:
    theirs, ours = mimis.pair(config, file.parent)
    return Pair("moshi 0.2.13", ours, theirs.encode, theirs.decode)


def qwen3_tts_12hz(config: Any, file: Path) -> Pair:
    if not qwen.available():
        pytest.skip("qwen-tts 0.1.1 is not installed, or not with transformers 4.57")
    theirs, _ = qwen.loaded(qwen.FULL)
    qwen.quieten(theirs)
    options = theirs.config.to_json_string()

    def encode(wave: Tensor) -> Tensor:
        with qwen.heeding_its_window():
            coded = theirs.encode(wave[:, 0], torch.ones_like(wave[:, 0], dtype=torch.int64))
        return torch.stack(coded.audio_codes).transpose(1, 2)

    def decode(codes: Tensor) -> Tensor:
        return theirs.decoder(codes)  # not in pieces of 300 frames, whose samples differ

    ours = load(folder_of(theirs.state_dict(), options, file.parent))
    return Pair("qwen-tts 0.1.1", ours, encode, decode)


def nanocodec(config: Any, file: Path) -> Pair:
    if not nano.available():
        pytest.skip("nanocodec-torch 1.0.0 is not installed")
    theirs, _ = nano.loaded(nano.FULL)

    def encode(wave: Tensor) -> Tensor:
        wave = F.pad(wave, (0, -wave.shape[2] % theirs.samples_per_frame))
        return theirs.encode(wave)[0].long()

    ours = load(folder_of(theirs.state_dict(), '{"sample_rate": 22050}', file.parent))
    return Pair("nanocodec-torch 1.0.0", ours, encode, lambda codes: theirs.decode(codes)[0])


def xcodec(config: Any, file: Path) -> Pair:
    theirs, ours = xcodecs.pair(config, file.parent)

    def encode(wave: Tensor) -> Tensor:
        wave = F.pad(wave, (0, -wave.shape[2] % ours.frame_size))
        return theirs.encode(wave).audio_codes

    return Pair("transformers 5", ours, encode, lambda codes: theirs.decode(codes).audio_values)


def fish_s2(config: Any, file: Path) -> Pair:
    if not fish.available():
        pytest.skip("vllm-omni 0.30.0 is not there")
    theirs, _ = fish.loaded(fish.full())
    torch.save(theirs.state_dict(), file)
    return Pair(
        "vllm-omni 0.30.0",
        load(file),
        lambda wave: theirs.encode(wave)[0],
        lambda codes: theirs.decode(codes, torch.full((len(codes),), codes.shape[2]))[0],
    )


def snac(config: Any, file: Path) -> Pair:
    theirs, ours = snacs.pair(config, file.parent)
    for block in theirs.modules():
        if type(block).__name__ == "NoiseBlock":  # which is random in theirs, and off in both
            block.linear.parametrizations.weight.original0.zero_()
    quiet = type(ours)(replace(ours.config, noise=0.0)).eval().requires_grad_(False)
    quiet.load_state_dict(ours.state_dict())

    def encode(wave: Tensor) -> Tensor:
        books = theirs.encode(wave)
        frames = books[0].shape[1]
        return torch.cat([b.view(len(b), frames, -1).transpose(1, 2) for b in books], 1)

    def decode(codes: Tensor) -> Tensor:
        counts = [config.spans[0] // span for span in config.spans]
        codes = F.pad(codes, (0, -codes.shape[2] % ours.period))  # theirs takes whole windows only
        return theirs.decode([p.transpose(1, 2).flatten(1) for p in codes.split(counts, 1)])

    return Pair("snac 1.2.1", quiet, encode, decode)


def xcodec2(config: Any, file: Path) -> Pair:
    """Of full size but for memory: all blocks of a kind, in theirs and ours, have one's weights."""
    kind = "Xcodec2" if config.centred else "NeuCodec"
    semantic = {"model_type": "wav2vec2-bert", "num_hidden_layers": 1}
    options = {"num_hidden_layers": 1, "semantic_model_config": semantic}
    extract, theirs, _, codec = xcodecs2.pair_of(kind, file.parent, options)
    ours: Any = codec
    for part, blocks in (
        (theirs.semantic_encoder.encoder, config.semantic_blocks),
        (theirs.acoustic_decoder, config.blocks),
    ):
        part.layers = torch.nn.ModuleList([part.layers[0]] * blocks)
    semantic, transformer = ours.encoder.semantic, ours.decoder.layers[4]
    semantic.blocks = torch.nn.ModuleList([semantic.blocks[0]] * config.semantic_blocks)
    transformer.layers = torch.nn.ModuleList([*transformer.layers] * config.blocks)

    def encode(wave: Tensor) -> Tensor:
        waves = [row[0].numpy() for row in wave]
        given = extract(audio=waves, sampling_rate=16000, return_tensors="pt")
        return theirs.encode(**given).audio_codes.long()

    reference = f"transformers 5.24.0, {kind}Model"
    return Pair(reference, ours, encode, lambda codes: theirs.decode(codes).audio_values)


def longcat(config: Any, file: Path) -> Pair:
    if not cats.available():
        pytest.skip("LongCat-Audio-Codec is not here")
    kind = "16k" if config.decoder_strides == (8, 6, 5, 4) else "24k"
    parts, _, _ = cats.loaded(cats.LIGHT)
    names = "encoder", kind
    for name in names:
        torch.save(parts[name].state_dict(), file.parent / name)
    ours = Longcat.joined(*(file.parent / name for name in names))

    def encode(wave: Tensor) -> Tensor:
        semantic, acoustic = parts["encoder"](wave, 16000)
        return torch.cat([semantic[:, None], acoustic], 1)

    def decode(codes: Tensor) -> Tensor:
        return parts[kind](codes[:, 0], codes[:, 1:])

    return Pair("LongCat-Audio-Codec at 98dd5e4, 4 of 26 blocks", ours, encode, decode)


def moss(config: Any, file: Path) -> Pair:
    if not mosses.available():
        pytest.skip("vllm-omni's audio_tokenizer.py is not here")
    theirs, _ = mosses.loaded(mosses.LIGHT)

    def encode(wave: Tensor) -> Tensor:
        wave = F.pad(wave, (0, -wave.shape[2] % theirs.downsample_rate))
        return theirs.batch_encode(list(wave[:, 0])).audio_codes.transpose(0, 1)

    ours = load(folder_of(theirs.state_dict(), json.dumps(mosses.LIGHT), file.parent))
    return Pair(
        "vllm-omni 0.30.0, 2 blocks in each transformer",
        ours,
        encode,
        lambda codes: theirs.batch_decode(list(codes)).audio,
    )


def voxtral(config: Any, file: Path) -> Pair:
    if not voxes.available():
        pytest.skip("vllm-omni is not here")
    theirs, _, _ = voxes.loaded(voxes.FULL)

    def encode(wave: Tensor) -> Tensor:
        wave = F.pad(wave, (0, -wave.shape[2] % theirs.patch_size))
        return theirs.quantizer.encode(theirs._forward_encoder(wave))

    ours = load(folder_of(theirs.state_dict(), "{}", file.parent))
    return Pair("vllm-omni 0.30.0", ours, encode, theirs.decode)


def pocket_tts(config: Any, file: Path) -> Pair:
    theirs = pockets.theirs_of(config)
    ours = load(folder_of(theirs.state_dict(), theirs.config.to_json_string(), file.parent))

    def encode(wave: Tensor) -> Tensor:
        wave = F.pad(wave, (0, -wave.shape[2] % ours.frame_size))
        return theirs.encode(wave).latents.transpose(1, 2)

    def decode(latents: Tensor) -> Tensor:
        return theirs.decode(latents.transpose(1, 2)).audio_values

    return Pair("transformers 5.24.0", ours, encode, decode)


def vibevoice(config: Any, file: Path) -> Pair:
    theirs = vibes.theirs_of(config)
    ours = load(folder_of(theirs.state_dict(), theirs.config.to_json_string(), file.parent))

    def encode(wave: Tensor) -> Tensor:
        wave = F.pad(wave, (0, -wave.shape[2] % ours.frame_size))
        return theirs.encode(wave, sample=False).latents.transpose(1, 2)

    def decode(latents: Tensor) -> Tensor:
        return theirs.decode(latents.transpose(1, 2)).audio

    return Pair("transformers 5.24.0", ours, encode, decode)


def voxcpm(config: Any, file: Path) -> Pair:
    if not voxcpms.available():
        pytest.skip("voxcpm 2.0.3 is not here")
    theirs, _ = voxcpms.loaded(voxcpms.FULL)
    torch.save(theirs.state_dict(), file)
    return Pair("voxcpm 2.0.3", load(file), lambda wave: theirs.encode(wave, 16000), theirs.decode)


def dualcodec(config: Any, file: Path) -> Pair:
    """Of full size but for memory: all blocks of w2v-BERT, in theirs and ours, have one's weights.

    Theirs runs all 24 and takes the features after 17.
    """
    if not duals.available():
        pytest.skip("dualcodec 0.4.2 is not here")
    pytest.importorskip("transformers")
    theirs, _ = duals.loaded(duals.FULL, {"num_hidden_layers": 1}, blocks=1)
    codec = duals.joined(theirs, file.parent)
    blocks = theirs.semantic_cfg.semantic_model.encoder
    blocks.layers = torch.nn.ModuleList([*blocks.layers] * 24)
    theirs.semantic_cfg["output_idx"] = config.teacher_blocks
    ours: Any = codec
    teacher = ours.encoder.teacher
    teacher.blocks = torch.nn.ModuleList([*teacher.blocks] * config.teacher_blocks)

    def encode(wave: Tensor) -> Tensor:
        return torch.stack([duals.encode(theirs, row[None]) for row in wave])

    def decode(codes: Tensor) -> Tensor:
        return theirs.decode(codes[:, :1], codes[:, 1:])

    return Pair("dualcodec 0.4.2 in single precision", ours, encode, decode)


MAKERS = {
    f.__name__: f
    for f in (
        *(encodec, speechtokenizer, dac, wavtokenizer, mimi, qwen3_tts_12hz, nanocodec, xcodec),
        *(snac, xcodec2, fish_s2, longcat, moss, voxtral, voxcpm),
        *(dualcodec, pocket_tts, vibevoice),
    )
}
NAMES = [
    "encodec_24khz",
    "speechtokenizer",
    "speechtokenizer_snake",
    "wavtokenizer_75hz",
    "dac_16khz",
    "dac_24khz",
    "dac_44khz",
    "mimi",
    "qwen3_tts_12hz",
    "nanocodec",
    "xcodec",
    "higgs_v2",
    "fish_s2",
    "longcat_16k",
    "longcat_24k",
    "moss",
    "voxtral",
    "voxcpm",
    "pocket_tts",
    "vibevoice_acoustic",
    "dualcodec",
    "snac_24khz",
    "xcodec2",
    "neucodec",
    "snac_32khz",
]


def of_length(audio: Audio, seconds: float) -> Audio:
    whole = Audio.cat([audio] * int(-(-seconds // audio.seconds)))
    return whole[: int(seconds * audio.rate)]


def parity(pair: Pair, audio: Audio) -> dict[str, float]:
    """How many codes are equal, or how far latents are apart, and how far samples are."""
    ours, wave = pair.ours, audio.samples[None]
    tokens, theirs = ours.encode(audio), pair.encode(wave)[0]
    theirs = theirs[:, : tokens.frames]  # and DualCodec's are fewer
    given = torch.from_numpy(tokens.numbers[:, : theirs.shape[1]].copy())
    same = (
        {"latents within": float((given - theirs).abs().max() / theirs.std())}
        if ours.kind == "latents"
        else {
            "codes": theirs.numel(),
            "equal codes, %": 100 * float((given == theirs).float().mean()),
        }
    )
    samples = min(len(audio), theirs.shape[1] * ours.frame_size)
    made = ours.decode(theirs.numpy(), samples=samples).samples
    heard = pair.decode(theirs[None])[0]
    # Where DAC cuts a sample too many, its last 1.5 frames differ; so does SNAC's last window.
    shorter = min(made.shape[1], heard.shape[1])
    kept = max(shorter // 2, shorter - (1 + ours.period) * ours.frame_size)
    apart = made[:, :kept] - heard[:, :kept]
    return {**same, "samples within": float(apart.abs().max() / heard.abs().max())}


def timed(
    pair: Pair, audio: Audio, batch: int, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Theirs over ours, in encoding and in decoding."""
    ours, waves = pair.ours, audio.samples[None].expand(batch, -1, -1).contiguous()
    audios, codes = [audio] * batch, pair.encode(waves)
    tokens = ours.encode_batch(audios, group=batch)
    tasks: dict[str, Callable[[], object]] = {
        "ours encode": lambda: ours.encode_batch(audios, group=batch),
        "theirs encode": lambda: pair.encode(waves),
        "ours decode": lambda: ours.decode_batch(tokens, group=batch),
        "theirs decode": lambda: pair.decode(codes),
    }
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(rounds):
        for name, task in tasks.items():
            began = clock()
            task()
            best[name] = min(best[name], clock() - began)
    heard = batch * audio.seconds
    for name, took in best.items():
        print(f"    {audio.seconds:3.0f} s x {batch} {name:14} {heard / took:7.1f}x real time")
    return {way: best[f"theirs {way}"] / best[f"ours {way}"] for way in ("encode", "decode")}


@torch.no_grad()
def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", default=NAMES)
    options.add_argument("--audio", type=Path, default=RECORDING)
    options.add_argument("--seconds", type=int, nargs="+", default=[10, 60])
    options.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--parity", type=float, default=30.0, help="seconds compared")
    options.add_argument("--cpu", action="store_true", help="count the processor's seconds")
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    clock = time.process_time if chosen.cpu else time.perf_counter
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore")
    recording, ratios = Audio.load(chosen.audio).mono(), []
    scores = stored(chosen.json)
    for name in chosen.names:
        if any(key.startswith(f"{name}: ") for key in scores):
            continue
        kind, config = find_preset("codecs", name)
        try:
            with tempfile.TemporaryDirectory() as folder:
                pair = MAKERS[kind.name](config, Path(folder) / "theirs.pt")
        except pytest.skip.Exception as missing:
            print(f"{name}: left out, {missing}")
            continue
        total = pair.ours.parameters_total
        print(f"{name}, {total:,} numbers, beside {pair.reference}, {chosen.threads} threads")
        audio = recording.resample(pair.ours.sample_rate)
        equal = parity(pair, of_length(audio, chosen.parity))
        print(f"    parity: {equal}")
        mine = []
        for seconds in chosen.seconds:
            for batch in chosen.batch:
                if batch > 1 and seconds > 10:
                    continue  # references would need many GB
                faster = timed(pair, of_length(audio, seconds), batch, chosen.rounds, clock)
                mine += faster.values()
                told = ", ".join(f"{way} {ratio:.2f}" for way, ratio in faster.items())
                print(f"    {seconds:3} s x {batch} times as fast: {told}", flush=True)
        ratios += mine
        if chosen.json:
            speed = {"encode": mean(mine[::2]), "decode": mean(mine[1::2]), "both": mean(mine)}
            scores[f"{name}: {pair.reference}"] = {**speed, **equal}
            write(chosen, scores)
        print(f"    {name}: {mean(mine):.2f} times as fast, geometric mean", flush=True)
    if ratios:
        print(f"all: {mean(ratios):.2f} times as fast, worst {min(ratios):.2f}")


def stored(file: Path | None) -> dict[str, Any]:
    """What stands in a file of results of this commit, by codec."""
    if file is None or not file.exists():
        return {}
    known = json.loads(file.read_text("utf-8"))
    return known["scores"] if known["commit"] == commit(ROOT) else {}


def write(chosen: argparse.Namespace, scores: dict[str, Any]) -> None:
    seconds, batch = (" ".join(map(str, given)) for given in (chosen.seconds, chosen.batch))
    content = {
        "command": "python tests/bench/peers.py"
        f" --seconds {seconds} --batch {batch} --threads {chosen.threads} --rounds {chosen.rounds}"
        f" --parity {chosen.parity:g}{' --cpu' * chosen.cpu}",
        "data": f"{chosen.audio.name}, random weights",
        "machine": f"{machine()}, shared with other work",
        "software": f"torch {torch.__version__}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": commit(ROOT),
        "scores": scores,
    }
    with atomic_file(chosen.json) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def mean(ratios: list[float]) -> float:
    """Geometric."""
    return prod(ratios) ** (1 / len(ratios))


if __name__ == "__main__":
    main()
