"""Training: a run learns, stops, resumes, says what is wrong; alone and as two processes."""

from __future__ import annotations

import copy
import csv
import importlib
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import small
from sizes import SMALL, made
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.lock import LockedError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load, read_card, save
from audiotok.codecs.models.speech import Speech
from audiotok.data.features.base import SpeechTeacher
from audiotok.nn.clusters import nearest
from audiotok.training import loop
from audiotok.training.balancer import Balancer
from audiotok.training.components import follow
from audiotok.training.estimate import estimate
from audiotok.training.journal import Journal, spectrogram
from audiotok.training.loop import CodecTrainer, train
from audiotok.training.losses import RECONSTRUCTION
from audiotok.training.machine import save_state
from audiotok.training.recipe import Band, Train, read_recipe
from audiotok.training.resume import KEY, RunFacts
from audiotok.training.schedule import draw_keep, learning_rate
from audiotok.training.step import KNOWN
from audiotok.training.validation import lower_is_better, stage_gradients

RATE = 16000


# -- schedules --------------------------------------------------------------------------------


def test_the_rate_warms_up_stays_and_falls_to_zero():
    options = Train(steps=100, rate=1.0, warmup=10, cooldown=20)
    rates = [learning_rate(step, options) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10:81] == [1.0] * 71
    assert rates[80:] == pytest.approx([1 - n / 20 for n in range(21)])


def test_the_cosine_and_the_exponential_rate():
    cosine = Train(steps=100, rate=2.0, warmup=0, cooldown=100, schedule="cosine")
    rates = [learning_rate(step, cosine) for step in range(101)]
    assert rates == pytest.approx([1 + math.cos(math.pi * n / 100) for n in range(101)])
    falling = Train(steps=100, rate=2.0, warmup=2, gamma=0.5, schedule="exponential")
    assert [learning_rate(n, falling) for n in range(4)] == [1.0, 1.0, 0.5, 0.25]
    # Discriminators may have a rate of their own.
    assert learning_rate(3, falling, 4.0) == 0.5


def test_codebooks_are_drawn_by_seed_and_step():
    half = Train(whole=0.5)
    keep = draw_keep(4000, 8, half, seed=(0, 3))
    assert torch.equal(keep, draw_keep(4000, 8, half, seed=(0, 3)))
    assert not torch.equal(keep, draw_keep(4000, 8, half, seed=(0, 4)))
    assert draw_keep(50, 8, Train(whole=1.0), seed=(0, 0)).tolist() == [8] * 50
    shares = torch.bincount(keep, minlength=9)[1:] / 4000
    # Half are whole, and an eighth of the other half by chance.
    assert shares.tolist() == pytest.approx([0.5 / 8] * 7 + [0.5 + 0.5 / 8], abs=0.02)


def test_codebooks_are_drawn_as_they_are_shared_out():
    shares = Train(keep=(3, 0, 1, 4))
    keep = draw_keep(8000, 4, shares, seed=(0, 3))
    assert torch.equal(keep, draw_keep(8000, 4, shares, seed=(0, 3)))
    drawn = torch.bincount(keep, minlength=5) / 8000
    assert torch.allclose(drawn, torch.tensor([0, 3, 0, 1, 4]) / 8, atol=0.02)
    assert drawn[2] == 0


# -- the balancer -----------------------------------------------------------------------------


def test_balanced_losses_reach_the_output_in_their_shares():
    """Whatever their own size, losses of shares 3 and 1 give gradients of norm 3/4 and 1/4."""
    wave = torch.randn(5, 1, 40, requires_grad=True)
    for scale in (1e-4, 1e4):
        one, other = torch.zeros(5, 1, 40), torch.zeros(5, 1, 40)
        one[:, :, :20], other[:, :, 20:] = 1.0, 1.0
        losses = {"a": (scale * one * wave).sum(), "b": (other * wave).sum()}
        slope = Balancer({"a": 3.0, "b": 1.0}).gradient(losses, wave)
        assert slope[:, :, :20].flatten(1).norm(dim=1).tolist() == pytest.approx([0.75] * 5)
        assert slope[:, :, 20:].flatten(1).norm(dim=1).tolist() == pytest.approx([0.25] * 5)


def test_the_balancer_goes_by_a_moving_average_that_is_kept():
    wave = torch.randn(1, 1, 8, requires_grad=True)
    balancer = Balancer({"a": 1.0}, decay=0.5)

    def size(balancer: Balancer, scale: float) -> float:
        return balancer.gradient({"a": scale * wave.sum()}, wave).norm().item()

    assert size(balancer, 1.0) == pytest.approx(1.0)
    again = Balancer({"a": 1.0}, decay=0.5)
    again.load_state_dict(balancer.state_dict())
    # The mean of 1 and 3, the newer one twice as heavy.
    assert size(balancer, 3.0) == pytest.approx(3 / (7 / 3))
    assert size(again, 3.0) == pytest.approx(3 / (7 / 3))


# -- the loop ---------------------------------------------------------------------------------

