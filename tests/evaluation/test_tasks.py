"""Tasks of one codec's codes: against codes and codecs whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import FRAME, RATE, Constant, Steps, coded, found, heard, tiny, value, waves

from audiotok._platform.registry import find, names
from audiotok.audio.audio import Audio
from audiotok.codecs.models.speech import Speech
from audiotok.evaluation.metrics.base import Metric, MissingModelError, Score
from audiotok.evaluation.tasks import drift, preservation
from audiotok.evaluation.tasks.base import add_white_noise, split_by_group
from audiotok.evaluation.tasks.codes import Codes
from audiotok.evaluation.tasks.cost import Cost
from audiotok.evaluation.tasks.drift import Drift
from audiotok.evaluation.tasks.idempotence import Idempotence
from audiotok.evaluation.tasks.preservation import Preservation
from audiotok.nn.flops import flops
from audiotok.nn.quantizers.rvq import Euclidean


@pytest.mark.parametrize("name", names("tasks"))
def test_every_task_says_what_its_numbers_depend_on_and_refuses_other_options(name: str):
    task = find("tasks", name)()
    assert task.protocol
    assert task.name == name
    if name != "information":  # whose option is any path
        with pytest.raises(ValueError, match="nonsense"):
            find("tasks", name)("nonsense")


def test_speakers_are_held_out_whole():
    who = [str(i % 7) for i in range(40)]
    train, test = split_by_group(who, 0)
    assert sorted(train + test) == list(range(40))
    assert len({who[i] for i in test}) == 2
    assert not {who[i] for i in train} & {who[i] for i in test}
    assert [len(part) for part in split_by_group(["a", "b"], 0)] == [1, 1]
    with pytest.raises(ValueError, match="at least two in `speaker`"):
        split_by_group(["a", "a"], 0)


def test_noise_is_as_far_below_as_it_says():
    audio = waves(1)[0]
    noise = add_white_noise(audio, 12, (0, 1)).samples - audio.samples
    ratio = audio.samples.square().mean() / noise.square().mean()
    assert 10 * math.log10(ratio) == pytest.approx(12, abs=0.01)


def test_a_mean_over_nothing_is_no_number():
    task = Codes()
    assert task.mean("x", [0.0], [0.0]).value is None
    assert task.mean("x", [1.0, 5.0], [2.0, 0.0]).value == 0.5


# -- codes --------------------------------------------------------------------------------------


def test_codes_used_equally_often_have_all_the_entropy_there_is():
    rows = [np.stack([np.arange(64) % 8, np.arange(64)[::-1] % 8 // 2]) for _ in range(3)]
    got = found(Codes(), coded(rows))
    assert value(got, "entropy of codebook 1") == pytest.approx(3)
    assert value(got, "perplexity of codebook 1") == pytest.approx(8)
    assert value(got, "dead entries of codebook 1") == 0
    assert value(got, "entropy of codebook 2") == pytest.approx(2)
    assert value(got, "entries seen of codebook 2") == 50
    assert value(got, "dead entries of codebook 2") == 4
    assert value(got, "entropy rate") == pytest.approx(50 * 5 / 1000)
    assert value(got, "entropy rate below nominal") == pytest.approx(1 / 6)
    assert value(got, "frames that repeat the last of codebook 1") == 0


def test_codes_that_never_change_have_none():
    got = found(Codes(), coded([np.full((2, 50), 3) for _ in range(3)]))
    assert value(got, "entropy of codebook 1") == 0
    assert value(got, "dead entries of codebook 1") == 7
    assert value(got, "entropy rate") == 0
    assert value(got, "frames that repeat the last of all codebooks at once") == 100


def test_entries_of_few_frames_are_not_called_dead():
    """79 frames of 8 entries are one too few."""
    dead = found(Codes(), coded([np.zeros((1, 79), int)]))["dead entries of codebook 1"]
    assert dead.value is None
    assert dead.note == "79 frames are too few to call entries dead; 80 are needed for 8 entries"


def test_entropy_by_position_sees_a_beginning_that_is_always_the_same():
    random = np.random.default_rng(0)
    rows = [random.integers(0, 8, (1, 310)) for _ in range(20)]
    for row in rows:
        row[:, :10] = 5
    got = found(Codes(), coded(rows))
    assert value(got, "entropy of codebook 1, first 10 frames") == 0
    assert value(got, "entropy of codebook 1, after 10 frames") > 2.9
    assert got["entropy of codebook 1, last third"].n == 200


def test_duplicate_entries_are_counted_with_their_originals():
    bench = coded([np.zeros((2, 20), int)])
    book = next(m for m in bench.codec.quantizer.modules() if isinstance(m, Euclidean))
    book.entries[3] = book.entries[5] + 1e-5
    got = found(Codes(), bench)
    assert value(got, "duplicate entries of codebook 1") == 2
    assert value(got, "duplicate entries of codebook 2") == 0


def test_no_frames_are_no_codes():
    with pytest.raises(ValueError, match="no frames"):
        Codes().run(coded([np.zeros((2, 0), int)]))


# -- idempotence and drift ----------------------------------------------------------------------


class Restless(Steps):
    """What it decodes is coded one step higher."""

    def decode(self, tokens: Any, **_: Any) -> Audio:
        audio = super().decode(tokens)
        return Audio((audio.samples + 1.25) % 2 - 1, audio.rate)


def test_what_decodes_to_the_middle_of_its_step_is_kept(tmp_path: Path):
    got = found(Idempotence(), heard(tmp_path, tiny(kind=Steps), waves(3)))
    assert value(got, "kept after 1 round") == 100
    assert value(got, "kept after 5 rounds") == 100
    assert value(got, "settled") == 100


def test_what_moves_every_round_is_neither_kept_nor_settled(tmp_path: Path):
    got = found(Idempotence(), heard(tmp_path, tiny(kind=Restless), waves(3)))
    assert value(got, "kept after 1 round of codebook 1") == 0
    assert value(got, "kept after 1 round of codebook 2") > 90  # the step within the step
    assert value(got, "settled") < 60


def test_drift_of_a_codec_that_knows_no_other_frame(tmp_path: Path):
    got = found(Drift(), heard(tmp_path, tiny(kind=Steps), waves(3)))
    for name in ("a shift by 1 frame", f"a shift by {drift.SHIFT} frames", "a batch"):
        assert value(got, f"changed by {name}, all codebooks") == 0, name
    assert value(got, "changed by weights rounded to bf16, codebook 1") == 0  # it has none
    assert value(got, "changed by opposite polarity, codebook 1") > 90
    assert value(got, "changed by a shift by half a frame, codebook 1") > 10
    louder, noise = "changed by gain of +6 dB, codebook 1", "changed by noise at {} dB SNR, {}"
    assert value(got, louder) > 10
    some = [value(got, noise.format(snr, "all codebooks")) for snr in (40, 20)]
    assert 0 < some[0] < some[1]


def test_a_real_codec_drifts_with_its_weights_but_not_with_its_batch(tmp_path: Path):
    got = found(Drift(), heard(tmp_path, tiny(), waves(5)))
    assert value(got, "changed by a batch, all codebooks") == 0
    low, high = (
        value(got, f"changed by weights rounded to {x}, all codebooks") for x in ("fp16", "bf16")
    )
    assert low <= high
    assert 0 < value(got, "changed by noise at 20 dB SNR, all codebooks") <= 100


def test_arithmetic_that_is_not_to_be_had_is_said(tmp_path: Path):
    class Picky(Speech):
        def encode(self, recording: Any, rate: int | None = None, **options: Any):
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("no such kernel")
            return super().encode(recording, rate, **options)

    got = found(Drift(), heard(tmp_path, tiny(kind=Picky), waves(1)))
    assert got["changed by autocast to fp16"].value is None
    assert "no such kernel" in got["changed by autocast to fp16"].note


# -- preservation ---------------------------------------------------------------------------------


class Difference(Metric):
    """Mean absolute difference, in place of word errors."""

    better, unit, protocol = "lower", "", "mean absolute difference"

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        if not text:
            raise ValueError("no text")
        return Score((output.samples - reference.samples).abs().sum().item(), len(reference))


class Missing(Difference):
    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        raise MissingModelError("no weights here")


def test_preservation_is_of_codebook_1_and_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kinds = {"wer": Difference, "speaker": Missing}
    monkeypatch.setattr(preservation, "find", lambda _, name: kinds[name])
    held = [Audio(torch.full((1, 10 * FRAME), v), RATE) for v in (0.01, 0.26)]
    bench = heard(tmp_path, tiny(kind=Steps), [*held, held[0]], [{"text": "a"}] * 2 + [{}])
    got = found(Preservation(), bench)
    assert value(got, "wer of the originals") == 0
    # 0.01 is in the coarse step 0 to 0.25, decoded at its fifth of 8 (0.140625).
    assert value(got, "wer of codebook 1") == pytest.approx(0.130625, abs=1e-5)
    assert value(got, "wer of codebooks 1 to 2") == pytest.approx(0.005625, abs=1e-5)
    assert got["wer of codebook 1"].n == 2
    assert "1 not scored: no text" in got["wer of codebook 1"].note
    assert got["speaker"].value is None
    assert "no weights here" in got["speaker"].note


# -- cost -----------------------------------------------------------------------------------------


def test_flops_are_two_for_a_multiply_and_an_add():
    a, b = torch.randn(5, 7), torch.randn(7, 11)
    assert flops(lambda: a @ b) == 2 * 5 * 7 * 11
    layer = torch.nn.Conv1d(3, 4, 5)
    assert flops(lambda: layer(torch.randn(1, 3, 20))) == 2 * 16 * 3 * 4 * 5


def test_cost_counts_what_there_is(tmp_path: Path):
    codec = tiny()
    got = found(Cost(), heard(tmp_path, codec, waves(3, 1.0)))
    assert value(got, "parameters") == codec.parameters_total
    assert 0 < value(got, "real-time factor of encode") < 10
    assert 0 < value(got, "operations of the encoder") < value(got, "operations")
    memory = got["peak memory"]
    assert memory.value is None or 50 < memory.value < 4000, memory
    assert memory.value is not None or "Linux" in memory.note, memory
    with pytest.raises(ValueError, match="no samples"):
        found(Cost(), heard(tmp_path, tiny(kind=Constant), [Audio(torch.zeros(1, 0), RATE)]))
