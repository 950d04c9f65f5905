"""Building a corpus: the codes of single files, exactly once, whatever ends it on the way."""

from __future__ import annotations

import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import audiotok, background, ends, group, process, recording, small, until
from rich.console import Console

import audiotok as at
from audiotok._platform.lock import LockedError, locked_folder
from audiotok.codecs.load import load_once
from audiotok.corpus import Corpus, CorpusError
from audiotok.corpus.build import BuildSummary, build
from audiotok.corpus.build import run as running
from audiotok.corpus.build.executors.base import BuildExecutor
from audiotok.corpus.build.work import EncodedRecording, Outcome, Task, Work
from audiotok.corpus.build.worker import Worker
from audiotok.corpus.change import merge
from audiotok.data.locator import ListingError
from audiotok.data.recording import Recording
from audiotok.tokens import TokenFileError

LIMIT = 100  # bytes of codes in a shard


def talks(folder: Path, count: int = 12) -> Path:
    """Recordings of unlike lengths, rates and channels, with two bad ones among them."""
    for i in range(count):
        rate = (16000, 8000, 22050)[i % 3]
        recording(folder / f"s{i % 4}" / f"{i:03d}.wav", 0.1 + 0.17 * (i % 5), rate, 1 + i % 2, i)
    (folder / "s0" / "bad.wav").write_text("hello")
    whole = (folder / "s1" / "001.wav").read_bytes()
    (folder / "s1" / "cut.wav").write_bytes(whole[: len(whole) // 2])
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """All files of a finished corpus."""
    assert not (folder / ".build").exists()
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def command(source: Path, out: Path, *options: str) -> list[str]:
    shards = ["--shard-mb", str(LIMIT / 2**20)]
    return [
        "corpus",
        "build",
        str(source),
        "-o",
        str(out),
        "--codec",
        str(small()),
        *shards,
        "--most-bad",
        "0.2",
        *options,
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Recordings, and the corpus that an undisturbed build makes of them, in many shards."""
    folder = tmp_path_factory.mktemp("made")
    source = talks(folder / "in")
    done = audiotok(*command(source, folder / "out", "-j", "1"))
    assert done.code == 0, done.err
    return source, content(folder / "out")


def test_codes_are_those_of_single_files(made: tuple[Path, dict[str, bytes]], tmp_path: Path):
    source, _ = made
    codec = at.load(small())
    corpus = Corpus(source.parent / "out")
    assert len(corpus) == 12
    assert len(corpus.shards) > 2
    assert corpus.fingerprint == codec.fingerprint
    for entry in corpus:
        path = source / entry.row["source"]
        assert entry.tokens == codec.encode(at.Audio.load(path))
        audiotok("encode", path, "-o", tmp_path / "one.tok", "--codec", small(), "-f")
        assert entry.tokens == at.Tokens.load(tmp_path / "one.tok")


def test_bad_recordings_are_quarantined_with_the_reason(made: tuple[Path, dict[str, bytes]]):
    rows = made[1]["quarantine.tsv"].decode().splitlines()
    assert rows[0] == "id\tsource\treason"
    assert len(rows) == 3
    assert rows[1].startswith("s0/bad.wav\ts0/bad.wav\tthis is text, not audio")
    assert "truncated" in rows[2]
    assert str(made[0]) not in made[1]["quarantine.tsv"].decode()  # the same on every machine


def test_groups_on_one_device_give_the_same_up_to_near_ties(tmp_path: Path):
    """What a GPU does, here on the CPU: like lengths side by side, long ones by themselves."""
    source = talks(tmp_path / "in")
    items = list(running.listing_of(str(source)).items(str(source)))
    tasks = list(enumerate(items))
    locked_folder = Worker(Work(codec=str(small()), readers=2))
    grouped = Worker(Work(codec=str(small()), readers=3, group=4))
    one, other = dict(locked_folder.all(tasks)), dict(grouped.all(tasks))
    assert one.keys() == other.keys() == dict(tasks).keys()
    for number, coded in one.items():
        mate = other[number]
        assert (coded.error, coded.samples, coded.audio) == (mate.error, mate.samples, mate.audio)
        assert coded.codes.shape == mate.codes.shape
        assert not coded.codes.size or (coded.codes == mate.codes).mean() > 0.98
    locked_folder.close()
    grouped.close()


def test_a_long_recording_is_never_in_memory_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = recording(tmp_path / "in" / "long.wav", 3.1, 22050)
    monkeypatch.setattr("audiotok.corpus.build.worker.LONG", 1)
    stage = Worker(Work(codec=str(small())))
    listing = running.listing_of(str(path.parent))
    coded = stage.all(list(enumerate(listing.items(str(path.parent)))))[0][1]
    stage.close()
    assert (coded.codes == at.load(small()).encode(at.Audio.load(path)).codes).all()


# ---- whatever ends it


class Fake(BuildExecutor):
    """An engine that answers at once, out of order, with codes that follow from the id."""

    window = 6

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Outcome]:
        held: list[Task] = []
        draw = random.Random(7)
        for task in tasks:
            if task is not None:
                held.append(task)
            if task is None or len(held) > 4:
                yield self.outcome(held.pop(draw.randrange(len(held))))
        while held:
            yield self.outcome(held.pop())

    def outcome(self, task: Task) -> Outcome:
        number, item = task
        assert isinstance(item, Recording)
        seed = zlib.crc32(item.id.encode())
        if seed % 5 == 0:
            return Outcome(number, EncodedRecording(f"bad luck with {seed}"))
        codes = np.random.default_rng(seed).integers(0, 64, (4, 1 + seed % 30), np.uint16)
        samples = codes.shape[1] * 320
        return Outcome(number, EncodedRecording("", codes, samples, 16000, samples, seed, 0.0))


def fake(source: Path, out: Path, **options: Any) -> BuildSummary:
    options = {"limit": LIMIT, "most_bad": 1.0, "console": Console(file=io.StringIO())} | options
    return build(str(source), out, Work(codec=str(small())), engine="fake", workers=1, **options)


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of forty recordings that need not be there, for the fake engine."""
    find = running.find
    monkeypatch.setattr(running, "find", lambda f, n: Fake if n == "fake" else find(f, n))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what is killed needs none, and it is slow
    load_once(str(small()), "cpu")
    rows = "".join(f"talk {i}.wav\tsaid {i}\n" for i in range(11))
    (tmp_path / "list.tsv").write_text("path\ttext\n" + rows)
    return tmp_path / "list.tsv"


def child(work: Callable[[], object], before: Callable[[], None]) -> int:
    """Runs something in a forked process; its exit code, 0 if it came to its end."""
    process = os.fork()
    if not process:
        code = 3
        try:
            before()
            work()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_at(event: int) -> Callable[[], None]:
    """Ends the process, as `kill -9` would, when it touches the file system that often."""
    count = 0

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if name in ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "os.rmdir"):
            count += 1
            if count == event:
                os._exit(9)

    return lambda: sys.addaudithook(hook)


def test_killed_anywhere_it_ends_with_the_same_bytes(faked: Path, tmp_path: Path):
    fake(faked, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    assert len([name for name in expected if name.endswith(".tok")]) > 2
    code, event = 9, 1
    while code == 9:  # killed at the first, the second, the third ... touch, till it gets through
        out = tmp_path / f"killed-{event}"
        code = child(lambda out=out: fake(faked, out), killed_at(event))
        fake(faked, out)
        assert content(out) == expected, f"killed at event {event}"
        event += 1
    assert code == 0
    assert event > 60


def test_killed_again_and_again_it_still_gets_there(faked: Path, tmp_path: Path):
    """Each run is ended a little after it began; none takes back what another has done."""
    fake(faked, tmp_path / "whole")
    out, runs, code = tmp_path / "out", 0, 9
    while code == 9:
        code = child(lambda: fake(faked, out), killed_at(23 + runs))
        runs += 1
    assert code == 0
    assert runs > 3
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize("seed", range(12))
def test_lost_last_writes_are_done_again(faked: Path, tmp_path: Path, seed: int):
    """A power cut: killed, and then what was written last is shorter, zeroed or gone."""
    fake(faked, tmp_path / "whole")
    out, draw = tmp_path / "out", random.Random(seed)
    assert child(lambda: fake(faked, out), killed_at(draw.randrange(25, 75))) == 9
    written = [path for path in out.rglob("*") if path.is_file() and path.name != "job.json"]
    for path in sorted(written, key=lambda path: path.stat().st_mtime_ns)[-draw.randint(1, 3) :]:
        data = path.read_bytes()
        kept = draw.randint(0, len(data))
        how = draw.choice(["short", "zero", "gone"])
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(data[:kept] + bytes(len(data) - kept if how == "zero" else 0))
    fake(faked, out)
    assert content(out) == content(tmp_path / "whole")


def test_a_full_disk_is_said_and_a_later_run_goes_on(faked: Path, tmp_path: Path):
    fake(faked, tmp_path / "whole", limit=10_000)
    out, said = tmp_path / "out", tmp_path / "said"

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    def work() -> None:
        try:
            fake(faked, out, limit=10_000)
        except TokenFileError as error:
            said.write_text(str(error))
            raise

    assert child(work, limited) == 3
    assert "no space left" in said.read_text()
    assert "run again" in said.read_text()
    assert any((out / ".build").glob("*.log"))
    fake(faked, out, limit=10_000)
    assert content(out) == content(tmp_path / "whole")


def test_a_finished_corpus_is_left_alone(faked: Path, tmp_path: Path):
    first = fake(faked, tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = fake(faked, tmp_path / "out")
    assert (again.recordings, again.run_recordings) == (first.recordings, 0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == stamps
    with pytest.raises(CorpusError, match="force=True"):
        fake(faked, tmp_path / "out", part=(0, 2))
    fake(faked, tmp_path / "out", part=(0, 2), force=True)
    assert len(Corpus(tmp_path / "out")) < first.recordings


def test_other_options_or_another_listing_are_refused(faked: Path, tmp_path: Path):
    out = tmp_path / "out"
    child(lambda: fake(faked, out), killed_at(60))
    with pytest.raises(CorpusError, match="begun with another limit"):
        fake(faked, out, limit=LIMIT + 1)
    rows = faked.read_text()
    faked.write_text(rows.replace("said 3", "said something else"))
    with pytest.raises(CorpusError, match=r"not the .* recordings any more"):
        fake(faked, out)
    faked.write_text("path\n" + "a.wav\n")
    with pytest.raises(CorpusError, match=r"not the .* recordings any more"):
        fake(faked, out)
    faked.write_text(rows)
    fake(faked, out)


def test_two_builds_in_one_folder_are_refused(faked: Path, tmp_path: Path):
    state = running.State(tmp_path / "out", _about(faked), limit=LIMIT)
    with state, pytest.raises(LockedError, match="another process"):
        fake(faked, tmp_path / "out")


def test_a_file_system_without_locks_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked_folder(tmp_path):
        pass


def _about(source: Path) -> Any:
    return running.info_of(load_once(str(small()), "cpu"), str(source), (0, 1), None)


def test_what_is_no_corpus_is_never_built_into_or_cleared(faked: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for force in (False, True):
        with pytest.raises(CorpusError, match="not empty"):
            fake(faked, tmp_path / "mine", force=force)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_too_many_failures_stop_it_and_a_higher_threshold_goes_on(faked: Path, tmp_path: Path):
    rows = "".join(f"{name}.wav\n" for name in range(300))
    faked.write_text("path\n" + rows)
    out = tmp_path / "out"
    with pytest.raises(CorpusError, match=r"of \d+ recordings failed, more than 10%"):
        fake(faked, out, most_bad=0.1)
    assert len((out / "quarantine.tsv").read_text().splitlines()) > 10
    assert fake(faked, out, most_bad=0.5).quarantined > 30


@pytest.mark.parametrize(("bad", "most"), [(1, 0.0), (2, 0.1), (9, 0.5)])
def test_the_share_that_may_fail_has_no_least_number(
    faked: Path, tmp_path: Path, bad: int, most: float
):
    """Of ten recordings, one more than the share may be stops the build, and one less does not."""
    good = [i for i in range(60) if zlib.crc32(f"{i}.wav".encode()) % 5][: 10 - bad]
    names = [*good, *good[:1] * bad]  # ids that were there
    faked.write_text("path\n" + "".join(f"{name}.wav\n" for name in names))
    with pytest.raises(CorpusError, match=f"{bad} of .* recordings failed, more than {most:.0%}"):
        fake(faked, tmp_path / "out", most_bad=most)
    lines = (tmp_path / "out" / "quarantine.tsv").read_text().splitlines()
    assert len(lines) == 1 + bad
    assert f"another recording before it has this id, {good[0]}.wav; ids must differ" in lines[1]
    assert fake(faked, tmp_path / "out", most_bad=bad / 10).quarantined == bad


def test_what_lists_nothing_points_to_no_quarantine(faked: Path, tmp_path: Path):
    faked.write_text("path\n")
    with pytest.raises(CorpusError, match=r"list.tsv: no recording is listed there$"):
        fake(faked, tmp_path / "out")
    assert not (tmp_path / "out" / "quarantine.tsv").exists()
    bad = next(i for i in range(60) if not zlib.crc32(f"{i}.wav".encode()) % 5)
    faked.write_text(f"path\n{bad}.wav\n")
    with pytest.raises(CorpusError, match=r"no recording could be encoded; see .*quarantine\.tsv"):
        fake(faked, tmp_path / "out")
    assert len((tmp_path / "out" / "quarantine.tsv").read_text().splitlines()) == 2


def test_an_id_that_comes_twice_is_quarantined(faked: Path, tmp_path: Path):
    faked.write_text("id\tpath\n" + "".join(f"{i % 30}\t{i}.wav\n" for i in range(36)))
    built = fake(faked, tmp_path / "out")
    ids = [entry.id for entry in Corpus(tmp_path / "out")]
    assert len(set(ids)) == len(ids) == built.recordings
    assert "has this id" in (tmp_path / "out" / "quarantine.tsv").read_text()


def test_a_window_bounds_what_waits(faked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    most = 0
    put = running.Recordings.put

    def watched(self: Any, *given: Any) -> Iterator[Any]:
        nonlocal most
        most = max(most, len(self.started))
        yield from put(self, *given)

    monkeypatch.setattr(running.Recordings, "put", watched)
    faked.write_text("path\n" + "".join(f"{i}.wav\n" for i in range(500)))
    fake(faked, tmp_path / "out")
    assert most <= 8


def test_parts_and_merge_hold_what_the_whole_does(faked: Path, tmp_path: Path):
    """Sixteen parts of eleven recordings: some have none, and are corpora all the same."""
    fake(faked, tmp_path / "whole")
    for i in range(16):
        fake(faked, tmp_path / f"part-{i}", part=(i, 16))
    merge([tmp_path / f"part-{i}" for i in range(16)], tmp_path / "joined")
    joined, expected = Corpus(tmp_path / "joined"), Corpus(tmp_path / "whole")
    one, other = ({e.id: (e.tokens, e.row) for e in corpus} for corpus in (joined, expected))
    assert one == other
    assert joined.info.quarantined == expected.info.quarantined > 0
    failed = [path.joinpath("quarantine.tsv").read_text() for path in (joined.path, expected.path)]
    assert sorted(failed[0].splitlines()) == sorted(failed[1].splitlines())


# ---- the command line, and real processes


def test_the_command_says_what_came_of_it(made: tuple[Path, dict[str, bytes]]):
    source, expected = made
    again = audiotok(*command(source, source.parent / "out", "--json"))
    assert again.code == 3  # two recordings are missing, and nobody has accepted that
    assert again.json["recordings"] == 12
    assert again.json["quarantined"] == 2
    assert content(source.parent / "out") == expected


def test_dry_run_writes_nothing(made: tuple[Path, dict[str, bytes]], tmp_path: Path):
    source, _ = made
    done = audiotok(*command(source, tmp_path / "out", "--dry-run", "--json"))
    assert done.code == 0
    assert not (tmp_path / "out").exists()
    seconds = Corpus(source.parent / "out").seconds
    assert done.json["recordings"] == 14
    assert done.json["hours"] == pytest.approx(seconds / 3600, rel=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard", "4/4"], "write it as 0/16"),
        (["--kind", "tape"], "tape"),
        (["--engine", "steam"], "steam"),
        (["--codec", "nobody"], "nobody"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, options: list[str], words: str):
    recording(tmp_path / "in" / "a.wav")
    done = audiotok("corpus", "build", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert done.code in (1, 2)
    assert len(done.lines) == 1
    assert words in done.lines[0]


def test_nothing_there_is_said(tmp_path: Path):
    (tmp_path / "in").mkdir()
    done = audiotok(*command(tmp_path / "in", tmp_path / "out"))
    assert done.code == 1
    assert "no audio file in this folder" in done.lines[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    (tmp_path / "mine").mkdir()
    assert audiotok(*command(tmp_path / "in", tmp_path / "mine")).code == 1
    assert [*(tmp_path / "mine").iterdir()] == [], "a folder that was there stays"
    done = audiotok(*command(tmp_path / "missing", tmp_path / "out"))
    assert done.code == 1
    assert "no such folder, manifest or archive" in done.lines[-1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_run_leaves_no_process_and_a_rerun_finishes(
    made: tuple[Path, dict[str, bytes]], tmp_path: Path, how: signal.Signals
):
    source, expected = made
    out = tmp_path / "out"
    running = background(*command(source, out, "-j", "2"))
    until(lambda: any(p.stat().st_size for p in (out / ".build").glob("*.log")), running)
    os.kill(running.pid, how)
    assert ends(running.pid)
    _, err = running.communicate()
    if how == signal.SIGINT and running.returncode:  # else it had come to its end
        assert running.returncode == 130
        assert "run it again: what is finished is kept" in err.splitlines()[-1]
    done = process(*command(source, out, "-j", "1"))
    assert done.code == 0, done.err
    assert content(out) == expected


def test_a_recording_that_ends_its_process_is_quarantined_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Others that the process had in hand are tried again, each with nothing beside it."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    paths = [recording(tmp_path / f"{i}.wav", 0.1, seed=i) for i in range(6)]
    lines = [f"utt-{i} {path}\n" for i, path in enumerate(paths)]
    lines[2] = "utt-2 kill -9 $PPID |\n"  # a shell's parent is the process that reads
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wav.scp").write_text("".join(lines))
    options = ["--commands", "-j", "2", "--most-bad", "1"]
    done = audiotok(*command(tmp_path / "data", tmp_path / "out", *options))
    assert done.code == 0, done.err
    ids = [entry.id for entry in Corpus(tmp_path / "out")]
    assert ids == [f"utt-{i}" for i in (0, 1, 3, 4, 5)]
    row = (tmp_path / "out" / "quarantine.tsv").read_text().splitlines()[1]
    assert row.startswith("utt-2\t")
    assert "ended by signal 9" in row
    assert not list(temporary.glob("audiotok-*")), "a copy that the process read is left"


@pytest.mark.slow
def test_killed_in_a_loop_with_workers_dying_too(tmp_path: Path):
    source = talks(tmp_path / "in", 150)
    whole = process(*command(source, tmp_path / "whole"))
    assert whole.code == 0, whole.err
    draw, out = random.Random(3), tmp_path / "out"
    for _ in range(30):
        running = background(*command(source, out, "-j", "2"))
        seen, wanted = 0, draw.randint(1, 30)
        last = _logged(out)
        while running.poll() is None and seen < wanted:  # some recordings further on
            time.sleep(0.002)
            now = _logged(out)
            seen, last = seen + (now != last), now
        others = [pid for pid in group(running.pid) if pid != running.pid]
        if others and draw.random() < 0.5:  # first a worker, then all
            os.kill(draw.choice(others), signal.SIGKILL)
            time.sleep(draw.uniform(0, 1))
        running.kill()
        assert ends(running.pid)
        running.communicate()
        if running.returncode == 0:
            break
    else:
        assert process(*command(source, out)).code == 0
    assert content(out) == content(tmp_path / "whole")


def _logged(out: Path) -> int:
    """Bytes in the logs of a build."""
    total = 0
    for path in (out / ".build").glob("*.log"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@pytest.mark.slow
def test_ray_gives_the_same_bytes_though_a_worker_is_killed(tmp_path: Path):
    """A real cluster of several worker processes on this machine."""
    pytest.importorskip("ray")
    source = talks(tmp_path / "in", 120)
    assert process(*command(source, tmp_path / "whole")).code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve them
        running = background(*command(source, tmp_path / "out", "--engine", "ray", "-j", "3"))
    until(lambda: any(p.stat().st_size for p in (tmp_path / "out/.build").glob("*.log")), running)
    workers = [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and b"ray::_Actor" in _command_line(folder)
    ]
    os.kill(workers[0], signal.SIGKILL)
    out, err = running.communicate(timeout=500)
    assert running.returncode == 0, out + err
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def _command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_listing_that_breaks_off_is_an_error_and_no_corpus(faked: Path, tmp_path: Path):
    (tmp_path / "list.jsonl").write_text('{"path": "a.wav"}\n{"path": "b.wav"}\n{"pa')
    with pytest.raises(ListingError, match="line 3: not JSON"):
        fake(tmp_path / "list.jsonl", tmp_path / "out")
    with pytest.raises(CorpusError, match="no corpus"):
        Corpus(tmp_path / "out")