WHOLE = """
codec = "speech"
[data]
manifest = "{folder}/m.tsv"
cache = "{folder}/cache"
seconds = 0.2
batch = 4
[loss]
mel = 1.0
spectrum = 1.0
commitment = 0.25
[train]
steps = 6
rate = 5e-3
warmup = 1
cooldown = 0
every = 3
clips = 1
[config]
encoder = 16
encoder_blocks = 2
decoder = 16
decoder_blocks = 2
window = 3
heads = 2
latent = 8
codebooks = 2
size = 16
semantic = 4
"""
GAN = """
[discriminators.ms_stft]
width = 4
windows = [256, 128]
[adversary]
start = 2
delay = 1
seconds = 0.1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for i, split in enumerate(["train", "train", "dev"]):
        t = torch.arange(2 * RATE) / RATE
        tones = sum(torch.sin(2 * math.pi * f * (i + 2) * t) / 8 for f in (110, 330, 770))
        assert isinstance(tones, Tensor)
        Audio((tones * (t * 9).sin())[None], RATE).save(tmp_path / f"{split}{i}.wav")
    (tmp_path / "m.tsv").write_text(
        "path\tsplit\ntrain0.wav\ttrain\ntrain1.wav\ttrain\ndev2.wav\tdev\n"
    )
    path = tmp_path / "r.toml"
    path.write_text(WHOLE.format(folder=tmp_path))
    return path


@pytest.fixture
def playing(recipe: Path) -> Path:
    """The recipe with discriminators."""
    text = recipe.read_text().replace("[loss]", "[loss]\nadversarial = 1.0\nfeature_matching = 1.0")
    recipe.write_text(text + GAN)
    return recipe


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def saved(out: Path) -> dict[str, Any]:
    return torch.load(out / "last.pt", weights_only=True)


def assert_same(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds", "changes"}:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}.{i}")
    else:
        same = torch.equal(one, other) if isinstance(one, Tensor) else one == other
        assert same, f"{where} differs"


def test_a_run_learns_and_leaves_a_codec(recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    best = train(read_recipe(recipe), out)
    first, last = rows(out)
    assert (first["step"], last["step"]) == ("3", "6")
    for key in ("mel", "spectrum", "validation"):
        assert float(last[key]) < float(first[key]), key
    assert math.isclose(
        float(last["validation"]),
        float(last["held_mel"]) + float(last["held_spectrum"]),
        abs_tol=1e-4,
    )
    assert best == out / "best.safetensors"
    assert read_card(best)["card"]["step"] == 6
    codec = load(best)
    assert codec.config.size == 16
    assert len(codec.decode(codec.encode(Audio(torch.zeros(1, 777), RATE)))) == 777
    assert not list(out.glob("*.part"))


EVERY_WAY = [
    ["train.steps=6"],
    ["train.accumulate=2", "train.balance=true"],
    ["train.precision='bf16'", "data.workers=1"],
]


@pytest.mark.parametrize("settings", EVERY_WAY, ids=["plain", "balanced", "bf16"])
def test_resumed_is_uninterrupted_bit_for_bit(
    playing: Path, tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
):
    # Every step draws from torch's own random state, as entries that come back to life do.
    mel = RECONSTRUCTION["mel"]

    def shaken(*waves: Tensor, rate: int) -> Tensor:
        return mel(*waves, rate=rate) * (1 + 0.1 * torch.rand(()))

    monkeypatch.setitem(RECONSTRUCTION, "mel", shaken)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(read_recipe(playing, settings), whole)
    train(read_recipe(playing, [*settings, "train.steps=3"]), parts)
    torch.manual_seed(12345)  # another process
    train(read_recipe(playing, settings), parts)
    assert saved(whole)["step"] == 6
    assert_same(saved(parts), saved(whole))
    # Wall-clock time aside, and the rate of the next step, which the last one has none of.
    clock = {"hours", "speed", "rate"}
    for one, other in zip(rows(parts), rows(whole), strict=True):
        assert {k: one[k] for k in one.keys() - clock} == {
            k: other[k] for k in other.keys() - clock
        }


def test_killed_while_it_writes_a_checkpoint_nothing_is_lost(recipe: Path, tmp_path: Path):
    """kill -9 in the middle of the second checkpoint; then on from the first, and not before."""
    out = tmp_path / "run"
    script = (
        "import sys, torch\n"
        "from audiotok.training.recipe import read_recipe\n"
        "from audiotok.training import loop\n"
        "torch.set_num_threads(1)\n"  # as in this process: sums depend on it
        "write, calls = torch.save, []\n"
        "def save(what, file):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2:\n"
        "        file.write(b'half of it'); file.flush()\n"
        "        print('writing', flush=True)\n"
        "        sys.stdin.read()\n"
        "    write(what, file)\n"
        "loop.torch.save = save\n"
        "loop.train(read_recipe(sys.argv[1]), sys.argv[2])\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(recipe), str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert run.stdout is not None
    assert run.stdin is not None
    assert run.stdout.readline() == b"writing\n"
    with pytest.raises(LockedError, match=r"run: another process works there; wait for it"):
        train(read_recipe(recipe), out)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    run.stdin.close()
    assert saved(out)["step"] == 3
    train(read_recipe(recipe), out)
    whole = tmp_path / "whole"
    train(read_recipe(recipe), whole)
    assert_same(saved(out), saved(whole))
    assert [row["step"] for row in rows(out)] == ["3", "6"]
    assert not list(out.glob("*.part"))


def test_nothing_is_left_to_do_after_the_last_step(recipe: Path, tmp_path: Path):
    train(read_recipe(recipe, ["train.steps=1"]), tmp_path / "run")
    before = saved(tmp_path / "run")
    train(read_recipe(recipe, ["train.steps=1"]), tmp_path / "run")
    assert_same(saved(tmp_path / "run"), before)
    assert len(rows(tmp_path / "run")) == 1


def test_nan_stops_the_run_names_the_recording_and_spoils_nothing(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "run"
    train(read_recipe(recipe, ["train.steps=3"]), out)
    before = saved(out)
    broken = loop.Batches.__getitem__

    def one_bad(self: Any, step: int) -> Any:
        batch = broken(self, step)
        batch.wave[2, 0, 7] = float("nan")
        batch.starts[2] = 4711
        return batch

    monkeypatch.setattr(loop.Batches, "__getitem__", one_bad)
    with pytest.raises(ValueError, match=r"^step 3: the loss 'mel' is nan on \S*\.wav at sample"):
        train(read_recipe(recipe), out)
    assert_same(saved(out), before)


def test_a_time_limit_stops_at_a_checkpoint(recipe: Path, tmp_path: Path):
    train(read_recipe(recipe), tmp_path / "run", minutes=1e-9)
    assert saved(tmp_path / "run")["step"] == 1
    assert [row["step"] for row in rows(tmp_path / "run")] == ["1"]


def test_two_processes_keep_one_model(playing: Path, tmp_path: Path):
    """Weights, codebooks and discriminators are the same on both ranks after six steps."""
    out = tmp_path / "run"
    script = tmp_path / "rank.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from audiotok.training.recipe import read_recipe\n"
        "from audiotok.training.loop import CodecTrainer\n"
        "run = CodecTrainer(read_recipe(sys.argv[1]), Path(sys.argv[2]), 'cpu')\n"
        "assert run.machine.num_processes == 2, run.machine.num_processes\n"
        "run.go(0)\n"
        "torch.save(run.modules.state_dict(), f'{sys.argv[2]}/{run.machine.process_index}.pt')\n"
        "torch.distributed.destroy_process_group()\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launch, "--nproc_per_node=2", str(script), str(playing), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(out / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert_same(ranks[1], ranks[0])
    assert saved(out)["step"] == 6
    # Both ranks' batches count: one process with twice the batch takes nearly the same path.
    train(read_recipe(playing, ["data.batch=8"]), tmp_path / "alone")
    one = float(rows(tmp_path / "alone")[-1]["held_mel"])
    assert float(rows(out)[-1]["held_mel"]) == pytest.approx(one, rel=0.1)


# -- modules and losses -----------------------------------------------------------------------


def test_discriminators_begin_when_the_recipe_says(playing: Path, tmp_path: Path):
    run = CodecTrainer(read_recipe(playing, ["train.every=1"]), tmp_path / "run", "cpu")
    assert run.modules.discriminators
    begin = [p.clone() for p in run.modules.discriminators.parameters()]
    learnt = []
    move = run._update

    def watched() -> dict[str, Tensor]:
        norms = move()
        assert run.modules.discriminators
        now = list(run.modules.discriminators.parameters())
        learnt.append(any(not torch.equal(a, b) for a, b in zip(begin, now, strict=True)))
        return norms

    run._update = watched
    run.go(0)
    assert learnt == [False, False, True, True, True, True]
    log = rows(tmp_path / "run")
    assert [row["discriminator"] != "" for row in log] == learnt
    # The codec hears them `delay` steps later.
    assert [row["adversarial"] != "" for row in log] == [False, False, False, True, True, True]


def test_the_codec_learns_nothing_from_the_discriminators_own_loss(playing: Path, tmp_path: Path):
    settings = ["loss.adversarial=0.0", "loss.feature_matching=0.0"]
    train(read_recipe(playing, settings), tmp_path / "with")
    text = playing.read_text().replace(GAN, "").replace("adversarial = 1.0\nfeature_matching", "#")
    playing.write_text(text)
    train(read_recipe(playing), tmp_path / "without")
    assert_same(
        saved(tmp_path / "with")["players"]["codec"],
        saved(tmp_path / "without")["players"]["codec"],
    )


def test_accumulated_batches_are_one_larger_batch_in_expectation(recipe: Path, tmp_path: Path):
    """Two batches a step: the gradient is the mean of theirs."""
    found = {}
    for name, share in (("one", 1), ("two", 2)):
        settings = [f"train.accumulate={share}", "train.whole=1.0"]
        run = CodecTrainer(read_recipe(recipe, settings), tmp_path / name, "cpu")
        run.modules.codec.quantizer.eval()
        for step in range(2):
            run.work(run.batches[step], 0, step)
        found[name] = [p.grad for p in run.modules.codec.parameters() if p.grad is not None]
    for one, two in zip(found["one"], found["two"], strict=True):
        assert torch.allclose(one / 2, two, rtol=1e-4, atol=1e-7)


def test_a_loss_may_ask_only_crops_that_use_enough_codebooks(recipe: Path, tmp_path: Path):
    keep = draw_keep(4, 2, Train(whole=0.0), seed=(2, 0, 0, 0))
    assert sorted(set(keep.tolist())) == [1, 2]
    for least, asked in ((1, keep >= 1), (2, keep == 2), (3, keep == 3)):
        settings = ["loss.phase=1.0", f"loss_from.phase={least}"]
        settings += ["train.whole=0.0", "train.seed=2"]
        run = CodecTrainer(read_recipe(recipe, settings), tmp_path / str(least), "cpu")
        codec, batch = run.modules.codec.eval(), run.batches[0]
        told = run.work(batch, 0, 0)
        with torch.no_grad():
            made, _ = codec(batch.wave, keep)
        phase, mel = RECONSTRUCTION["phase"], RECONSTRUCTION["mel"]
        wanted = phase(made[asked], batch.clean[asked], rate=RATE) if asked.any() else 0.0
        assert told["phase"].item() == pytest.approx(float(wanted), rel=1e-4)
        assert told["mel"].item() == pytest.approx(mel(made, batch.clean, rate=RATE).item())


def test_every_stage_sends_its_commitment_to_the_encoder(recipe: Path, tmp_path: Path):
    run = CodecTrainer(read_recipe(recipe), tmp_path / "run", "cpu")
    run.go(0)
    sizes = stage_gradients(run.modules.average, run.fixed[:4])
    assert sizes.keys() == {"gradient_stage_1", "gradient_stage_2"}
    assert all(size > 0 for size in sizes.values())
    assert "gradient_stage_2" in rows(tmp_path / "run")[-1]


def test_weights_to_start_from(recipe: Path, tmp_path: Path):
    best = train(read_recipe(recipe), tmp_path / "first")
    settings = [f"train.start_from={best}", "train.seed=5"]
    run = CodecTrainer(read_recipe(recipe, settings), tmp_path / "second", "cpu")
    assert_same(dict(run.modules.codec.state_dict()), dict(load(best).state_dict()))
    assert wrong(
        recipe, tmp_path / "third", f"train.start_from={best}", "config.size=8"
    ).startswith(f"train.start_from: {best}: other sizes (size ")


def test_frozen_parts_keep_their_weights_and_codes(playing: Path, tmp_path: Path):
    first = load(train(read_recipe(playing), tmp_path / "first"))
    settings = [
        f"train.start_from={tmp_path / 'first' / 'best.safetensors'}",
        "train.frozen=['encoder', 'quantizer', 'semantic']",
    ]
    later = load(train(read_recipe(playing, settings), tmp_path / "second"))
    before, after = first.state_dict(), later.state_dict()
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"decoder"}
    audio = Audio(0.1 * torch.randn(1, RATE), RATE)
    assert (first.encode(audio).codes == later.encode(audio).codes).all()
    assert "gradient_stage_1" not in rows(tmp_path / "second")[-1]
    assert first.fingerprint == later.fingerprint
    assert first.decoder_fingerprint != later.decoder_fingerprint


def test_the_average_of_frozen_weights_is_theirs_to_the_bit():
    module = torch.nn.Linear(2, 1).requires_grad_(False)
    module.weight.data[:] = torch.tensor([-0.0, 1 / 3])
    average = copy.deepcopy(module)
    follow(average, module, 1000, 0.999)  # between -0 and -0 lies +0
    assert average.weight.numpy().tobytes() == module.weight.numpy().tobytes()
    module.requires_grad_(True).weight.data += 1
    follow(average, module, 1000, 0.5)
    assert average.weight.tolist() == [pytest.approx([0.5, 1 / 3 + 0.5])]


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        ("['decodr']", "[train] frozen: speech has no 'decodr'; encoder, quantizer, semantic, "),
        ("['encoder', 'semantic', 'decoder', 'head']", "[train] frozen: nothing is left to train"),
    ],
)
def test_what_cannot_be_frozen(recipe: Path, tmp_path: Path, frozen: str, message: str):
    assert wrong(recipe, tmp_path / "run", f"train.frozen={frozen}").startswith(message)


# -- distillation -----------------------------------------------------------------------------


class Own(SpeechTeacher):
    """Each frame's loudness in four shapes; changes with `width`."""

    name, layers = "own", 0

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.width = width
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 2, width), requires_grad=False)

    def states(self, wave: Tensor) -> Iterator[Tensor]:
        frames = torch.nn.functional.pad(wave, (0, -wave.shape[1] % 320)).unfold(1, 320, 320)
        yield frames.square().mean(2, keepdim=True).sqrt() ** self.weight


