"""One recording for every job: all sources give the same samples, texts and speakers to all jobs.

Each source below holds the same four recordings: two whole files, and two stretches of one file
with two channels, each of another channel. Archives hold the stretches as files.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from commandline import small
from rich.console import Console
from torch import Tensor

from audiotok import Audio
from audiotok.codecs.checkpoint import load
from audiotok.corpus.build.worker import Work, Worker
from audiotok.data.alignment import Alignment
from audiotok.data.cache import SampleCache
from audiotok.data.direct import FileSamples
from audiotok.data.feature_cache import FeatureCache
from audiotok.data.features.base import SpeechTeacher
from audiotok.data.manifest import listing_of, read_manifest, write_manifest
from audiotok.data.recording import Recording
from audiotok.evaluation.bench import bench
from audiotok.evaluation.bench.recipe import BenchData, BenchRecipe
from audiotok.evaluation.bench.work import ClipRecord
from audiotok.evaluation.cache import fingerprint
from audiotok.evaluation.tasks.base import Bench
from audiotok.lm import spans
from audiotok.tokens.tokens import Tokens
from audiotok.training.resume import data_digest

RATE = 16000


class Known(NamedTuple):
    """What every source says of a recording, and every job is to get."""

    samples: np.ndarray  # [c t]
    text: str
    speaker: str
    file: str
    start: float = 0.0
    end: float | None = None
    channel: int | None = None

    @property
    def audio(self) -> Audio:
        return Audio(torch.from_numpy(self.samples), RATE)


@cache
def known() -> dict[str, Known]:
    random = np.random.default_rng(0)
    a, b, call = (
        (random.integers(-9000, 9000, (channels, length)) / 32768).astype(np.float32)
        for channels, length in ((1, 12800), (2, 9600), (2, 24000))
    )
    return {
        "a": Known(a, "one two", "s1", "a.wav"),
        "b": Known(b, 'say "three', "s2", "b.wav"),
        "left": Known(call[:1, 4000:16000], "", "s1", "call.wav", 0.25, 1.0, 0),
        "right": Known(call[1:, 8000:], "four", "s2", "call.wav", 0.5, 1.5, 1),
        "call": Known(call, "", "", "call.wav"),
    }


NAMES = ("a", "b", "left", "right")


def wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.T, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def files(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("a", "b", "call"):
        (folder / f"{name}.wav").write_bytes(wav(known()[name].samples))


def rows() -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "path": of.file,
            "start": of.start,
            "end": of.end if of.end is not None else "",
            "channel": of.channel if of.channel is not None else "",
            "text": of.text,
            "speaker": of.speaker,
        }
        for name, of in known().items()
        if name in NAMES
    ]


def folder(at: Path) -> Path:
    at.mkdir()
    lines = ["file_name,transcription,speaker_id"]
    for name in NAMES:
        (at / f"{name}.wav").write_bytes(wav(known()[name].samples))
        text = known()[name].text.replace('"', '""')
        lines.append(f'{name}.wav,"{text}",{known()[name].speaker}')
    (at / "metadata.csv").write_text("\n".join(lines))
    return at


def tsv(at: Path) -> Path:
    files(at)
    lines = ["\t".join(rows()[0]), *("\t".join(map(str, row.values())) for row in rows())]
    (at / "m.tsv").write_text("\n".join(lines))
    return at / "m.tsv"


def csv(at: Path) -> Path:
    files(at)
    lines = [",".join(rows()[0])]
    for row in rows():
        cells = (str(value).replace('"', '""') for value in row.values())
        lines.append(",".join(f'"{cell}"' for cell in cells))
    (at / "m.csv").write_text("\r\n".join(lines))
    return at / "m.csv"


def nemo(at: Path) -> Path:
    files(at)
    lines = []
    for name in NAMES:
        of = known()[name]
        row: dict[str, Any] = {"id": name, "audio_filepath": of.file, "text": of.text}
        row |= {"duration": of.samples.shape[1] / RATE, "speaker": of.speaker}
        if of.end is not None:
            row |= {"offset": of.start, "channel": of.channel}
        lines.append(json.dumps(row))
    (at / "m.jsonl").write_text("\n".join(lines))
    return at / "m.jsonl"


def kaldi(at: Path) -> Path:
    files(at)
    data = at / "data"
    data.mkdir()
    some = {name: known()[name] for name in NAMES}
    scp = "".join(f"{n} {at / n}.wav\n" for n in ("a", "b", "call"))
    (data / "wav.scp").write_text(scp)
    segments = ""
    for name, of in some.items():
        channel = "" if of.channel is None else f" {of.channel}"
        segments += f"{name} {of.file[:-4]} {of.start} {of.end or -1}{channel}\n"
    (data / "segments").write_text(segments)
    (data / "text").write_text("".join(f"{n}\t{of.text}\n" for n, of in some.items() if of.text))
    (data / "utt2spk").write_text("".join(f"{n} {of.speaker}\n" for n, of in some.items()))
    return data


def lhotse(at: Path) -> Path:
    files(at)
    lines = []
    for name in NAMES:
        of, whole = known()[name], known()[known()[name].file[:-4]].samples
        channels, length = list(range(len(whole))), whole.shape[1]
        source = {"type": "file", "channels": channels, "source": str(at / of.file)}
        recording = {
            "id": of.file,
            "sources": [source],
            "sampling_rate": RATE,
            "num_samples": length,
            "duration": length / RATE,
            "channel_ids": channels,
        }
        if name == "b":  # all channels of a file: not a cut of one channel, but a recording
            cut: dict[str, Any] = {"type": "MultiCut", "channel": channels}
        else:
            cut = {"type": "MonoCut", "channel": of.channel or 0}
        duration = of.samples.shape[1] / RATE
        said = {"id": name, "recording_id": of.file, "start": 0.0, "duration": duration}
        said |= {"channel": cut["channel"], "text": of.text, "speaker": of.speaker}
        cut |= {"id": name, "start": of.start, "duration": duration, "supervisions": [said]}
        lines.append(json.dumps(cut | {"recording": recording}))
    (at / "cuts.jsonl").write_text("\n".join(lines))
    return at / "cuts.jsonl"


def shar(at: Path) -> Path:
    at.mkdir()
    cuts = [json.loads(line) for line in lhotse(at / "plain").read_text().splitlines()]
    with tarfile.open(at / "recording.000000.tar", "w") as tar:
        for cut in cuts:
            (source,) = cut["recording"]["sources"]
            audio = Path(source["source"]).read_bytes()
            source |= {"type": "shar", "source": ""}
            described = json.dumps(cut["recording"]).encode()
            for kind, data in (("wav", audio), ("json", described)):
                info = tarfile.TarInfo(f"{cut['id']}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (at / "cuts.000000.jsonl").write_text("\n".join(map(json.dumps, cuts)))
    return at


def webdataset(at: Path, suffix: str = ".tar") -> Path:
    at.mkdir()
    with tarfile.open(at / f"s{suffix}", "w:gz" if "gz" in suffix else "w") as tar:
        for name in NAMES:
            of = known()[name]
            members = {"wav": wav(of.samples), "spk": of.speaker.encode()}
            for kind, data in (members | ({"txt": of.text.encode()} if of.text else {})).items():
                info = tarfile.TarInfo(f"{name}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return at / f"s{suffix}"


def tgz(at: Path) -> Path:
    return webdataset(at, ".tgz")


def parquet(at: Path) -> Path:
    arrow, tables = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    at.mkdir()
    some = {name: known()[name] for name in NAMES}
    audio = [{"bytes": wav(of.samples), "path": f"{name}.wav"} for name, of in some.items()]
    columns = {"id": list(some), "audio": audio, "text": [of.text for of in some.values()]}
    columns["speaker_id"] = [of.speaker for of in some.values()]
    tables.write_table(arrow.table(columns), at / "x.parquet")
    return at / "x.parquet"


def huggingface(at: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    some = {name: known()[name] for name in NAMES}
    audio = [{"bytes": wav(of.samples), "path": f"{name}.wav"} for name, of in some.items()]
    columns = {"id": list(some), "audio": audio, "sentence": [of.text for of in some.values()]}
    columns["speaker"] = [of.speaker for of in some.values()]
    datasets.Dataset.from_dict(columns).save_to_disk(str(at))
    return at


def url(at: Path) -> str:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for file in tsv(at).parent.iterdir():
        memory.pipe(f"/{at.name}/{file.name}", file.read_bytes())
    return f"memory://{at.name}/m.tsv"


SOURCES: dict[str, Callable[[Path], Path | str]] = {
    made.__name__: made
    for made in (
        *(folder, tsv, csv, nemo, kaldi, lhotse, shar, webdataset, tgz, parquet, huggingface, url),
    )
}


@pytest.fixture(scope="module", params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "lhotse":
        pytest.importorskip("lhotse")  # which reads the cut of two channels
    at = tmp_path_factory.mktemp("contract") / request.param
    return str(SOURCES[request.param](at))


def name_of(recording: Recording) -> str:
    return recording.id.removesuffix(".wav")


def by_name(recordings: list[Recording]) -> dict[str, Recording]:
    assert sorted(map(name_of, recordings)) == sorted(NAMES)
    return {name_of(recording): recording for recording in recordings}


def check_facts(recordings: list[Recording]) -> None:
    for name, recording in by_name(recordings).items():
        of = known()[name]
        assert (recording.text, recording.speaker) == (of.text, of.speaker)
        assert recording.seconds in (None, of.samples.shape[1] / RATE)
        audio = recording.load()
        assert audio.rate == RATE
        assert np.array_equal(audio.samples.numpy(), of.samples), name
        assert tuple(recording.probe()) == (RATE, *of.samples.shape)
        short = recording.load(longest=0.3).samples.numpy()
        assert np.array_equal(short, of.samples[:, :4800])


def test_what_a_source_lists(source: str, tmp_path: Path):
    check_facts(list(listing_of(source).items(source)))
    stored = read_manifest(source, store=tmp_path / "store")
    check_facts(stored)
    assert all(recording.locator.data is None for recording in stored)
    again = read_manifest(source, store=tmp_path / "store")
    assert [r.locator for r in again] == [r.locator for r in stored]
    assert data_digest(again) == data_digest(stored)
    assert len({data_digest([recording]) for recording in stored}) == len(NAMES)


def test_training_has_its_samples(source: str, tmp_path: Path):
    recordings = read_manifest(source, store=tmp_path / "store")
    quiet = Console(quiet=True)
    pool = SampleCache.build(recordings, 8000, tmp_path / "cache", console=quiet)
    wanted = [known()[name_of(each)].audio.mono().resample(8000).samples for each in recordings]
    for i, wave in enumerate(wanted):
        assert torch.allclose(pool[i], wave[0].clamp(-1, 1), atol=1 / 32768)
    if any(not recording.locator.local for recording in recordings):
        with pytest.raises(ValueError, match="is in no file of this machine"):
            FileSamples.open(recordings, 8000, tmp_path / "cache", console=quiet)
        return
    direct = FileSamples.open(recordings, 8000, tmp_path / "cache", console=quiet)
    assert direct.lengths.tolist() == pool.lengths.tolist()
    for i, wave in enumerate(wanted):
        assert torch.allclose(direct[i], wave[0], atol=1e-5)
        assert torch.allclose(direct.read(i, 501, 777), wave[0, 501:1278], atol=1e-5)


class Sums(SpeechTeacher):
    """Teacher whose features are the sums of 10 ms."""

    name, width, layers = "sums", 1, 1
    frame_rate = Fraction(100)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def states(self, wave: Tensor) -> Any:
        wave = torch.nn.functional.pad(wave, (0, -wave.shape[1] % 160))
        yield from [wave.unfold(1, 160, 160).sum(2)[..., None] * self.weight] * 2


def test_teachers_have_its_samples(source: str, tmp_path: Path):
    recordings = read_manifest(source, store=tmp_path / "store")
    teacher = Sums()
    features = FeatureCache.build(recordings, teacher, layer=0, cache=tmp_path / "features")
    assert len(set(features.files)) == len(NAMES)
    for i, recording in enumerate(recordings):
        wanted = teacher.features(known()[name_of(recording)].audio, layer=0)
        assert torch.equal(features[i], wanted.half().float())


def test_a_build_has_its_samples(source: str):
    worker = Worker(Work(codec=str(small())))
    items = list(listing_of(source).items(source))
    codec = load(small())
    for (_, coded), item in zip(worker.all(list(enumerate(items))), items, strict=True):
        of = known()[name_of(item)]
        assert not coded.error
        assert coded.original_samples == of.samples.shape[1]
        assert np.array_equal(coded.codes, codec.encode(of.audio.mono()).codes)
    worker.close()


def test_a_bench_and_its_tasks_have_its_samples(source: str, tmp_path: Path):
    codec = load(small())
    data = BenchData(source, longest=0.7)
    recipe = BenchRecipe(data, codecs=(str(small()),), metrics=("si_sdr",), tasks=("codes",))
    done = bench(recipe, tmp_path / "out", console=Console(quiet=True))
    assert not done.report.errors
    clips = {clip.path.removesuffix(".wav"): clip for clip in done.results.clips}
    assert sorted(clips) == sorted(NAMES)
    for name, clip in clips.items():
        of = known()[name]
        assert (clip.text, clip.speaker) == (of.text, of.speaker)
        audio = of.audio[: int(0.7 * RATE)].mono()
        assert clip.seconds == audio.seconds
        record = ClipRecord.load(tmp_path / "out" / "clips" / f"{clip.name}.json")
        assert record.source == fingerprint(audio.samples, RATE).hex()
        tokens = Tokens.load(tmp_path / "out" / "tokens" / f"{clip.name}.{codec.fingerprint}.tok")
        assert np.array_equal(tokens.codes, codec.encode(audio).codes)
    assert not [each for each in done.results.findings if each.note.startswith("failed")]
    recordings = read_manifest(source)
    ours = Bench(codec, codec.codebooks, recordings, lambda each: codec.encode(each.load().mono()))
    for recording in recordings:
        heard = ours.original(recording).samples.numpy()
        assert np.array_equal(heard, known()[name_of(recording)].samples)


def test_alignments_have_its_samples(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    heard: dict[str, tuple[Audio, str]] = {}

    def align(audio: Audio, text: str) -> Alignment:
        heard[text] = audio, text
        return Alignment([], [])

    monkeypatch.setattr(spans, "align", align)
    spans.write_spans(listing_of(source).items(source), tmp_path / "spans.jsonl")
    assert sorted(heard) == sorted(of.text for name, of in known().items() if of.text)
    for audio, text in heard.values():
        (of,) = (of for of in known().values() if of.text == text)
        assert np.array_equal(audio.samples.numpy(), of.samples)


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_a_manifest_of_it_reads_back_the_same(source: str, suffix: str, tmp_path: Path):
    out = tmp_path / f"m{suffix}"
    options: dict[str, Any] = {"extract": tmp_path / "audio", "console": Console(quiet=True)}
    summary = write_manifest(source, out, **options)
    if source.endswith("cuts.jsonl"):  # of two channels, which only lhotse reads
        assert [name for name, _ in summary.errors] == ["b"]
        return
    assert (summary.recordings, summary.errors) == (len(NAMES), [])
    before, after = (by_name(read_manifest(path)) for path in (source, out))
    check_facts(list(after.values()))
    for name, recording in before.items():
        assert after[name].id == recording.id
        stretches = [r.locator.stretch for r in (recording, after[name])]
        assert stretches[0] == stretches[1]
        assert {k: v for k, v in recording.columns().items() if k in after[name].fields and v}
    again = tmp_path / f"again{suffix}"
    write_manifest(out, again, console=Console(quiet=True))
    assert again.read_text() == out.read_text()
