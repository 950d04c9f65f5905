"""Recordings that failed are tried again, and the corpus is that of a build without failures."""

from __future__ import annotations

import io
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import audiotok, recording, small
from rich.console import Console
from test_building import LIMIT, Fake, child, content, fake, faked, killed_at
from test_building_again import built, failing, here, talks

from audiotok.corpus import Corpus, CorpusError
from audiotok.corpus.build import build
from audiotok.corpus.build import run as running
from audiotok.corpus.build.reuse import REUSE
from audiotok.corpus.build.work import EncodedRecording, Outcome, Task, Work
from audiotok.corpus.check import is_sound
from audiotok.data.recording import Recording

__all__ = ["faked", "here"]  # fixtures

GOOD = [name for i in range(11) if zlib.crc32((name := f"talk {i}.wav").encode()) % 5]
BAD = (GOOD[1], *GOOD[-2:])  # of those that the fake engine encodes


class Failing(Fake):
    """An engine with which a shared disk was not mounted for some recordings."""

    bad: tuple[str, ...] = BAD
    encoded: list[str]

    def outcome(self, task: Task) -> Outcome:
        number, item = task
        assert isinstance(item, Recording)
        self.encoded.append(item.id)
        if item.id in self.bad:
            return Outcome(number, EncodedRecording("no such file"))
        return super().outcome(task)


@pytest.fixture
def engine(faked: Path, monkeypatch: pytest.MonkeyPatch) -> type[Failing]:
    """The engine `failing`, and what it encodes."""
    monkeypatch.setattr(Failing, "encoded", [], raising=False)
    monkeypatch.setattr(Failing, "bad", BAD)
    find = running.find
    monkeypatch.setattr(running, "find", lambda f, n: Failing if n == "failing" else find(f, n))
    return Failing


def again(source: Path, out: Path, **options: Any) -> Any:
    options = {"limit": LIMIT, "most_bad": 1.0, "retry_quarantined": True} | options
    console = Console(file=io.StringIO())
    work = Work(codec=str(small()))
    return build(str(source), out, work, engine="failing", workers=1, console=console, **options)


def unfinished(source: Path, out: Path) -> None:
    """Leave a build that has not ended, in its last shards."""
    event = 70
    while child(lambda: again(source, out, retry_quarantined=False), killed_at(event)) == 0:
        shutil.rmtree(out)
        event -= 3
    assert (out / ".build").is_dir()


def test_a_finished_corpus_becomes_that_of_an_undisturbed_build(
    faked: Path, tmp_path: Path, engine: type[Failing]
):
    fake(faked, tmp_path / "whole")
    out = tmp_path / "out"
    first = again(faked, out, retry_quarantined=False)
    assert content(out) != content(tmp_path / "whole")
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    engine.encoded.clear()
    vain = again(faked, out)
    assert vain.tries.tried == first.quarantined == len(engine.encoded)
    assert (vain.tries.encoded, vain.quarantined) == (0, first.quarantined)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == stamps
    engine.encoded.clear()
    engine.bad = BAD[1:2]
    some = again(faked, out)
    assert some.tries.encoded == len(BAD) - 1
    assert len(engine.encoded) == first.quarantined  # no other is encoded anew
    engine.bad = ()
    done = again(faked, out)
    assert done.tries.encoded == 1
    assert content(out) == content(tmp_path / "whole")
    assert is_sound(out)


