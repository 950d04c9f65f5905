"""`audiotok lm`: a language model over a token corpus: trained, asked for audio, asked for bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Device, Force, Json

if TYPE_CHECKING:
    import numpy as np

    from audiotok.codecs.models.base import Codec
    from audiotok.lm.phonetic import Timed

PANEL = "Language models"

lm = typer.Typer(no_args_is_help=True, help="A language model over codes: train, generate, score.")
Model = Annotated[Path, typer.Argument(help="best.safetensors of a run.")]


@lm.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, recipes/lm_NAME.toml.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder; default: runs/NAME.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, over the recipe.")
    ] = None,
    device: Device = "cpu",
    minutes: Annotated[float, typer.Option(help="Stop after so many; 0: no limit.")] = 0,
) -> None:
    """Train a language model from a recipe. Run again to go on where it stopped.

    \b
    Examples:
      audiotok lm train recipes/lm_units.toml --set data.corpus=tokens -o runs/units
      audiotok lm train recipes/lm_tts.toml --set data.corpus=tokens -o runs/tts
    """
    from audiotok._platform.config import read_toml
    from audiotok.lm.loop import train as work
    from audiotok.lm.recipe import LmRecipe

    known = read_toml(LmRecipe, recipe, settings)
    weights = work(known, out or Path("runs") / recipe.stem, device=device, minutes=minutes)
    show.line(f"weights: {weights}")


@lm.command("align")
def align_words(
    listing: Annotated[
        str,
        typer.Argument(help="A folder, manifest or archive, as `corpus build` takes it."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .jsonl file; more is added to it.")],
    kind: Annotated[str, typer.Option(help="Of listing; see `corpus build`.")] = "auto",
    commands: Annotated[
        bool, typer.Option("--commands", help="Let the listing run shell commands. Read it first.")
    ] = False,
) -> None:
    """Say when each word and phone is said in English recordings that have text.

    What cannot be aligned (a number in digits, a name, another text) is told and passed over. Run
    again to go on where it stopped. Speech and text are interleaved by it, and lm_phones learns
    from it.

    \b
    Examples:
      audiotok lm align recordings/ -o spans.jsonl
      audiotok lm train recipes/lm_phones.toml --set data.spans=spans.jsonl
    """
    from rich.progress import Progress

    from audiotok.corpus.build.run import listing_of
    from audiotok.lm.spans import write_spans

    source = listing_of(listing, kind)
    total = None if source.costly else sum(1 for _ in source.items(listing))
    with Progress(console=show.said) as bar:
        task = bar.add_task("aligning", total=total)
        aligned, errors = write_spans(
            source.items(listing), out, told=lambda _: bar.advance(task), commands=commands
        )
    for each in errors:
        show.error(each)
    show.line(f"{out}: {aligned} recordings aligned, {len(errors)} left out")
    if not aligned:
        raise typer.Exit(1)


@lm.command()
def generate(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="An audio file.")],
    text: Annotated[str, typer.Option(help="What is to be said, after the prompt.")] = "",
    rest: Annotated[
        Path | None, typer.Option(help="A model that fills up further codebooks (VALL-E's second).")
    ] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="Audio or a .tok file to go on from; its voice is kept.")
    ] = None,
    prompt_text: Annotated[
        str, typer.Option(help="What is said in the prompt; by lm_phones, in all of its file.")
    ] = "",
    prompt_seconds: Annotated[float, typer.Option(help="Of the prompt that are used.")] = 3.0,
    seconds: Annotated[float, typer.Option(help="Of audio at most, the prompt included.")] = 10.0,
    shortest: Annotated[
        float, typer.Option(help="Seconds before which it may not end; without text only.")
    ] = 0.0,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest id.")] = 0.9,
    top_k: Annotated[int, typer.Option(help="Draw from so many; 0: all.")] = 50,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Let a model speak: from text, going on from a prompt, or freely.

    Audio is written while ids are drawn, unless codebooks are filled up at the end.

    \b
    Examples:
      audiotok lm generate runs/units/best.safetensors --prompt reading.flac -o on.wav
      audiotok lm generate runs/tts/best.safetensors --text "Good morning." -o out.wav
    """
    from audiotok.audio.writer import Sink
    from audiotok.lm.file import codec_of, load_model
    from audiotok.lm.generate import Sampling, fill_up, spoken
    from audiotok.lm.generate import generate as work
    from audiotok.lm.phonetic import Reader
    from audiotok.runtime.stream import Stream

    speaker, layout = load_model(model, device=device)
    codec = codec_of(layout)
    heard = _prompt(codec, prompt, prompt_seconds) if prompt else None
    said, reader = f"{prompt_text} {text}".strip(), None
    if speaker.config.phones:
        before = None
        if prompt and heard is not None:
            before = _phones(codec, prompt, prompt_text).first(heard.shape[1])
            heard = heard[:, : int(before.lengths.sum())]
        reader = Reader.of(text, before=before)
    columns = work(
        speaker,
        layout,
        text="" if reader else said,
        reader=reader,
        prompt=None if heard is None else heard[: len(layout.sizes)],
        longest=round(seconds * float(codec.frame_rate)),
        shortest=max(1, round(shortest * float(codec.frame_rate))),
        sampling=Sampling(temperature=temperature, top_k=top_k, seed=seed),
    )
    with Sink(out, codec.sample_rate, codec.channels, force=force) as sink:
        if rest is None:
            stream = Stream(codec, codebooks=len(layout.sizes))
            for samples in spoken(columns, layout, stream):
                sink.write(samples)
        else:
            import numpy as np

            second, rows = load_model(rest, device=device)
            codes = layout.decode(np.concatenate(list(columns), -1))
            full = None if heard is None else heard[: len(rows.sizes)]
            known = reader.timed() if reader and second.config.phones else None
            codes = fill_up(second, rows, codes, text=said if second.text else known, prompt=full)
            sink.write(codec.decode(rows.tokens(codes)).samples)
    show.line(str(out))


