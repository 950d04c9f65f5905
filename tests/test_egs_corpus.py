"""Scripts that build a corpus in parts, run again when done; stand-ins for torchrun and Slurm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import environment, recording, small

from audiotok.corpus import Corpus
from audiotok.corpus.check import is_sound

EGS = Path(__file__).parents[1] / "egs"

# Two processes on the node $NODE of two, one after the other.
TORCHRUN = """
while [ "$1" != --no-python ]; do shift; done
shift
for local in 0 1; do
  LOCAL_RANK=$local RANK=$((2 * NODE + local)) WORLD_SIZE=4 "$@" || exit
done
"""
# Each task of the array at once, and a job only after those that it waits for.
SBATCH = """
while [ $# -gt 0 ]; do
  case $1 in
    --array=*) last=${1##*-} ;;
    --wrap) work=$2 ;;
  esac
  shift
done
for task in $(seq 0 "${last:-0}"); do
  SLURM_ARRAY_TASK_ID=$task SLURM_CPUS_PER_TASK=1 bash -c "$work" >> "$LOG" 2>&1 || exit
done
echo 17
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    """The environment of a script, in which stand-ins are found first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    audiotok = f'exec "{sys.executable}" -m audiotok "$@"'
    for name, text in {"torchrun": TORCHRUN, "sbatch": SBATCH, "audiotok": audiotok}.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (folder / name).chmod(0o755)
    for i in range(6):
        recording(tmp_path / "in" / f"{i}.wav", 0.2, seed=i)
    (tmp_path / "in" / "bad.wav").write_text("hello")  # what is missing does not stop a rerun
    return {
        **environment(),
        "PATH": f"{folder}:{os.environ['PATH']}",
        "LISTING": str(tmp_path / "in"),
        "OUT": str(tmp_path / "tokens"),
        "LOG": str(tmp_path / "log"),
        "DEVICE": "cpu",
        "BUILD_MORE": "--most-bad 0.5",
    }


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(EGS / script), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_torchrun_on_two_nodes_and_again(tmp_path: Path, programs: dict[str, str]):
    (tmp_path / "in" / "bad.wav").unlink()
    first = run("corpus_torchrun.sh", str(small()), NODE="1", **programs)
    assert first.returncode == 0, first.stderr
    assert "another node still builds it" in first.stdout
    assert not (tmp_path / "tokens").exists()
    last = run("corpus_torchrun.sh", str(small()), NODE="0", **programs)
    assert last.returncode == 0, last.stderr
    assert is_sound(tmp_path / "tokens")
    assert len(Corpus(tmp_path / "tokens")) == 6
    for node in "01":
        again = run("corpus_torchrun.sh", str(small()), NODE=node, **programs)
        assert again.returncode == 0, again.stderr
        assert "nothing left to do" in again.stdout.splitlines()[-1]


def test_slurm_and_again(tmp_path: Path, programs: dict[str, str]):
    for run_number in range(2):
        done = run("corpus_slurm.sh", "2", str(small()), **programs)
        said = Path(programs["LOG"]).read_text()
        assert done.returncode == 0, done.stderr + said
        assert is_sound(tmp_path / "tokens")
        assert len(Corpus(tmp_path / "tokens")) == 6
        assert said.count("nothing left to do") == (0, 3)[run_number]  # two parts and the merge


@pytest.mark.parametrize("script", ["corpus_torchrun.sh", "corpus_slurm.sh"])
def test_a_url_becomes_no_folder(tmp_path: Path, programs: dict[str, str], script: str):
    done = subprocess.run(
        ["bash", str(EGS / script)],
        env={**programs, "OUT": "s3://bucket/tokens"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "s3:").exists()