def test_shards_before_the_first_failure_are_left_alone(
    faked: Path, tmp_path: Path, engine: type[Failing]
):
    engine.bad = BAD[1:]
    again(faked, tmp_path / "out", retry_quarantined=False)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("shard-000000.*")}
    assert first
    engine.bad = ()
    again(faked, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in first} == first
    fake(faked, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_an_unfinished_build_goes_on_as_if_nothing_had_failed(
    faked: Path, tmp_path: Path, engine: type[Failing]
):
    fake(faked, tmp_path / "whole")
    unfinished(faked, tmp_path / "out")
    engine.bad = ()
    assert again(faked, tmp_path / "out").tries.encoded > 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("step", [19, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_anywhere_nothing_is_lost(
    faked: Path, tmp_path: Path, engine: type[Failing], done: bool, step: int
):
    """Killed at every n-th touch: the old corpus or a build that goes on is there."""
    fake(faked, tmp_path / "whole")
    before = tmp_path / "before"
    if done:
        again(faked, before, retry_quarantined=False)
    else:
        unfinished(faked, before)
    engine.bad = ()
    code, event, kept, begun = 9, 1, 0, 0
    while code == 9:
        out = tmp_path / f"killed-{event}"
        shutil.copytree(before, out)
        code = child(lambda out=out: again(faked, out), killed_at(event))
        if (out / "corpus.json").is_file():
            assert is_sound(out)
            kept += 1
        elif (out / REUSE).is_file():
            begun += 1
            if event % 4 == 1:  # goes on, asked or not
                again(faked, out, retry_quarantined=False)
                assert content(out) == content(tmp_path / "whole")
        again(faked, out)
        assert content(out) == content(tmp_path / "whole"), f"killed at event {event}"
        event += step
    assert code == 0
    assert begun > 1
    assert kept > done


@pytest.mark.slow
def test_killed_again_and_again(faked: Path, tmp_path: Path, engine: type[Failing]):
    fake(faked, tmp_path / "whole")
    draw = random.Random(0)
    for _ in range(20):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        engine.bad = BAD
        again(faked, tmp_path / "out", retry_quarantined=False)
        engine.bad = ()
        code = 9
        while code == 9:
            at = killed_at(draw.randrange(5, 140))
            code = child(lambda: again(faked, tmp_path / "out"), at)
        again(faked, tmp_path / "out")
        assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_ids_that_come_twice_are_told_apart(faked: Path, tmp_path: Path, engine: type[Failing]):
    """The second of an id was encoded as the first had failed; then the first takes its place."""
    names = [1, 2, 3, 3, 5, 2, 6, 7, 2]
    faked.write_text("path\ttext\n" + "".join(f"talk {i}.wav\t{k}\n" for k, i in enumerate(names)))
    fake(faked, tmp_path / "whole")

    class Once(Failing):
        def outcome(self, task: Task) -> Outcome:
            if task[0] == 1 and self.bad:
                return Outcome(1, EncodedRecording("no such file"))
            return Fake.outcome(self, task)

    running_find = running.find
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "find", lambda f, n: Once if n == "failing" else running_find(f, n))
        again(faked, tmp_path / "out", retry_quarantined=False)
        assert Corpus(tmp_path / "out")["talk 2.wav"].row["text"] == "5"
        Once.bad = ()
        again(faked, tmp_path / "out")
    assert Corpus(tmp_path / "out")["talk 2.wav"].row["text"] == "1"
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_another_listing_and_another_size_are_refused(
    faked: Path, tmp_path: Path, engine: type[Failing]
):
    again(faked, tmp_path / "out", retry_quarantined=False)
    before = content(tmp_path / "out")
    with pytest.raises(CorpusError, match="give the size that it was built with"):
        again(faked, tmp_path / "out", limit=2 * LIMIT)
    faked.write_text(faked.read_text().replace("said 4", "said 5"))
    with pytest.raises(CorpusError, match="not the 11 recordings any more"):
        again(faked, tmp_path / "out")
    quarantine = tmp_path / "out" / "quarantine.tsv"
    kept = quarantine.read_bytes()
    quarantine.unlink()
    with pytest.raises(CorpusError, match="does not list"):
        again(faked, tmp_path / "out")
    quarantine.write_bytes(kept)
    shutil.rmtree(tmp_path / "out" / ".build")
    assert content(tmp_path / "out") == before


def test_too_many_failures_are_tried_again(faked: Path, tmp_path: Path, engine: type[Failing]):
    """What a token that expired has left out comes back, in a build that was stopped by it."""
    names = [f"{name}.wav" for name in range(300)]
    faked.write_text("path\n" + "".join(f"{name}\n" for name in names))
    engine.bad = tuple(names[30:])
    with pytest.raises(CorpusError, match="retry_quarantined=True"):
        again(faked, tmp_path / "out", retry_quarantined=False, most_bad=0.3)
    engine.bad = ()
    again(faked, tmp_path / "out", most_bad=0.3)
    fake(faked, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


# ---- real recordings


def test_a_mended_file_is_encoded_and_a_changed_one_refused(here: None, tmp_path: Path):
    source, out = talks(tmp_path / "in"), tmp_path / "out"
    whole = (source / "1.wav").read_bytes()
    (source / "1.wav").write_text("not yet")
    built(source, out)
    (source / "1.wav").write_bytes(whole)
    kept = (source / "3.wav").read_bytes()
    recording(source / "3.wav", 0.9, seed=77)
    with pytest.raises(CorpusError, match=r"changed since it was encoded: 3\.wav"):
        built(source, out, retry_quarantined=True)
    assert len(Corpus(out)) == 3
    (source / "3.wav").write_bytes(kept)
    done = built(source, out, retry_quarantined=True, keep_changed=True)  # of its time alone
    assert (done.quarantined, done.tries.encoded) == (0, 1)
    built(source, tmp_path / "whole")
    ours, theirs = content(out), content(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == [".inputs"]


def test_what_may_pass_stays_to_be_tried(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source, out = talks(tmp_path / "in"), tmp_path / "out"
    with monkeypatch.context() as patch:
        failing(patch, "2.wav", lambda: ValueError("damaged"), 99)
        built(source, out)
    before = content(out)
    with monkeypatch.context() as patch:
        failing(patch, "2.wav", lambda: TimeoutError("timed out"), 99)
        with pytest.raises(CorpusError, match="this may pass, so it stays to be tried"):
            built(source, out, retry_quarantined=True)
    shutil.rmtree(out / ".build")
    assert content(out) == before
    built(source, out, retry_quarantined=True)
    built(source, tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, out = talks(tmp_path / "in"), tmp_path / "out"
    kept = (source / "1.wav").read_bytes()
    (source / "1.wav").write_text("not yet")
    run: Callable[..., Any] = lambda *options: audiotok(  # noqa: E731
        *("corpus", "build", source, "-o", out, "--codec", small(), "-j", "1"),
        *("--most-bad", "0.5", *options),
    )
    first = run()
    assert first.code == 0
    assert "without 1 recordings; see quarantine.tsv" in " ".join(first.lines)
    assert "--retry-quarantined" in " ".join(first.lines)
    second = run()
    assert second.code == 3
    assert "--accept-missing" in second.lines[-1]
    assert run("--accept-missing").code == 0
    assert run("--retry-quarantined").code == 3
    assert run("--retry-quarantined", "--accept-missing").code == 0
    (source / "1.wav").write_bytes(kept)
    mended = run("--retry-quarantined")
    assert (mended.code, mended.lines) == (0, [])
    assert "1, of which 1 are encoded now" in mended.out
    assert run().code == 0
