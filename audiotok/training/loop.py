"""The training loop: resumes from its last checkpoint, validates, keeps averaged weights.

out/last.pt            the state that a resumed run needs
out/best.safetensors   averaged weights at the best value of `train.best`
out/log.csv            see `journal`
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.lock import locked_folder
from audiotok.audio.audio import Audio
from audiotok.codecs import checkpoint
from audiotok.data.batches import BatchConfig, Batches
from audiotok.data.cache import SampleCache
from audiotok.data.direct import FileSamples
from audiotok.data.features.base import Teacher
from audiotok.data.loader import loader
from audiotok.data.manifest import read_manifest
from audiotok.data.recording import Recording
from audiotok.nn.finite import check_finite
from audiotok.training.card import TrainingCard, describe_data
from audiotok.training.components import TrainingModules
from audiotok.training.journal import Journal, Sums, finite
from audiotok.training.losses import RECONSTRUCTION
from audiotok.training.machine import accelerator, any_process, casting, optimizer_step, save_state
from audiotok.training.recipe import Data, Recipe
from audiotok.training.recognizer import Transcripts, alphabet_of
from audiotok.training.resume import RunFacts, chosen_anew, data_of, load_state, retune
from audiotok.training.schedule import learning_rate
from audiotok.training.step import Step, check_losses
from audiotok.training.targets import Targets, read_features
from audiotok.training.validation import (
    ClipScorer,
    HeldOutClip,
    held_out_losses,
    lower_is_better,
    stage_gradients,
)

HELD_OUT = 64  # crops, twice as long as in training, for held-out losses


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    device: str = "cpu",
    minutes: float = 0,
    teachers: Mapping[str, Teacher] | None = None,
    commands: bool = False,
) -> Path:
    """Train into `out/last.pt`, with averaged weights in `out/best.safetensors`.

    Run again with the same `out` to go on from the last checkpoint. Under `accelerate launch` or
    `torchrun` every process takes its own batches, and gradients and codebooks are averaged.

    Args:
        recipe: the training recipe.
        out: folder of the run.
        device: a torch device.
        minutes: time limit in minutes, after which a checkpoint is written; 0 for none.
        teachers: teachers from outside the package, by the names they have in the recipe.
        commands: whether shell commands of the data's source may run.

    Returns:
        The path of the averaged weights.

    Raises:
        ValueError: the recipe does not fit together, data cannot be read, a loss is not finite, or
            another process trains into `out`.
    """
    check_losses(recipe)
    out = Path(out)
    first = os.environ.get("RANK", "0") == "0"  # of the processes that train together
    with locked_folder(out) if first else nullcontext():
        run = CodecTrainer(recipe, out, device, teachers, commands=commands)
        run.go(minutes)
    return run.best_path


class CodecTrainer:
    """Run of a recipe, in one process of one or several.

    Args:
        recipe: the training recipe.
        out: folder of the run.
        device: a torch device.
        teachers: as for `train`.
        commands: as for `train`.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        device: str,
        teachers: Mapping[str, Teacher] | None = None,
        *,
        commands: bool = False,
    ) -> None:
        # Denormal numbers in the optimizer's state make a step on a CPU eight times slower.
        torch.set_flush_denormal(True)
        self.recipe = recipe
        self.commands = commands
        self.out = out
        self.options = recipe.train
        self.machine = accelerator(device)
        self.device = self.machine.device
        self.main = self.machine.is_main_process
        self.last = out / "last.pt"
        self.best_path = out / "best.safetensors"
        if self.main:
            out.mkdir(parents=True, exist_ok=True)
        self.modules = TrainingModules(recipe, self.device)
        self.scorer = ClipScorer(
            self.options.metrics,
            recipe.models,
            self.options.codebooks,
            self.modules.resynthesis,
        )
        self.step = 0
        self.best = math.inf
        self.seconds = 0.0
        self.audio: float | None = 0.0  # seconds; None in a run that began without counting them
        self.changes: list[dict[str, Any]] = []
        self._manifests()
        self._resume()
        self._read(teachers or {})
        if self.options.init_from_data and not self.step:
            self.modules.scale_encoder(self.fixed)
        self.work = Step(
            recipe,
            self.modules,
            self.targets,
            self.transcripts,
            cast=casting(self.machine, self.options.precision),
            rank=self.machine.process_index,
        )
        self.work.name = lambda recording: self.recordings[recording].name
        if self.options.compile:
            # `compile()` works in place, which keeps the names of the weights.
            self.modules.codec.encoder.compile()
            self.modules.codec.decoder.compile()
            if self.modules.discriminators:
                self.modules.discriminators.compile()

    # -- data -----------------------------------------------------------------------------------

    def _manifests(self) -> None:
        data = self.recipe.data
        self.recordings = self._listed(data.manifest, data.train)
        self.held_out = self._listed(data.manifest, data.validate)
        if "ctc" in self.recipe.used_losses:
            self.modules.add_recognizer(alphabet_of(self.recordings, self.recipe.data.manifest))
        self.begun = RunFacts.of(
            self.recipe,
            config=self.modules.codec.config,
            training_data=data_of(self.recordings),
            validation_data=data_of(self.held_out),
            processes=self.machine.num_processes,
        )

    def _listed(self, path: str, split: str | None = None) -> list[Recording]:
        """Return the recordings of a source; audio in archives is copied into the cache."""
        data = self.recipe.data
        store = Path(data.cache) / "encoded"
        kind, audio = (data.kind, data.audio) if path == data.manifest else ("auto", "")
        return read_manifest(
            path, split=split, kind=kind, audio=audio, commands=self.commands, store=store
        )

    def _read(self, teachers: Mapping[str, Teacher]) -> None:
        data, codec = self.recipe.data, self.modules.codec
        options, rate = self.recipe.distillation, codec.sample_rate
        # One process fills the caches, then the others read them.
        with self.machine.main_process_first():
            source = _samples(self.recordings, rate, data)
            held_out_source = _samples(self.held_out, rate, data)
            noises = None
            if data.augment.noises and data.augment.noise > 0:
                noises = _samples(self._listed(data.augment.noises), rate, data)
            self.targets = features = held_features = None
            again = self.modules.resynthesis
            if again:
                lists, cache = (self.recordings, self.held_out), Path(data.cache)
                features, held_features = (again.features(rows, cache) for rows in lists)
            if "distillation" in self.recipe.used_losses:
                features = read_features(self.recordings, options, teachers, codec.frame_rate)
                self.targets = Targets(options, codec, features, self.out)
        size = again.group_samples if again else codec.frame_size
        frames = max(1, round(data.seconds * rate / size))
        reader, samples = self.modules.recognizer, source.lengths.tolist()
        self.transcripts = reader and Transcripts.of(
            self.recordings, samples, frames * size, reader
        )
        config = BatchConfig(
            batch=data.batch,
            frames=frames,
            frame_size=size,
            seed=self.options.seed,
            rank=self.machine.process_index,
            world=self.machine.num_processes,
            aligned=data.aligned,
        )
        self.batches = Batches(
            source,
            config,
            augment=data.augment,
            view=data.view if "consistency" in self.recipe.used_losses else None,
            noises=noises,
            features=features,
        )
        self.crop_seconds = frames * size / rate
        lengths = {
            "train": (self.recordings, source.lengths),
            "validate": (self.held_out, held_out_source.lengths),
        }
        self.card = TrainingCard(
            self.recipe,
            codec,
            self.machine.num_processes,
            describe_data(
                self.recipe, {k: (rows, float(n.sum()) / rate) for k, (rows, n) in lengths.items()}
            ),
            self.modules.started_from,
            self.changes,
        )
        chosen = BatchConfig(HELD_OUT, 2 * frames, size, seed=1)
        fixed = Batches(held_out_source, chosen, features=held_features)[0].to(self.device)
        self.fixed = fixed.wave
        self.run_fixed = again and again.on(fixed)
        longest = sorted(range(len(self.held_out)), key=lambda i: -int(held_out_source.lengths[i]))
        middle = longest[len(longest) // 4 :][: self.options.clips]
        self.clips = [
            HeldOutClip(Audio(held_out_source[i][None], rate), self.held_out[i].text)
            for i in middle
        ]

    # -- checkpoints ----------------------------------------------------------------------------

    def _resume(self) -> None:
        if not self.last.is_file():
            return
        saved = load_state(self.last, self.device)
        changed = self.begun.check(saved, self.last, fixed=self._fixed(), say=self.main)
        check_finite(saved["players"], self.last)
        self.modules.load_state_dict(saved["players"], self.last)
        for optimizer in (self.modules.optimizer, *(o for _, _, o, _ in self.modules.others())):
            retune(optimizer, self.options)
        torch.set_rng_state(saved["random"].cpu())
        self.step = saved["step"]
        self.seconds = saved["seconds"]
        self.audio = saved.get("audio")
        self.changes = json.loads(saved.get("changes", "[]"))
        if changed:
            self.changes.append({"step": self.step, "changed": list(changed.values())})
        self.best = math.inf if chosen_anew(changed) else saved["best"]

    def _fixed(self) -> list[str]:
        """Return the facts that a resumed run cannot change: sizes, and the source of clusters."""
        units = ["distillation"] if self.recipe.distillation.axis == "labels" else []
        return ["codec", "config", "discriminators", *units]

    def _save(self, row: dict[str, Any]) -> None:
        best = self.options.best
        value = row.get(best)
        if value is not None:
            better = value if lower_is_better(best) else -value
            if better <= self.best:
                self.best = better
                card = self.card.at(row, audio=self.audio)
                checkpoint.save(self.modules.averaged(), self.best_path, card=card)
        saved = {
            "players": self.modules.state_dict(),
            "random": torch.get_rng_state(),
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            **({} if self.audio is None else {"audio": self.audio}),
            "changes": json.dumps(self.changes),
            **self.begun.state(),
        }
        save_state(saved, self.last)
        if value is None and (not best.startswith("score_") or self._scored(row["step"])):
            known = ", ".join(row)
            raise InputError(f"[train] best: {best!r} is not in log.csv; there are {known}")

    # -- the loop -------------------------------------------------------------------------------

    def go(self, minutes: float) -> None:
        """Train until the last step, or for a limited time.

        Args:
            minutes: time limit in minutes; 0 for none.
        """
        options, start = self.options, time.monotonic()
        share, step = options.accumulate, self.step
        if step >= options.steps:
            return
        with (
            Journal(
                self.out, steps=options.steps, bands=self.recipe.bands, on=self.main
            ) as journal,
            closing(
                loader(
                    self.batches,
                    first=step * share,
                    last=options.steps * share,
                    workers=self.recipe.data.workers,
                )
            ) as batches,
        ):
            sums = Sums()
            while self.step < options.steps:
                for part in range(share):
                    batch = next(batches).to(self.device)
                    sums.add(self.work(batch, self.step, part), 1 / share)
                sums.add(self._update())
                self.step += 1
                sums.count += 1
                journal.moved(self.step)
                over_here = minutes > 0 and time.monotonic() - start > 60 * minutes
                time_over = any_process(self.machine, over_here)
                if self.step % options.every == 0 or self.step == options.steps or time_over:
                    self._checkpoint(journal, sums)
                    sums = Sums()
                if time_over:
                    return

    def _update(self) -> dict[str, Tensor]:
        """Make one step of every optimizer, and return the norms of the gradients."""
        modules, options = self.modules, self.options
        norms = {"gradient": self._move(modules.codec, modules.optimizer, options.rate)}
        for name, module, optimizer, rate in modules.others():
            if any(p.grad is not None for p in module.parameters()):
                norms[name] = self._move(module, optimizer, rate)
        modules.follow(self.step)
        return norms

    def _move(self, module: nn.Module, optimizer: torch.optim.Optimizer, rate: float) -> Tensor:
        now = learning_rate(self.step, self.options, rate)
        return optimizer_step(self.machine, module, optimizer, rate=now, clip=self.options.clip)

    def _commits(self) -> bool:
        """Return whether the commitment loss trains the encoder."""
        return "commitment" in self.recipe.used_losses and "encoder" not in self.options.frozen

    def _scored(self, step: int) -> bool:
        """Return whether metrics score held-out recordings after a step."""
        options = self.options
        return bool(options.score) and (step % options.score == 0 or step == options.steps)

    def _checkpoint(self, journal: Journal, sums: Sums) -> None:
        """Validate, then write the log and the checkpoint."""
        seconds = sums.lap()
        self.seconds += seconds
        options, data = self.options, self.recipe.data
        crops = sums.count * options.accumulate * data.batch * self.machine.num_processes
        if self.audio is not None:
            self.audio += crops * self.crop_seconds
        if self.main:
            codec = self.modules.average
            chosen = {k: f for k, f in RECONSTRUCTION.items() if k in self.recipe.loss}
            row: dict[str, Any] = {
                "step": self.step,
                "hours": self.seconds / 3600,
                "speed": crops * data.seconds / seconds,
                "rate": learning_rate(self.step, options),
                **sums.means(),
                **held_out_losses(codec, self.fixed, chosen, self.recipe.loss, run=self.run_fixed),
                **(stage_gradients(codec, self.fixed[:8]) if self._commits() else {}),
            }
            if self._scored(self.step):
                values, decoded = self.scorer.score(codec, self.clips)
                row |= values
                for i, (clip, output) in enumerate(zip(self.clips[:4], decoded[:4], strict=True)):
                    journal.sounds(self.step, f"clip {i}", output, clip.audio)
            row = finite(row)
            journal.row(row)
            self._save(row)
        self.machine.wait_for_everyone()


def _samples(recordings: list[Recording], rate: int, data: Data) -> SampleCache | FileSamples:
    build = FileSamples.open if data.direct else SampleCache.build
    return build(recordings, rate, data.cache)