TAUGHT = """
[distillation]
cache = "{folder}/features"
[distillation.teachers.own]
layer = 0
"""


@pytest.fixture
def taught(recipe: Path) -> Path:
    """The recipe with a teacher."""
    text = recipe.read_text().replace("[loss]", "[loss]\ndistillation = 1.0")
    recipe.write_text(text + TAUGHT.format(folder=recipe.parent))
    return recipe


@pytest.mark.parametrize(
    ("axis", "settings"),
    [
        ("d", []),
        ("d", ["distillation.teachers.own.codebooks=[1,2]"]),
        ("t", []),
        ("labels", ["distillation.units=4"]),
    ],
)
def test_a_teacher_is_learnt_from(taught: Path, tmp_path: Path, axis: str, settings: list[str]):
    settings = [*settings, f"distillation.axis={axis}", "train.steps=40", "train.every=20"]
    settings += ["loss.mel=0.0", "loss.spectrum=0.0", "loss.distillation=10.0"]
    out = tmp_path / "run"
    train(read_recipe(taught, settings), out, teachers={"own": Own()})
    first, last = (float(row["distillation"]) for row in rows(out))
    assert last < 0.9 * first
    # Nothing else is learnt from it than encoder and head; and those are.
    fresh = CodecTrainer(read_recipe(taught, settings), tmp_path / "fresh", "cpu", {"own": Own()})
    codec = saved(out)["players"]["codec"]
    for name, value in fresh.modules.codec.named_parameters():
        part = name.split(".")[0]
        if value.ndim == 2 and part != "decoder":
            assert not torch.equal(value, codec[name]), name


