"""Benches of synthetic codes, and codecs for which the results of a task are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiotok.audio.audio import Audio
from audiotok.audio.coerce import to_audio
from audiotok.codecs.checkpoint import load
from audiotok.codecs.models.speech import Config, Speech
from audiotok.corpus.base import CorpusInfo
from audiotok.corpus.write import row_of, write_corpus
from audiotok.data.recording import Recording
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task
from audiotok.tokens.tokens import Tokens

RATE = 16000
FRAME = 320
TINY: dict[str, Any] = {
    "encoder": 16,
    "encoder_blocks": 2,
    "decoder": 16,
    "decoder_blocks": 2,
    "window": 5,
    "heads": 2,
    "latent": 8,
    "semantic": 8,
}


def tiny(codebooks: int = 2, size: int = 8, *, kind: type[Speech] = Speech) -> Speech:
    """Return a small codec of random weights, in eval mode."""
    torch.manual_seed(0)
    codec = kind(Config(codebooks=codebooks, size=size, **TINY))
    return codec.eval().requires_grad_(False)


class Steps(Speech):
    """Codec of each frame's mean alone: 8 coarse steps from -1 to 1, and 8 fine ones in each.

    It decodes to frames of constant value, so it is idempotent, and frames are independent.
    """

    def encode(
        self,
        recording: Any,
        rate: int | None = None,
        *,
        codebooks: int | None = None,
        split: bool = False,
    ) -> Tokens:
        audio = to_audio(recording, rate)
        x = audio.resample(RATE).samples[0]
        frames = self.frames(len(x))
        padded = torch.nn.functional.pad(x, (0, frames * FRAME - len(x)))
        level = ((padded.view(frames, FRAME).mean(1) + 1) * 32).long().clamp(0, 63).numpy()
        codes = np.stack([level // 8, level % 8])[:codebooks]
        return self._tokens(codes, audio, len(x), len(codes))

    def encode_batch(
        self,
        recordings: Sequence[Any],
        rate: int | None = None,
        *,
        codebooks: int | None = None,
        group: int | None = None,
    ) -> list[Tokens]:
        return [self.encode(recording, rate, codebooks=codebooks) for recording in recordings]

    def decode(
        self, tokens: Any, *, samples: int | None = None, original_rate: bool = False
    ) -> Audio:
        level = tokens.codes[0] * 8 + (tokens.codes[1] if tokens.codebooks > 1 else 4)
        values = torch.from_numpy(((level + 0.5) / 32 - 1).astype(np.float32))
        return Audio(values.repeat_interleave(FRAME)[None, : tokens.samples], RATE)


class Constant(Steps):
    """Codec whose codes are always 0."""

    def encode(self, recording: Any, rate: int | None = None, **options: Any) -> Tokens:
        tokens = super().encode(recording, rate, **options)
        return replace(tokens, codes=0 * tokens.codes)


def coded(
    rows: Sequence[np.ndarray],
    fields: Sequence[dict[str, str]] | None = None,
    *,
    size: int = 8,
    seed: int = 0,
) -> Bench:
    """Return a bench of silent recordings with the given codes.

    Args:
        rows: codes `[k f]` of each recording.
        fields: manifest fields of each recording.
        size: size of the codebooks.
        seed: random seed of the bench.
    """
    codec = tiny(len(rows[0]), size)
    fields = fields or [{} for _ in rows]
    recordings = [Recording.of_file(Path(f"{i}.wav"), of) for i, of in enumerate(fields)]
    made = {}
    for recording, codes in zip(recordings, rows, strict=True):
        samples = codes.shape[1] * FRAME
        silence = Audio(torch.zeros(1, samples), RATE)
        made[recording.path] = codec._tokens(codes, silence, samples, len(codes))
    return Bench(codec, len(rows[0]), recordings, lambda r: made[r.path], seed=seed)


def heard(
    folder: Path,
    codec: Speech,
    audios: Sequence[Audio],
    fields: Sequence[dict[str, str]] | None = None,
    **more: Any,
) -> Bench:
    """Return a bench of recordings, encoded by a codec.

    Args:
        folder: folder to write the recordings to.
        codec: the codec.
        audios: the recordings.
        fields: manifest fields of each recording.
        **more: further arguments of `Bench`.
    """
    recordings = []
    for i, audio in enumerate(audios):
        path = folder / f"{i}.wav"
        audio.save(path, subtype="FLOAT", force=True)
        recordings.append(Recording.of_file(path, fields[i] if fields else {}))
    codebooks = codec.codebooks

    def encode(recording: Recording) -> Tokens:
        return codec.encode(Audio.load(recording.path), codebooks=codebooks)

    return Bench(codec, codebooks, recordings, encode, **more)


def waves(n: int, seconds: float = 1.3) -> list[Audio]:
    """Return n recordings of slow random waves, whose frames differ."""
    made = []
    for i in range(n):
        random = np.random.default_rng(i)
        points = random.uniform(-0.9, 0.9, int(seconds * 60) + 2)
        at = np.linspace(0, len(points) - 1, int(seconds * RATE))
        wave = np.interp(at, np.arange(len(points)), points).astype(np.float32)
        made.append(Audio(torch.from_numpy(wave)[None], RATE))
    return made


def found(task: Task, bench: Bench) -> dict[str, Finding]:
    """Run a task and return its findings by name, asserting that they are well-formed."""
    findings = task.run(bench)
    assert {finding.task for finding in findings} == {task.name}
    named = {finding.name: finding for finding in findings}
    assert len(named) == len(findings)
    assert task.protocol
    for finding in findings:
        assert finding.value is not None or finding.note
        if finding.low is not None and finding.high is not None and finding.value is not None:
            assert finding.low - 1e-9 <= finding.value <= finding.high + 1e-9
    return named


def value(findings: dict[str, Finding], name: str) -> float:
    """Return the value of a finding, asserting that it has one."""
    number = findings[name].value
    assert number is not None, findings[name].note
    return number


def corpus_of(
    folder: Path, codes: Mapping[str, np.ndarray], *, rows: Mapping[str, dict[str, str]]
) -> Path:
    """Write a corpus of small shards, with codes attributed to the shipped codec.

    Args:
        folder: folder to write to.
        codes: codes `[k f]` by id.
        rows: row fields by id.

    Returns:
        The folder.
    """
    codec = load("speech")

    def entries() -> Iterator[tuple[dict[str, Any], Tokens]]:
        for name, each in codes.items():
            samples = each.shape[1] * codec.frame_size
            tokens = Tokens(
                codes=each,
                size=codec.sizes[: len(each)],
                codec=codec.name,
                fingerprint=codec.fingerprint,
                sample_rate=codec.sample_rate,
                frame_size=codec.frame_size,
                samples=samples,
                original_rate=codec.sample_rate,
                original_samples=samples,
            )
            yield row_of(name, tokens, 0, rows[name]), tokens

    about = CorpusInfo(
        codec=codec.name,
        fingerprint=codec.fingerprint,
        sizes=tuple(codec.sizes[: len(next(iter(codes.values())))]),
        sample_rate=codec.sample_rate,
        frame_size=codec.frame_size,
        channels=1,
        shards=(),
    )
    write_corpus(folder, about, entries(), limit=2000)
    return folder