def _prompt(codec: Codec, path: Path, seconds: float) -> np.ndarray:
    from audiotok.audio.audio import Audio
    from audiotok.tokens.tokens import Tokens

    if path.suffix == ".tok":
        tokens = Tokens.load(path)
        codec.check_tokens(tokens)
    else:
        audio = Audio.load(path)
        tokens = codec.encode(audio[: round(seconds * audio.rate)])
    return tokens.codes[:, : max(1, round(seconds * float(codec.frame_rate)))]


def _phones(codec: Codec, path: Path, text: str) -> Timed:
    """When each phone of a prompt is said."""
    from audiotok.audio.audio import Audio
    from audiotok.data.alignment import align
    from audiotok.lm.phonetic import timed
    from audiotok.tokens.tokens import Tokens

    if not text:
        raise ValueError(f"{path}: this model is told of phones; give --prompt-text")
    audio = codec.decode(Tokens.load(path)) if path.suffix == ".tok" else Audio.load(path)
    frames = codec.frames(round(audio.seconds * codec.sample_rate))
    return timed(align(audio, text), frames, float(codec.frame_rate))


@lm.command()
def score(
    model: Model,
    corpus: Annotated[Path, typer.Argument(help="A token corpus.")],
    split: Annotated[str, typer.Option(help="Value of a row's `split`; empty: all.")] = "",
    frames: Annotated[int, typer.Option(help="A longer recording is scored in stretches.")] = 500,
    spans: Annotated[
        Path | None, typer.Option(help="Of `lm align`, for a model that is told of phones.")
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Also: which of a recording and itself spoilt it likes.")
    ] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Bits a second of audio that recordings cost a model: fewer is better, layouts compare.

    \b
    Examples:
      audiotok lm score runs/units/best.safetensors tokens/english --split dev
      audiotok lm score runs/units/best.safetensors tokens/english --split dev --pairs --json
    """
    from audiotok.corpus import Corpus
    from audiotok.lm.data import Recordings
    from audiotok.lm.file import load_model
    from audiotok.lm.loop import held_out
    from audiotok.lm.recipe import LmData
    from audiotok.lm.score import preferred

    known, layout = load_model(model, device=device)
    source = Corpus(corpus)
    if source.fingerprint != layout.fingerprint:
        raise ValueError(
            f"{corpus}: codes of {source.codec} {source.fingerprint}, and the model "
            f"was made for {layout.codec} {layout.fingerprint}"
        )
    told = str(spans or "") if known.config.phones else ""
    data = LmData(corpus=str(corpus), text=known.text > 0, spans=told, frames=frames)
    recordings = Recordings(source, split, data)
    found: dict[str, Any] = {"recordings": len(recordings), **held_out(known, layout, recordings)}
    if pairs:
        k = len(layout.sizes)
        codes = [recordings.codes(i)[:k, :frames] for i in range(len(recordings))]
        for kind in ("shuffled", "spliced"):
            liked = preferred(known, layout, codes, kind)
            found[f"prefers_to_{kind}"] = sum(liked) / len(liked)
    if as_json:
        show.as_json(found)
    else:
        show.facts({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in found.items()})
