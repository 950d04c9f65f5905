"""Training a language model: the same schedule, journal, machines and checkpoints as codecs have.

out/last.pt            everything that a run needs to go on
out/best.safetensors   averaged weights, where held-out bits a second were fewest
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

from audiotok._platform.lock import alone
from audiotok.corpus import Corpus
from audiotok.lm.contexts import Contexts
from audiotok.lm.data import (
    IGNORED,
    TEXT,
    Batch,
    Recordings,
    causal_batch,
    masked,
    new_layout,
    one_step_a_frame,
    plain_layout,
    stroke_batch,
)
from audiotok.lm.entries import begin_with_entries
from audiotok.lm.file import codec_of, save_model
from audiotok.lm.layout import Layout
from audiotok.lm.model import Transformer
from audiotok.lm.recipe import LmRecipe
from audiotok.lm.resume import begun, fixed
from audiotok.nn.finite import check_finite
from audiotok.training.journal import Journal, Sums, finite
from audiotok.training.machine import accelerator, any_process, casting, move, save_state
from audiotok.training.players import adamw, follow
from audiotok.training.resume import chosen_anew, retune
from audiotok.training.schedule import learning_rate

HELD = 64  # held-out recordings that are scored at each line of the log


def train(recipe: LmRecipe, out: str | Path, *, device: str = "cpu", minutes: float = 0) -> Path:
    """Train to `out/last.pt`, with averaged weights in `out/best.safetensors`.

    Run again with the same `out` to go on where it stopped.

    Args:
        recipe: what to train.
        out: a folder.
        device: a torch device.
        minutes: stop after so many, checkpointed; 0 for no limit.

    Returns:
        The path of the averaged weights.

    Raises:
        ValueError: the recipe does not fit the corpus, a loss is not finite, or another process
            trains into `out`.
    """
    first = os.environ.get("RANK", "0") == "0"  # of the processes that train together
    with alone(Path(out)) if first else nullcontext():
        run = Run(recipe, Path(out), device)
        run.go(minutes)
    return run.best_path


class Run:
    """One run of a recipe in one process of one or many."""

    def __init__(self, recipe: LmRecipe, out: Path, device: str) -> None:
        torch.set_flush_denormal(True)
        self.recipe, self.out, self.options = recipe, out, recipe.train
        self.machine = accelerator(device)
        self.device = self.machine.device
        self.main = self.machine.is_main_process
        self.cast = casting(self.machine, self.options.precision)
        corpus = Corpus(recipe.data.corpus)
        rank, world = self.machine.process_index, self.machine.num_processes
        self.contexts = Contexts(recipe, rank, world) if recipe.data.packed else None
        if self.contexts is None:
            self.recordings = Recordings(corpus, recipe.data.train, recipe.data)
        self.held = Recordings(corpus, recipe.data.validate, recipe.data)
        self.last, self.best_path = out / "last.pt", out / "best.safetensors"
        file = out / "layout.json"
        with self.machine.main_process_first():
            if not file.is_file():
                out.mkdir(parents=True, exist_ok=True)
                made = (
                    self.contexts.layout if self.contexts else new_layout(recipe, self.recordings)
                )
                made.save(file)
        self.layout = Layout.load(file)
        if plain_layout(recipe, corpus) != replace(self.layout, pieces=None):
            raise ValueError(f"{file}: not the layout of this recipe; use another --out")
        if not recipe.model.causal and (self.layout.serial or len(self.layout.sizes) < 2):
            raise ValueError("model.causal = false needs layout.pattern = 'parallel' of 2 or more")
        if recipe.model.phones != bool(recipe.data.spans):
            raise ValueError("model.phones and data.spans go together")
        if recipe.model.phones and not one_step_a_frame(self.layout):
            raise ValueError("model.phones needs a layout of a step a frame: delay or parallel")
        torch.manual_seed(self.options.seed)
        text = TEXT if recipe.data.text else 0
        self.model = Transformer(self.layout.vocabulary, text, recipe.model)
        if recipe.model.entries and not self.last.is_file():
            try:
                begin_with_entries(self.model, self.layout, codec_of(self.layout))
            except ValueError as error:
                raise ValueError(f"{error}; model.entries = false begins without") from None
        self.model = self.model.to(self.device)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = adamw(self.model, self.options)
        self.step, self.best, self.seconds = 0, math.inf, 0.0
        taken = None if self.contexts else self.recordings.places
        self.begun = begun(recipe, corpus, taken, self.held.places, processes=world)
        self._resume()
        if self.contexts is not None:
            self.contexts.seek(self.step * self.options.accumulate)

    # -- checkpoints ----------------------------------------------------------------------------

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "average": self.average, "optimizer": self.optimizer}

    def _resume(self) -> None:
        if not self.last.is_file():
            return
        saved = torch.load(self.last, map_location=self.device, weights_only=True)
        changed = self.begun.check(saved, self.last, fixed=fixed(self.recipe), say=self.main)
        check_finite({name: saved.get(name) for name in self._parts()}, self.last)
        try:
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
        except (RuntimeError, ValueError, KeyError) as error:
            text = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{self.last}: not a run of this recipe ({text}); use another --out"
            ) from None
        torch.set_rng_state(saved["random"].cpu())
        retune(self.optimizer, self.options)
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.best = math.inf if chosen_anew(changed) else saved["best"]

    def _save(self, row: dict[str, Any]) -> None:
        if row["held_bits_a_second"] <= self.best:
            self.best = row["held_bits_a_second"]
            save_model(self.average, self.layout, self.best_path, card=str(row))
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"random": torch.get_rng_state(), "step": self.step, **self.begun.state()}
        save_state({**state, "best": self.best, "seconds": self.seconds}, self.last)

    # -- the loop -------------------------------------------------------------------------------

    def batch(self, step: int, part: int) -> Batch:
        """The batch of a step, which seed, step and process alone decide; of contexts, the next."""
        data = self.recipe.data
        if self.contexts is not None:
            return self.contexts.batch()
        seed = (self.options.seed, step, part, self.machine.process_index)
        random = np.random.default_rng(seed)
        chosen = random.integers(0, len(self.recordings), data.batch).tolist()
        parts = [self.recordings.cut(i, random) for i in chosen]
        if self.recipe.model.causal:
            batch = causal_batch(self.layout, parts)
            return masked(self.layout, batch, data.hidden, random) if data.hidden else batch
        return stroke_batch(self.layout, parts, random)

    def go(self, minutes: float) -> None:
        """Train until the last step, or for so many minutes."""
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
                        nats, count = lost(self.model, batch)
                    loss = nats.sum() / count.sum()
                    if not torch.isfinite(loss):
                        raise ValueError(
                            f"step {self.step}: the loss is {loss.item()}; run again "
                            "to go on from the last checkpoint, at a lower train.rate"
                        )
                    (loss / options.accumulate).backward()
                    sums.add({"loss": loss.detach()}, 1 / options.accumulate)
                rate = learning_rate(self.step, options)
                norm = move(self.machine, self.model, self.optimizer, rate=rate, clip=options.clip)
                follow(self.average, self.model, self.step, options.ema)
                sums.add({"gradient": norm})
                self.step += 1
                sums.count += 1
                journal.moved(self.step)
                over = minutes > 0 and time.monotonic() - began > 60 * minutes
                late = any_process(self.machine, over)
                if self.step % options.every == 0 or self.step == options.steps or late:
                    self._stop_to_look(journal, sums)
                    sums = Sums()
                if late:
                    return

    def _stop_to_look(self, journal: Journal, sums: Sums) -> None:
        """Validate, write the log and the checkpoint."""
        took = sums.lap()
        self.seconds += took
        if self.main:
            row = {
                "step": self.step,
                "hours": self.seconds / 3600,
                "speed": sums.count / took,
                "rate": learning_rate(self.step, self.options),
                **sums.means(),
                **held_out(self.average, self.layout, self.held, limit=HELD),
            }
            row = finite(row)
            journal.row(row)
            self._save(row)
        self.machine.wait_for_everyone()


def lost(model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
    """Nats `[b]` that the targets of each sequence cost, and how many `[b]` they are.

    When phones end is paid for too, by a model that is told of them.

    Raises:
        ValueError: such a model, and a batch without phones.
    """
    if model.config.phones and batch.told is None:
        raise ValueError("this model is told of phones: spans are needed (audiotok lm align)")
    hidden, _ = model.hidden(batch.ids, told=batch.told, lengths=batch.lengths)
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
    if batch.turns is not None and model.turn is not None and model.config.causal:
        turns = model.turn(hidden).float().transpose(1, 2)
        each = F.cross_entropy(turns, batch.turns, ignore_index=IGNORED, reduction="none")
        nats = nats + each.sum(1)
    return nats, count


@torch.no_grad()
def held_out(
    model: Transformer, layout: Layout, recordings: Recordings, *, limit: int = 0, batch: int = 8
) -> dict[str, float]:
    """Bits that recordings cost, by the second of audio and by the id.

    A longer recording is scored in stretches, each as a sequence of its own. VALL-E's second model
    is asked for every codebook after the first, `held_bits_2` and on.
    """
    parts = recordings.every(limit)
    device = next(model.parameters()).device
    random, frames = np.random.default_rng(0), 0
    stages = [0] if model.config.causal else list(range(1, len(layout.sizes)))
    bits, counts = dict.fromkeys(stages, 0.0), dict.fromkeys(stages, 0.0)
    for a in range(0, len(parts), batch):
        some = parts[a : a + batch]
        frames += sum(part.codes.shape[1] for part in some)
        for stage in stages:
            made = (
                stroke_batch(layout, some, random, stage=stage)
                if stage
                else causal_batch(layout, some)
            )
            nats, n = lost(model, made.to(device))
            bits[stage] += nats.sum().item() / math.log(2)
            counts[stage] += n.sum().item()
    seconds = frames * layout.frame_size / layout.sample_rate
    found = {
        "held_bits_a_second": sum(bits.values()) / seconds,
        "held_bits": sum(bits.values()) / sum(counts.values()),
    }
    each = {f"held_bits_{q + 1}": bits[q] / counts[q] for q in stages if q}
    return found | each
