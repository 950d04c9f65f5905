"""Training loop of language models, with the schedule, journal and checkpoints of codec training.

out/last.pt            checkpoint to resume from
out/best.safetensors   averaged weights with the fewest held-out bits per second so far
out/layout.json        the layout
out/log.csv            see `audiotok.training.journal`
"""

from __future__ import annotations

import copy
import math
import os
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.lock import locked_folder
from audiotok.corpus import Corpus
from audiotok.lm.contexts import Contexts
from audiotok.lm.data import (
    IGNORED,
    TEXT,
    Recordings,
    SequenceBatch,
    causal_batch,
    masked,
    nar_batch,
    new_layout,
    one_step_a_frame,
    plain_layout,
)
from audiotok.lm.entries import initialize_from_entries
from audiotok.lm.file import codec_of, save_model
from audiotok.lm.layout import Layout
from audiotok.lm.masked import held_out_sums, sum_nats, sums_batch
from audiotok.lm.model import Transformer
from audiotok.lm.recipe import LmRecipe
from audiotok.lm.resume import fixed, run_facts
from audiotok.nn.finite import check_finite
from audiotok.training.components import adamw, follow
from audiotok.training.journal import Journal, Sums, finite
from audiotok.training.machine import accelerator, any_process, casting, optimizer_step, save_state
from audiotok.training.resume import chosen_anew, load_state, retune
from audiotok.training.schedule import learning_rate

VALIDATED = 64  # validation recordings that are scored for each line of the log


def train(recipe: LmRecipe, out: str | Path, *, device: str = "cpu", minutes: float = 0) -> Path:
    """Train a language model to `out/last.pt`, its averaged weights in `out/best.safetensors`.

    A run with the same `out` resumes from the last checkpoint.

    Args:
        recipe: what to train.
        out: a folder.
        device: a torch device.
        minutes: minutes after which to save a checkpoint and stop; 0 for no limit.

    Returns:
        The path of the averaged weights.

    Raises:
        ValueError: the recipe does not fit the corpus, or a loss is not finite.
        LockedError: another process trains into `out`.
    """
    first = os.environ.get("RANK", "0") == "0"  # among the processes that train together
    with locked_folder(Path(out)) if first else nullcontext():
        run = LmTrainer(recipe, Path(out), device)
        run.go(minutes)
    return run.best_path


