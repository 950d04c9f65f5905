"""Many files: what is planned, what is run, in how many processes, and what becomes of failures."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from commandline import files
from hypothesis import given, settings
from rich.console import Console
from shouting import broken, lethal, shouter

from audiotok._platform.atomic import partial_path, remove_stale_parts
from audiotok.cli.console import UsageError
from audiotok.runtime.batch.plan import AUDIO, FilePlan, find, plan
from audiotok.runtime.batch.run import run
from audiotok.runtime.batch.workers import explain_error, run_one, run_pool


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def places(paths: list[str], suffixes: Any = AUDIO) -> list[str]:
    return [str(place) for _, place in find(paths, suffixes)[0]]


# ---- which files are meant


def test_folders_are_searched_for_known_extensions_in_order(tmp_path: Path):
    touch(tmp_path, "b.wav", "a.FLAC", "c/d.mp3", "c/n.txt", ".h.wav", ".git/x.wav", "c/._d.mp3")
    (tmp_path / "folder.wav").mkdir()
    assert places([str(tmp_path)]) == ["a.FLAC", "b.wav", "c/d.mp3"]


def test_what_is_named_is_taken_whatever_its_extension(tmp_path: Path):
    touch(tmp_path, "noext", "x.bin", ".hidden.wav")
    names = [f"{tmp_path}/{name}" for name in ("noext", "x.bin", ".hidden.wav")]
    assert places(names) == ["noext", "x.bin", ".hidden.wav"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.wav", ["a.wav"]),
        ("*/*.wav", ["x/b.wav", "y/b.wav"]),
        ("x/*", ["b.wav"]),
        ("**/*.wav", ["a.wav", "x/b.wav", "y/b.wav", "y/z/c.wav"]),
        ("[xy]/?.wav", ["x/b.wav", "y/b.wav"]),
    ],
)
def test_globs(tmp_path: Path, pattern: str, expected: list[str], monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "a.wav", "x/b.wav", "y/b.wav", "y/z/c.wav")
    assert places([f"{tmp_path}/{pattern}"]) == expected
    monkeypatch.chdir(tmp_path)
    assert places([pattern]) == expected


def test_a_name_with_brackets_is_a_name_before_it_is_a_glob(tmp_path: Path):
    touch(tmp_path, "[ab].wav", "a.wav")
    assert places([f"{tmp_path}/[ab].wav"]) == ["[ab].wav"]


def test_no_file_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "in/a.wav")
    monkeypatch.chdir(tmp_path)
    assert len(places(["in", "in/a.wav", "./in/a.wav", "in/*.wav", "in//a.wav"])) == 1


def test_what_there_is_not_is_named(tmp_path: Path):
    touch(tmp_path, "notes/a.txt")
    given = [f"{tmp_path}/{name}" for name in ("no.wav", "*.wav", "notes", "notes/a.txt/b.wav")]
    found, errors = find(given, AUDIO)
    assert not found
    assert [source for source, _ in errors] == given
    assert all(line.startswith(f"{source}: ") for source, line in errors)


# ---- what becomes of them


names = st.text("abcxyz.[] é", min_size=1, max_size=8).filter(lambda name: name.strip(". "))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(names, st.sampled_from(["", "d/", "d/e/"])), min_size=1, max_size=6))
def test_a_plan_loses_nothing_and_overwrites_nothing(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str]]
):
    folder = tmp_path_factory.mktemp("in")
    for at, (name, place) in enumerate(drawn):
        touch(folder, f"{place}{name.strip()}-{at % 2}.{'wav' if at % 3 else 'flac'}")
    sources = [p for p in folder.rglob("*") if p.is_file() and p.name[0] != "."]
    made = plan([str(folder)], Path("out"), suffixes=AUDIO, suffix=".tok")
    planned = [source for source, _ in made.pairs]
    targets = [target for _, target in made.pairs]
    refused = [Path(source) for source, line in made.errors if "would become" in line]
    assert sorted(planned + refused) == sorted(sources)
    assert len(set(targets)) == len(targets)
    for source, target in made.pairs:
        assert target == Path("out") / source.relative_to(folder).with_suffix(".tok")
    for source in refused:
        assert Path("out") / source.relative_to(folder).with_suffix(".tok") in targets


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("a.wav", "a.tok"),
        ("a.v1.wav", "a.v1.tok"),
        ("a.2024", "a.2024.tok"),
        ("noext", "noext.tok"),
        ("A.WAV", "A.tok"),
    ],
)
def test_only_a_known_extension_is_replaced(tmp_path: Path, name: str, target: str):
    path = str(touch(tmp_path, name) / name)
    made = plan([path], None, suffixes=AUDIO, suffix=".tok")
    assert made.pairs == [(Path(path), tmp_path / target)]


def test_out_is_a_file_if_its_extension_says_so(tmp_path: Path):
    touch(tmp_path, "a.wav", "b.wav")
    a, b = str(tmp_path / "a.wav"), str(tmp_path / "b.wav")
    planned = partial(plan, suffixes=AUDIO, suffix=".tok", makes=[".tok"])
    assert planned([a], Path("x.tok")).pairs == [(Path(a), Path("x.tok"))]
    assert planned([a, b], Path("x.v1")).pairs[1] == (Path(b), Path("x.v1/b.tok"))
    assert planned([f"{tmp_path}/[a].wav"], Path("x.tok")).pairs == [(Path(a), Path("x.tok"))]
    for paths, out in (([a, b], "x.tok"), ([f"{tmp_path}/*.wav"], "x.tok"), ([a], "x.v1")):
        with pytest.raises(UsageError, match=r"^x"):
            planned(paths, Path(out))
    with pytest.raises(UsageError, match="overwrite what it is made of"):
        planned([a], Path(a), makes=[".wav"])


# ---- running


def quiet() -> Console:
    return Console(file=io.StringIO(), width=80)


def pairs(folder: Path, *names: str) -> list[tuple[Path, Path]]:
    return [(folder / name, folder / f"{name}.out") for name in names]


def test_run_goes_past_what_fails(tmp_path: Path):
    console = quiet()
    planned = FilePlan(
        pairs(tmp_path, "a", "bad", "done", "b", "bug", "odd"), [("x", "x: not there")]
    )

    def done(source: Path, target: Path) -> bool:
        if source.name == "odd":
            raise ValueError(f"{target}: exists already")
        return source.name == "done"

    report = run(shouter, planned, done=done, console=console)
    assert [Path(row["source"]).name for row in report.finished] == ["a", "b"]
    assert [source.name for source, _ in report.skipped] == ["done"]
    assert [Path(source).name for source, _ in report.errors] == ["x", "odd", "bad", "bug"]
    assert files(tmp_path) == ["a.out", "b.out"]
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue().splitlines()
    assert len(said) == 4
    assert said[-1] == f"error {tmp_path}/bug: RuntimeError: shapes do not fit"
    assert len(report.rows()) == 7


def test_an_error_is_one_line_that_names_a_file(tmp_path: Path):
    pair = (Path("in.wav"), Path("out.tok"))
    said = {
        "in.wav: broken": ValueError("in.wav: broken"),
        "out.tok: full": ValueError("out.tok: full"),
        "in.wav: no": ValueError("no"),
        "x: Is a directory": IsADirectoryError(21, "Is a directory", "x"),
        "in.wav: KeyError: 'a'": KeyError("a"),
        "in.wav: not enough memory; free some, or use fewer jobs": MemoryError(),
    }
    for line, error in said.items():
        expected = line if line[0] != "x" else "in.wav: x: Is a directory"
        assert explain_error(error, pair) == expected

    def interrupted(source: Path, target: Path) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_one(interrupted, pair)


def test_processes_do_the_same_and_one_that_dies_takes_only_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    todo = pairs(tmp_path, "a", "bad", "kill", "b", "c", "kill2", "d")
    done = {source.name: row for (source, _), row in run_pool(shouter, todo, 2)}
    assert done.keys() == {source.name for source, _ in todo}
    assert files(tmp_path) == ["a.out", "b.out", "c.out", "d.out"]
    assert done["bad"] == {"error": f"{tmp_path}/bad: no good"}
    for name in ("kill", "kill2"):
        line = done[name]["error"]
        assert line.startswith(f"{tmp_path}/{name}: ")
        assert "signal 9" in line
        assert "fewer jobs" in line
    assert list(copies.iterdir()) == [], "temporary files of processes that died"


@pytest.mark.parametrize(("build", "says"), [(broken, "no codec"), (lethal, "fewer jobs")])
def test_processes_that_cannot_start_end_it(tmp_path: Path, build: Any, says: str):
    with pytest.raises(ValueError, match=says):
        list(run_pool(build, pairs(tmp_path, "a", "b"), 2))


WITH_WORKERS = """
import sys
from pathlib import Path
from shouting import shouter
from audiotok.runtime.batch.workers import run_pool

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    rows = list(run_pool(shouter, [(folder / "a.txt", folder / "a.out")], 2))
    print(rows[0][1].get("error"), (folder / "a.out").read_text())