OWN_ENCODER = [
    'config.quantizer="grouped_rvq"',
    "config.quantizer_options={groups=[[4,1],[4,1]],size=16,shielded=1}",
    "config.semantic_features=4",
    "config.semantic_encoder=16",
    "config.semantic_blocks=2",
]


def test_consistency_draws_the_second_view_to_the_codes_of_the_first(recipe: Path, tmp_path: Path):
    settings = [*OWN_ENCODER, "loss.consistency=1.0", "loss.commitment=0.0", "loss.mel=0.0"]
    settings += ["loss.spectrum=0.0"]
    run = CodecTrainer(read_recipe(recipe, settings), tmp_path / "run", "cpu")
    codec, batch = run.modules.codec.eval(), run.batches[0]
    assert isinstance(codec, Speech)
    assert batch.view is not None
    told = run.work(batch, 0, 0)
    with torch.no_grad():
        heard = codec.first_latents(batch.view)
        assert torch.equal(codec.first_latents(batch.wave), codec.latents(batch.wave)[:, :4])
        first = codec.quantizer.encode(codec.latents(batch.wave), 1)
        entries = codec.quantizer.decode(first)[:, :4]
    assert told["consistency"].item() == pytest.approx((heard - entries).square().mean().item())
    # It reaches the first codebook's encoder and nothing else.
    reached = {
        name.rpartition(".")[0]
        for name, p in codec.named_parameters()
        if p.grad is not None and p.grad.any()
    }
    assert reached
    assert all(name.startswith("encoder.layers.1.layers.0.") for name in reached), reached