class LmTrainer:
    """Trainer of a language model, in one process of one or many.

    Args:
        recipe: what to train.
        out: a folder; if it has a checkpoint, training resumes from it.
        device: a torch device.

    Attributes:
        model: the model that is trained.
        average: the exponential moving average of its weights.
        layout: the layout of its ids.
        step: number of steps done.
        best: fewest held-out bits per second so far.
        seconds: training time so far.

    Raises:
        ValueError: the recipe does not fit the corpus, the layout or the checkpoint in `out`.
    """

    def __init__(self, recipe: LmRecipe, out: Path, device: str) -> None:
        torch.set_flush_denormal(True)
        self.recipe = recipe
        self.out = out
        self.options = recipe.train
        self.machine = accelerator(device)
        self.device = self.machine.device
        self.main = self.machine.is_main_process
        self.cast = casting(self.machine, self.options.precision)
        corpus = Corpus(recipe.data.corpus)
        rank, world = self.machine.process_index, self.machine.num_processes
        self.contexts = Contexts(recipe, rank, world) if recipe.data.packed else None
        if self.contexts is None:
            self.recordings = Recordings(corpus, recipe.data.train, recipe.data)
        self.validation = Recordings(corpus, recipe.data.validate, recipe.data)
        self.last = out / "last.pt"
        self.best_path = out / "best.safetensors"
        file = out / "layout.json"
        with self.machine.main_process_first():
            if not file.is_file():
                out.mkdir(parents=True, exist_ok=True)
                layout = (
                    self.contexts.layout if self.contexts else new_layout(recipe, self.recordings)
                )
                layout.save(file)
        self.layout = Layout.load(file)
        if plain_layout(recipe, corpus) != replace(self.layout, pieces=None):
            raise InputError(f"{file}: not the layout of this recipe; use another folder")
        plain = self.layout.pattern == "parallel" and one_step_a_frame(self.layout)
        if not recipe.model.causal and not (plain and len(self.layout.sizes) > 1):
            raise InputError("model.causal = false needs layout.pattern = 'parallel' of 2 or more")
        if recipe.model.gaussians and (recipe.model.causal or recipe.model.phones):
            raise InputError("model.gaussians needs model.causal = false, and no model.phones")
        if recipe.model.phones != bool(recipe.data.spans):
            raise InputError("model.phones and data.spans go together")
        if recipe.model.phones and not one_step_a_frame(self.layout):
            raise InputError("model.phones needs a layout of a step a frame: delay or parallel")
        torch.manual_seed(self.options.seed)
        text = TEXT if recipe.data.text else 0
        sums = bool(recipe.model.gaussians)
        codec = codec_of(self.layout, recipe.data.codec) if sums else None
        latent = codec.quantizer.table(0).shape[1] if codec else 0
        self.model = Transformer(self.layout.vocabulary, text, recipe.model, latent=latent)
        if codec is not None and self.model.sums is not None:
            self.model.sums.set_entries(codec.quantizer)
        if recipe.model.entries and not self.last.is_file():
            try:
                codec = codec or codec_of(self.layout, recipe.data.codec)
                initialize_from_entries(self.model, self.layout, codec)
            except ValueError as error:
                raise InputError(f"{error}; model.entries = false begins without") from None
        self.model = self.model.to(self.device)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = adamw(self.model, self.options)
        self.step = 0
        self.best = math.inf
        self.seconds = 0.0
        training = None if self.contexts else self.recordings.indices
        self.facts = run_facts(recipe, corpus, training, self.validation.indices, processes=world)
        self._resume()
        if self.contexts is not None:
            self.contexts.seek(self.step * self.options.accumulate)

    # -- checkpoints ----------------------------------------------------------------------------

    def _parts(self) -> dict[str, Any]:
        """Return the parts of the state that a checkpoint holds, by name."""
        return {"model": self.model, "average": self.average, "optimizer": self.optimizer}

    def _resume(self) -> None:
        """Load the last checkpoint, if there is one."""
        if not self.last.is_file():
            return
        saved = load_state(self.last, self.device)
        changed = self.facts.check(saved, self.last, fixed=fixed(self.recipe), say=self.main)
        check_finite({name: saved.get(name) for name in self._parts()}, self.last)
        try:
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
        except (RuntimeError, ValueError, KeyError) as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"{self.last}: not a run of this recipe ({text}); use another folder"
            ) from None
        torch.set_rng_state(saved["random"].cpu())
        retune(self.optimizer, self.options)
        self.step = saved["step"]
        self.seconds = saved["seconds"]
        self.best = math.inf if chosen_anew(changed) else saved["best"]

    def _save(self, row: dict[str, Any]) -> None:
        """Write the checkpoint, and the averaged weights if they are the best so far."""
        if row["held_bits_a_second"] <= self.best:
            self.best = row["held_bits_a_second"]
            save_model(self.average, self.layout, self.best_path, card=str(row))
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"random": torch.get_rng_state(), "step": self.step, **self.facts.state()}
        save_state({**state, "best": self.best, "seconds": self.seconds}, self.last)

    # -- the loop -------------------------------------------------------------------------------

    def batch(self, step: int, part: int) -> SequenceBatch:
        """Return a batch, which depends on seed, step, part and process alone.

        With packed contexts it is the next batch of the export instead.

        Args:
            step: number of the step.
            part: number of the batch within the step, for gradient accumulation.
        """
        data = self.recipe.data
        if self.contexts is not None:
            return self.contexts.batch()
        seed = (self.options.seed, step, part, self.machine.process_index)
        random = np.random.default_rng(seed)
        chosen = random.integers(0, len(self.recordings), data.batch).tolist()
        parts = [self.recordings.random_segment(i, random) for i in chosen]
        if self.recipe.model.causal:
            batch = causal_batch(self.layout, parts)
            return masked(self.layout, batch, data.hidden, random) if data.hidden else batch
        draw = sums_batch if self.model.sums else nar_batch
        return draw(self.layout, parts, random)

    def go(self, minutes: float) -> None:
        """Train until the last step, or for `minutes` minutes if that is not 0."""
        options, began = self.options, time.monotonic()
        if self.step >= options.steps:
            return
        with Journal(
            self.out, steps=options.steps, bands=self.recipe.bands, on=self.main
        ) as journal:
            sums = Sums()
            while self.step < options.steps:
                self.model.train()
                for part in range(options.accumulate):
                    batch = self.batch(self.step, part).to(self.device)
                    with self.cast():
                        nats, count = target_nats(self.model, batch)
                    loss = nats.sum() / count.sum()
                    if not torch.isfinite(loss):
                        raise InputError(
                            f"step {self.step}: the loss is {loss.item()}; run again "
                            "to go on from the last checkpoint, at a lower train.rate"
                        )
                    (loss / options.accumulate).backward()
                    sums.add({"loss": loss.detach()}, 1 / options.accumulate)
                rate = learning_rate(self.step, options)
                norm = optimizer_step(
                    self.machine, self.model, self.optimizer, rate=rate, clip=options.clip
                )
                follow(self.average, self.model, self.step, options.ema)
                sums.add({"gradient": norm})
                self.step += 1
                sums.count += 1
                journal.moved(self.step)
                over = minutes > 0 and time.monotonic() - began > 60 * minutes
                timed_out = any_process(self.machine, over)
                if self.step % options.every == 0 or self.step == options.steps or timed_out:
                    self._validate(journal, sums)
                    sums = Sums()
                if timed_out:
                    return

    def _validate(self, journal: Journal, sums: Sums) -> None:
        """Score the validation recordings, and write a line of the log and a checkpoint."""
        elapsed = sums.lap()
        self.seconds += elapsed
        if self.main:
            row = {
                "step": self.step,
                "hours": self.seconds / 3600,
                "speed": sums.count / elapsed,
                "rate": learning_rate(self.step, self.options),
                **sums.means(),
                **held_out_bits(self.average, self.layout, self.validation, limit=VALIDATED),
            }
            row = finite(row)
            journal.row(row)
            self._save(row)
        self.machine.wait_for_everyone()