"""


def test_a_long_name_of_the_temporary_folder(tmp_path: Path):
    """Names of sockets have 107 characters at most, and a folder of a cluster's job may have 90."""
    (tmp_path / "a.txt").touch()
    long = tmp_path / ("job" * 30)
    long.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WITH_WORKERS, tmp_path],
        env=os.environ | {"TMPDIR": str(long), "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["None", "A.TXT"], done.stderr


def test_closing_ends_the_processes(tmp_path: Path):
    before = set(active_children())
    with closing(run_pool(shouter, pairs(tmp_path, "a", "b", "c"), 1)) as rows:
        next(rows)
        assert len(set(active_children()) - before) == 1
    assert set(active_children()) <= before


# ---- what was left behind


def ended() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_parts_of_the_dead_are_swept_and_no_others(tmp_path: Path):
    mine = partial_path(tmp_path / ("x" * 255))
    touch(tmp_path, mine.name)  # no name is too long
    assert mine.name.endswith(".part")
    other = mine.name.replace(f".{os.getpid()}.", ".{}.")
    dead = other.format(ended())
    away = f".x.another-host.{ended()}.0123abcd.part"
    odd = [".x.part", "x.part", dead + "x", dead[:-6]]
    touch(tmp_path, dead, away, *odd)
    (tmp_path / dead.replace("xxx.", "yyy.", 1)).mkdir()
    assert dead in files(tmp_path)
    remove_stale_parts([tmp_path, tmp_path / "missing"])
    assert files(tmp_path) == sorted([mine.name, away, *odd])


def test_a_run_sweeps_where_it_writes(tmp_path: Path):
    dead = partial_path(tmp_path / "a.out").name.replace(f".{os.getpid()}.", f".{ended()}.")
    touch(tmp_path, dead)
    run(shouter, FilePlan(pairs(tmp_path, "a"), []), done=lambda *_: False, console=quiet())
    assert files(tmp_path) == ["a.out"]