def test_the_first_codebook_is_trained_alone(taught: Path, tmp_path: Path):
    """Without losses of sound nothing is decoded; what is frozen keeps its weights."""
    settings = [*OWN_ENCODER, "loss.consistency=1.0", "loss.view_distillation=0.5"]
    settings += ["loss.mel=0.0", "loss.spectrum=0.0", "train.steps=2", "train.best='distillation'"]
    settings += ["distillation.axis=labels", "distillation.units=4"]
    settings += ["train.frozen=['encoder.layers.1.layers.1','quantizer.parts.1','decoder']"]
    recipe = read_recipe(taught, settings)
    run = CodecTrainer(recipe, tmp_path / "run", "cpu", {"own": Own()})
    codec, batch = run.modules.codec, run.batches[0]
    assert isinstance(codec, Speech)
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    decoded = list[int]()
    codec.decoder.register_forward_hook(lambda *_: decoded.append(1))
    told = run.work(batch, 0, 0)
    assert batch.view is not None
    assert batch.features is not None
    assert run.targets is not None
    assert run.targets.units is not None
    with torch.no_grad():
        heard = torch.nn.functional.pad(codec.first_latents(batch.view), (0, 0, 0, 4))
        scores = codec.distilled(heard).transpose(1, 2)
        units = nearest(batch.features.flatten(0, 1), run.targets.units).view(len(batch), -1)
        each = torch.nn.functional.cross_entropy(scores, units, reduction="none")
    assert told["view_distillation"].item() == pytest.approx(each[batch.real].mean().item())
    run.go(0)
    assert not decoded, "nothing is decoded for a loss"
    after = codec.state_dict()
    kept = {name for name, value in before.items() if torch.equal(value, after[name])}
    frozen = ("encoder.layers.1.layers.1.", "quantizer.parts.1.", "decoder.")
    assert {name for name in before if name.startswith(frozen)} <= kept
    learnt = {name for name, _ in codec.named_parameters() if not name.startswith(frozen)}
    assert not learnt & kept
    with pytest.raises(InputError, match="view_distillation needs distillation, and consistency"):
        train(read_recipe(taught, [*settings, "loss.consistency=0.0"]), tmp_path / "none")
    with pytest.raises(InputError, match=r"frozen: speech has no 'quantizer\.parts\.7'; encoder"):
        train(
            read_recipe(taught, [*settings, "train.frozen=['quantizer.parts.7']"]), tmp_path / "x"
        )