def target_nats(model: Transformer, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Return the nats `[b]` of the targets of each sequence, and the number of targets `[b]`.

    For a causal model with phones, the nats include the prediction of where phones end. A model of
    sums has the densities of `audiotok.lm.masked.sum_nats` instead, one a frame.

    Args:
        model: the model.
        batch: a batch on the device of the model.

    Raises:
        ValueError: the model needs phones, and the batch has none.
    """
    if model.config.phones and batch.phones is None:
        raise InputError(
            "this model is conditioned on phones: spans are needed (audiotok lm align)"
        )
    if model.sums is not None:
        return sum_nats(model, batch)
    hidden, _ = model.hidden(batch.ids, phones=batch.phones, lengths=batch.lengths)
    nats = hidden.new_zeros(len(hidden))
    count = hidden.new_zeros(len(hidden))
    for row in range(len(model.vocabulary)):
        target = batch.targets[:, row]
        chosen = target != IGNORED
        if chosen.any():
            logits = model.logits(hidden[chosen], row).float()
            each = F.cross_entropy(logits, target[chosen], reduction="none")
            which = chosen.nonzero()[:, 0]
            nats = nats.index_add(0, which, each)
            count = count.index_add(0, which, torch.ones_like(each))
    if batch.phone_ends is not None and model.turn is not None and model.config.causal:
        ends = model.turn(hidden).float().transpose(1, 2)
        each = F.cross_entropy(ends, batch.phone_ends, ignore_index=IGNORED, reduction="none")
        nats = nats + each.sum(1)
    return nats, count


@torch.no_grad()
def held_out_bits(
    model: Transformer, layout: Layout, recordings: Recordings, *, limit: int = 0, batch: int = 8
) -> dict[str, float]:
    """Return the bits that recordings cost, per second of audio and per id.

    A recording that is longer than `data.frames` is scored in segments, each as a sequence of its
    own. A model that is not causal is scored on every codebook after the first.

    Args:
        model: the model.
        layout: the layout of the model.
        recordings: recordings to score.
        limit: score the first `limit` recordings only; 0 scores all.
        batch: number of segments per forward pass.

    Returns:
        `held_bits_a_second` and `held_bits`; for a model that is not causal also the bits per id of
        each codebook from the second on, `held_bits_2` and so forth. Of a model of sums
        `held_bits_a_second` is an estimate of an upper bound: see
        `audiotok.lm.masked.held_out_sums`, also for its further scores.
    """
    parts = recordings.all_segments(limit)
    if model.sums is not None:
        return held_out_sums(model, layout, parts, batch=batch)
    device = next(model.parameters()).device
    random, frames = np.random.default_rng(0), 0
    codebooks = [0] if model.config.causal else list(range(1, len(layout.sizes)))
    bits, counts = dict.fromkeys(codebooks, 0.0), dict.fromkeys(codebooks, 0.0)
    for a in range(0, len(parts), batch):
        some = parts[a : a + batch]
        frames += sum(part.codes.shape[1] for part in some)
        for q in codebooks:
            scored = (
                nar_batch(layout, some, random, codebook=q) if q else causal_batch(layout, some)
            )
            nats, n = target_nats(model, scored.to(device))
            bits[q] += nats.sum().item() / math.log(2)
            counts[q] += n.sum().item()
    seconds = frames * layout.frame_size / layout.sample_rate
    scores = {
        "held_bits_a_second": sum(bits.values()) / seconds,
        "held_bits": sum(bits.values()) / sum(counts.values()),
    }
    each = {f"held_bits_{q + 1}": bits[q] / counts[q] for q in codebooks if q}
    return scores | each