def test_consistency_needs_an_encoder_for_the_first_codebook(recipe: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^the first codebook has no encoder: set config\.sem"):
        train(read_recipe(recipe, ["loss.consistency=1.0"]), tmp_path / "none")


def test_units_are_those_of_the_first_run(taught: Path, tmp_path: Path):
    settings = ["distillation.axis=labels", "distillation.units=4", "train.steps=1"]
    out = tmp_path / "run"
    train(read_recipe(taught, settings), out, teachers={"own": Own()})
    units = torch.load(out / "units.pt", weights_only=True)
    assert units.shape == (4, 4)
    run = CodecTrainer(read_recipe(taught, settings), out, "cpu", {"own": Own()})
    assert run.targets
    assert run.targets.units is not None
    assert torch.equal(run.targets.units, units)


def test_the_first_codes_of_a_codec_are_learnt(recipe: Path, tmp_path: Path):
    teacher = load(small())
    settings = ["loss.distillation=1.0", f'distillation.teachers.codec.weights="{small()}"']
    settings += [f'distillation.cache="{tmp_path}/features"', "distillation.axis=labels"]
    settings += ["distillation.units=64", "config.semantic=64", "train.steps=1"]
    run = CodecTrainer(read_recipe(recipe, settings), tmp_path / "run", "cpu")
    assert run.targets is not None
    assert run.targets.units is not None
    assert run.targets.units.shape == (64, 8)
    batch = run.batches[0]
    assert batch.features is not None
    recording, start = batch.recordings[0], batch.starts[0] // 320
    codes = teacher.encode(run.recordings[recording].load(), codebooks=1).codes[0]
    units = nearest(batch.features[0], run.targets.units)[batch.real[0]]
    assert units.tolist() == codes[start : start + len(units)].tolist()
    train(read_recipe(recipe, settings), tmp_path / "run")
    assert not (tmp_path / "run" / "units.pt").exists(), "nothing is clustered"
    wrong = [*settings, "distillation.units=500", "config.semantic=500"]
    with pytest.raises(InputError, match=r"units = 500: the teacher's first codebook has 64 codes"):
        CodecTrainer(read_recipe(recipe, wrong), tmp_path / "wrong", "cpu")
    fast = tmp_path / "fast.safetensors"
    save(made("speech", replace(SMALL, frame_size=160)), fast)
    wrong = [*settings, f'distillation.teachers.codec.weights="{fast}"']
    with pytest.raises(InputError, match=r"speech has 100 codes a second, and there are 50 frames"):
        CodecTrainer(read_recipe(recipe, wrong), tmp_path / "wrong", "cpu")
    latents = tmp_path / "latents.safetensors"
    save(made("speech", replace(SMALL, quantizer="none")), latents)
    wrong = [*settings, f'distillation.teachers.codec.weights="{latents}"']
    with pytest.raises(InputError, match="'speech' has no codebooks"):
        CodecTrainer(read_recipe(recipe, wrong), tmp_path / "wrong", "cpu")


def test_a_teacher_that_does_not_fit(taught: Path, tmp_path: Path):
    def refusal(*given: str, width: int = 4) -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            CodecTrainer(
                read_recipe(taught, list(given)), tmp_path / "run", "cpu", {"own": Own(width)}
            )
        return str(caught.value)

    assert refusal(width=5).endswith("not 4: set config.semantic = 5")
    assert "codebooks = [3]; speech has 1 to 2" in refusal(
        "distillation.teachers.own.codebooks=[3]"
    )
    assert refusal("distillation.axis=sideways").startswith(f"{taught} [distillation]: 'axis'")
    assert refusal("distillation.axis=labels", "distillation.units=9").endswith(
        "not 4: set config.semantic = 9"
    )


# -- losses of weight zero ------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["loss.distillation=0", "loss.distillation=0.0"])
def test_a_loss_of_weight_zero_asks_no_teacher(taught: Path, tmp_path: Path, setting: str):
    """Not even for its name: there is no teacher "own" in the package."""
    out = tmp_path / "run"
    train(read_recipe(taught, [setting, "train.steps=1"]), out)
    assert "distillation" not in rows(out)[0]
    assert not (taught.parent / "features").exists()


def test_twins_draw_the_same_crops_with_a_teacher_and_without(taught: Path, tmp_path: Path):
    def crops(*settings: str) -> Tensor:
        run = CodecTrainer(read_recipe(taught, list(settings)), tmp_path, "cpu", {"own": Own()})
        return torch.cat([run.batches[step].wave for step in range(4)])

    whole = crops()
    assert torch.equal(crops("loss.distillation=0", "data.aligned=true"), whole)
    assert not torch.equal(crops("loss.distillation=0"), whole)


def test_distillation_needs_a_teacher_that_weighs(taught: Path, recipe: Path, tmp_path: Path):
    assert wrong(taught, tmp_path / "a", "distillation.teachers.own.weight=0") == (
        "[loss] distillation needs a teacher of a weight above zero"
    )
    settings = ["distillation.teachers.other.weight=0", "train.steps=1"]
    train(read_recipe(taught, settings), tmp_path / "b", teachers={"own": Own()})
    assert "distillation" in rows(tmp_path / "b")[0]


def test_discriminators_without_a_weight_are_not_built(playing: Path, tmp_path: Path):
    settings = ["loss.adversarial=0", "loss.feature_matching=0"]
    run = CodecTrainer(read_recipe(playing, settings), tmp_path / "a", "cpu")
    assert run.modules.discriminators is None
    facts = estimate(read_recipe(playing, settings))
    assert facts["discriminators"] == facts["gflops_of_discriminators"] == 0
    one = read_recipe(playing, ["loss.feature_matching=0", "train.steps=4", "train.every=4"])
    train(one, tmp_path / "b")
    assert "feature_matching" not in rows(tmp_path / "b")[0]
    assert "adversarial" in rows(tmp_path / "b")[0]


def test_a_loss_of_weight_zero_is_not_computed_and_changes_nothing(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[bool] = []
    own = RECONSTRUCTION["phase"]

    def counted(*waves: Tensor, rate: int) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return own(*waves, rate=rate)

    monkeypatch.setitem(RECONSTRUCTION, "phase", counted)
    for name, settings in {"without": [], "zero": ["loss.phase=0"]}.items():
        train(read_recipe(recipe, settings), tmp_path / name)
    assert calls == [False, False], "on held-out crops only, at the two checkpoints"
    weights = [saved(tmp_path / name)["players"] for name in ("without", "zero")]
    assert_same(*weights)
    assert "held_phase" in rows(tmp_path / "zero")[0]


def test_noises_of_no_share_are_not_opened(recipe: Path, tmp_path: Path):
    settings = ["data.augment.noises=nowhere", "train.steps=1"]
    train(read_recipe(recipe, settings), tmp_path / "run")
    assert "nowhere" in wrong(recipe, tmp_path / "b", *settings, "data.augment.noise=0.5")


def test_nothing_to_learn_is_an_error(recipe: Path, tmp_path: Path):
    settings = ["loss.mel=0", "loss.spectrum=0", "loss.commitment=0"]
    assert wrong(recipe, tmp_path / "run", *settings) == (
        "[loss]: all weights are zero, so nothing would be learnt"
    )


def test_a_quantizer_without_a_commitment_says_so(recipe: Path, tmp_path: Path):
    run = CodecTrainer(read_recipe(recipe), tmp_path / "run", "cpu")
    _, quantized = run.modules.codec(run.fixed[:1])
    bare = replace(quantized, losses={})
    with pytest.raises(ValueError, match=r"\[loss\] commitment: .* has none; leave it out"):
        run.work._commitment(bare)


# -- what is written --------------------------------------------------------------------------


def test_metrics_sounds_and_pictures(recipe: Path, tmp_path: Path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "run"
    train(read_recipe(recipe, ["train.score=3", "train.best=score_stoi"]), out)
    last = rows(out)[-1]
    assert float(last["score_stoi"]) <= 1
    assert last["score_stoi_count"] == "1"
    board = events.EventAccumulator(str(out / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert {"train/mel", "held/mel", "score/stoi", "usage/1"} <= set(tags["scalars"])
    assert "decoded/clip 0" in tags["audio"]
    assert {"decoded/clip 0", "reference/clip 0"} <= set(tags["images"])
    best = max(float(row["score_stoi"]) for row in rows(out))
    assert read_card(out / "best.safetensors")["card"]["curves"]["score_stoi"] == best


def test_scores_of_some_codebooks_and_of_chosen_metrics(recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    settings = ["train.score=6", "train.metrics=['mel', 'stoi:extended']", "train.codebooks=[1, 2]"]
    best = train(read_recipe(recipe, [*settings, "train.best=score_mel@1"]), out)
    last = rows(out)[-1]
    assert {key for key in last if key.startswith("score_") and not key.endswith("_count")} == {
        *("score_mel", "score_mel@1", "score_stoi:extended", "score_stoi:extended@1"),
    }
    # Fewer codebooks came back as something else.
    assert last["score_mel@1"] != last["score_mel"]
    assert read_card(best)["card"]["curves"]["score_mel@1"] == float(last["score_mel@1"])


def test_best_by_a_column_that_is_never_logged_is_an_error(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    settings = ["train.score=3", "train.metrics=['utmos', 'mel']", "train.best='score_utmos'"]
    assert wrong(recipe, tmp_path / "run", *settings).startswith(
        "[train] best: 'score_utmos' is not in log.csv; there are step, "
    )
    assert "score_utmos is left out: " in caplog.text  # its weights are not here
    assert wrong(recipe, tmp_path / "other", "train.best='held_mol'").startswith("[train] best: ")


def test_the_direction_of_a_column_is_its_metrics():
    assert lower_is_better("validation")
    assert lower_is_better("score_mel@1")
    assert lower_is_better("score_wer")
    assert not lower_is_better("score_distillmos@4")
    assert not lower_is_better("score_stoi:extended")


def test_a_tone_is_a_line_in_the_picture():
    tone = torch.sin(2 * math.pi * 2000 * torch.arange(RATE) / RATE)
    picture = spectrogram(tone)
    assert picture.shape == (1, 257, RATE // 128 + 1)
    # 2000 Hz is bin 64 of 257 from below.
    assert (picture[0, :, 20:-20].argmax(0) == 256 - 64).all()
    assert picture.min() == 0
    assert picture.max() == 1


def test_bands_warn_once_of_what_is_outside(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    bands = (Band(2, "mel", 0.5, 1.0), Band(4, "mel", 0.2, 0.4), Band(4, "speed", 1, 2))
    with Journal(tmp_path, steps=9, bands=bands) as journal:
        for step, mel in ((1, 9.0), (2, 1.5), (3, 9.0), (4, 0.3)):
            journal.row({"step": step, "mel": mel})
    assert caplog.messages == [
        "step 2: mel is 1.5, outside the 0.5 to 1 that the recipe expects from step 2",
        "the recipe has a band for 'speed', which is not logged",
    ]


def test_a_log_gains_columns_and_loses_lines_that_are_trained_again(tmp_path: Path):
    with Journal(tmp_path, steps=9, bands=()) as journal:
        journal.row({"step": 1, "a": 1.0})
        journal.row({"step": 2, "a": 2.0})
        journal.row({"step": 3, "a": 3.0})
    with Journal(tmp_path, steps=9, bands=()) as journal:
        journal.row({"step": 2, "a": 2.5, "b": 7.0})
    assert rows(tmp_path) == [
        {"step": "1", "a": "1.0", "b": ""},
        {"step": "2", "a": "2.5", "b": "7.0"},
    ]


def test_a_dry_run_measures_and_writes_nothing(playing: Path, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    facts = estimate(read_recipe(playing))
    assert sorted(tmp_path.rglob("*")) == before
    run = CodecTrainer(read_recipe(playing), tmp_path / "run", "cpu")
    codec, discriminators = run.modules.codec, run.modules.discriminators
    assert facts["parameters"] == codec.parameters_total
    assert discriminators
    assert facts["discriminators"] == sum(p.numel() for p in discriminators.parameters())
    # A matrix product costs two operations a weight and frame, 50 frames a second; attention's
    # and the search's products come on top.
    weights = sum(p.numel() for p in codec.parameters() if p.ndim == 2)
    assert 1 < facts["gflops_per_second_of_audio"] / (2e-9 * 50 * weights) < 2
    assert facts["hours_of_audio"] == pytest.approx(6 * 4 * 0.2 / 3600)
    assert facts["mb_per_second_of_audio"] > 0
    assert facts["seconds_a_step"] > 0


# -- what is wrong ----------------------------------------------------------------------------


def wrong(recipe: Path, out: Path, *given: str) -> str:
    settings = read_recipe(recipe, list(given))
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        train(settings, out)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_losses_and_sizes_name_the_known(recipe: Path, tmp_path: Path):
    assert wrong(recipe, tmp_path / "a", "loss.melt=1.0") == (
        f"[loss]: unknown ['melt']; known: {', '.join(KNOWN)}"
    )
    assert wrong(recipe, tmp_path / "b", "config.sise=3").startswith(
        "[config]: unknown ['sise']; known: sample_rate, frame_size, "
    )
    assert wrong(recipe, tmp_path / "c", "data.train='trian'").endswith(
        "m.tsv: no recording of split 'trian'; it has dev, train"
    )
    assert wrong(recipe, tmp_path / "d", "discriminators.mpd={widht=3}", "loss.adversarial=1.0")
    assert wrong(recipe, tmp_path / "e", "loss.adversarial=1.0") == (
        "[loss] adversarial needs a table [discriminators.NAME]"
    )
    assert wrong(recipe, tmp_path / "f", "loss.distillation=1.0") == (
        "[loss] distillation needs a table [distillation.teachers.NAME]"
    )
    assert wrong(recipe, tmp_path / "h", "loss_from.commitment=2", "loss_from.phase=2") == (
        "[loss_from]: ['commitment', 'phase'] are no reconstruction losses in [loss]"
    )
    for i, shares in enumerate(("[1.0]", "[0.0, 0.0]")):
        # Said before anything is read.
        assert wrong(
            recipe, tmp_path / f"k{i}", f"train.keep={shares}", "data.manifest='none.tsv'"
        ) == ("[train] keep: a share for each of 2 codebooks is needed")
    assert wrong(recipe, tmp_path / "g", "discriminators.mpd={}") == (
        "[discriminators] play no part: set loss.adversarial, feature_matching"
    )


def test_a_run_goes_on_where_options_have_come_since(tmp_path: Path):
    """An option that an older version lacked is no change at its default, but elsewhere it is."""

    @dataclass
    class Part:
        steps: int = 5
        newer: int = 3

    @dataclass
    class Whole:
        manifest: str
        part: Part
        newest: float = 0.5

    before = {KEY: json.dumps({"manifest": "a", "part.steps": 5})}
    path, fixed = tmp_path / "last.pt", ("part", "newest", "manifest")
    same = ["code", "torch"]
    assert list(RunFacts.of(Whole("a", Part())).check(before, path, fixed=fixed)) == same
    gained = RunFacts.of(Whole("a", Part(), newest=0.7)).check(before, path, fixed=fixed)
    assert set(gained) == {"newest", *same}
    for other in (Whole("b", Part()), Whole("a", Part(newer=4))):
        with pytest.raises(ValueError, match="not a run of this recipe"):
            RunFacts.of(other).check(before, path, fixed=fixed)


def test_a_folder_of_another_recipe_is_refused(recipe: Path, tmp_path: Path):
    train(read_recipe(recipe, ["train.steps=1"]), tmp_path / "run")
    said = wrong(recipe, tmp_path / "run", "config.encoder=32")
    assert said == (
        f"{tmp_path}/run/last.pt: not a run of this recipe (config.encoder was 16, now 32), which "
        "cannot change on the way; train into another folder"
    )


def test_what_changed_is_said_in_a_line_each(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """It went on with another rate, seed or other data without a word."""
    out = tmp_path / "run"

    def lines(*settings: str) -> list[str]:
        caplog.clear()
        train(read_recipe(recipe, ["train.every=1", *settings]), out)
        own = (record.getMessage() for record in caplog.records)
        return [line.removeprefix(f"{out}/last.pt: ") for line in own if "last.pt" in line]

    assert lines("train.steps=1") == []
    assert lines("train.steps=1", "config.encoder=16") == [], "which it was"
    text = "train.steps=2", "train.rate=1e-3", "train.seed=5", "train.betas=[0.5,0.9]"
    assert lines(*text) == [
        "train.steps was 1, now 2",
        "train.rate was 0.005, now 0.001",
        "train.betas was [0.8, 0.99], now [0.5, 0.9]",
        "train.seed was 0, now 5",
    ]
    groups = saved(out)["players"]["optimizer"]["param_groups"]
    assert [group["betas"] for group in groups] == [(0.5, 0.9)] * 2
    assert lines(*text) == []

    known = saved(out)
    known["best"] = -math.inf
    torch.save(known, out / "last.pt")
    (recipe.parent / "m.tsv").write_text("path\tsplit\ntrain0.wav\ttrain\ndev2.wav\tdev\n")
    said = lines(*text, "train.steps=3", "loss.mel=2.0")
    assert [line.partition(" was ")[0] for line in said] == [
        "loss.mel",
        "train.steps",
        "training data",
        "the best weights are chosen anew, as they are judged otherwise",
    ]
    assert re.fullmatch(
        r"training data was 2 recordings \([0-9a-f]{8}\), now 1 recordings \([0-9a-f]{8}\)", said[2]
    )
    assert saved(out)["best"] > 0

    known = saved(out)
    del known[KEY]
    torch.save(known, out / "last.pt")
    assert lines(*text, "train.steps=4", "loss.mel=2.0") == [
        "of an older audiotok, which kept no recipe in it: goes on, but whether recipe and data "
        "are the same cannot be told"
    ]
    assert saved(out)["step"] == 4
    assert KEY in saved(out)


def test_discriminators_may_come_and_go_but_not_change(
    playing: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    text = playing.read_text()
    playing.write_text(text.partition("[discriminators")[0])
    playing.write_text(re.sub("(adversarial|feature_matching) = 1.0\n", "", playing.read_text()))
    out = tmp_path / "run"
    train(read_recipe(playing, ["train.steps=1"]), out)
    playing.write_text(text)
    train(read_recipe(playing, ["train.steps=2"]), out)
    assert "discriminators.ms_stft.width was not there, now 4" in caplog.text
    for setting, said in (
        ("discriminators.ms_stft.width=6", "discriminators.ms_stft.width was 4, now 6"),
        ("discriminators.mpd={}", "discriminators.mpd was not there, now empty"),
    ):
        assert f"({said})" in wrong(playing, out, "train.steps=3", setting)


def test_a_checkpoint_with_nan_is_neither_written_nor_gone_on_from(recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    train(read_recipe(recipe, ["train.steps=1"]), out)
    known = saved(out)
    key, weight = next(
        (k, v) for k, v in known["players"]["average"].items() if k.startswith("decoder.")
    )
    weight.view(-1)[0] = math.nan
    before = (out / "last.pt").read_bytes()
    with pytest.raises(ValueError, match=r"last\.pt: not written, since players\.average\.decoder"):
        save_state(known, out / "last.pt")
    assert (out / "last.pt").read_bytes() == before
    torch.save(known, out / "last.pt")
    assert f"last.pt: tensor 'average.{key}' holds NaN (1 of" in wrong(recipe, out, "train.steps=2")


@pytest.mark.parametrize("kept", [0, 5, 3000])
def test_a_damaged_checkpoint_is_named(recipe: Path, tmp_path: Path, kept: int):
    out = tmp_path / "run"
    train(read_recipe(recipe, ["train.steps=1"]), out)
    whole = (out / "last.pt").read_bytes()
    (out / "last.pt").write_bytes(whole[:kept])
    assert wrong(recipe, out, "train.steps=2").startswith(f"{out}/last.pt: damaged, or not written")
    assert (out / "last.pt").read_bytes() == whole[:kept]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(recipe: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^device cuda: .*; there is cpu here$"):
        train(read_recipe(recipe), tmp_path / "run", device="cuda")


def test_without_accelerate_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.delitem(sys.modules, "audiotok.training.machine")
    with pytest.raises(ImportError, match=r"pip install accelerate, or 'audiotok\[train\]'$"):
        importlib.import_module("audiotok.training.machine")
