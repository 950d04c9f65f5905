"""`audiotok lm`: training, generation and scoring with a language model over codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from audiotok._platform.errors import InputError
from audiotok._platform.registry import shipped
from audiotok.cli import console as show
from audiotok.cli.commands.base import (
    CodecName,
    DecoderName,
    Device,
    Force,
    Json,
    Threads,
    check_absent,
    limit_threads,
)

if TYPE_CHECKING:
    from audiotok.tokens.tokens import Tokens

PANEL = "Language models"
DIALECTS = ", ".join(shipped("dialects"))

lm = typer.Typer(no_args_is_help=True, help="A language model over codes: train, generate, score.")
Model = Annotated[
    Path, typer.Argument(help="Weights of the model: best.safetensors of a training run.")
]


@lm.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe, recipes/lm_NAME.toml.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder. Default: runs/NAME.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting that overrides the recipe: section.key=value."),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    minutes: Annotated[float, typer.Option(min=0, help="Time limit in minutes; 0: no limit.")] = 0,
) -> None:
    """Train a language model from a recipe. Run again to resume.

    \b
    Examples:
      audiotok lm train recipes/lm_units.toml --set data.corpus=tokens -o runs/units
      audiotok lm train recipes/lm_tts.toml --set data.corpus=tokens -o runs/tts
    """
    from audiotok._platform.config import read_toml
    from audiotok.lm.loop import train as work
    from audiotok.lm.recipe import LmRecipe

    limit_threads(threads)
    known = read_toml(LmRecipe, recipe, settings)
    weights = work(known, out or Path("runs") / recipe.stem, device=device, minutes=minutes)
    show.line(f"weights: {weights}")


@lm.command()
def pieces(
    corpus: Annotated[Path, typer.Argument(help="Folder of a token corpus.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output layout.json.")],
    size: Annotated[int, typer.Option(min=1, help="Number of ids.")] = 8192,
    codebooks: Annotated[
        int, typer.Option("--codebooks", "-k", min=1, help="Codebooks to use, from the first.")
    ] = 1,
    runs: Annotated[
        Literal["keep", "drop", "durations"],
        typer.Option(help="Runs of equal units: one id a frame, one a run, or with its length."),
    ] = "drop",
    kind: Annotated[Literal["bpe", "unigram"], typer.Option(help="Subword model.")] = "bpe",
    split: Annotated[str, typer.Option(help="Split to learn from. Default: all.")] = "",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Learn pieces of units (BPE), and write the layout: a vocabulary in one file.

    `lm ids` and `export-corpus --layout` turn recordings and corpora into its ids.

    \b
    Examples:
      audiotok lm pieces units/ --size 8192 -o layout.json
      audiotok lm pieces units/ --runs durations -o layout.json
    """
    import numpy as np

    from audiotok.corpus import Corpus
    from audiotok.lm.bpe import learn_pieces
    from audiotok.lm.layout import Layout

    check_absent(out, force)
    source = Corpus(corpus)
    plain = Layout.of(source, codebooks=codebooks, runs=runs)

    def chosen() -> Iterator[Tokens]:
        return (e.tokens for e in source if not split or e.row.get("split") == split)

    if next(chosen(), None) is None:
        raise InputError(f"{corpus}: no recordings of split {split!r}")
    layout = learn_pieces(plain, chosen(), size=size, kind=kind)
    layout.save(out)
    counts = np.array([(len(layout.encode(each)), each.seconds) for each in chosen()]).sum(0)
    facts = {"layout": str(out), "ids": layout.vocabulary[0]}
    facts |= {"ids_per_second": round(counts[0] / counts[1], 2)}
    show.as_json(facts) if as_json else show.facts(facts)


@lm.command()
def ids(
    recording: Annotated[
        Path, typer.Argument(help="Audio file, .tok file, .npy of ids, or .txt of their names.")
    ],
    layout: Annotated[
        str,
        typer.Option(help=f"Layout of `lm pieces` or an export (layout.json), or of {DIALECTS}."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Output: .npy or .txt; .tok for ids or names given."),
    ],
    codec: CodecName = "speech",
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Turn a recording into the ids of a layout, or ids back into a .tok file.

    The layouts of published language models go by their names. A .txt holds the
    ids as their tokenizers write them. Ids that keep no durations of units have no
    length in time, so that they cannot become a .tok file.

    \b
    Examples:
      audiotok lm ids reading.flac --layout layout.json --codec units.safetensors -o ids.npy
      audiotok lm ids ids.npy --layout layout.json --codec units.safetensors -o reading.tok
      audiotok lm ids reading.flac --layout orpheus --codec snac_24khz -o reading.txt
    """
    from audiotok.codecs.load import load
    from audiotok.lm.id_files import SUFFIXES, layout_for, read_ids, write_ids
    from audiotok.lm.layout import find_layout
    from audiotok.tokens.tokens import Tokens

    suffixes = (".tok",) if recording.suffix in SUFFIXES else SUFFIXES
    if out.suffix not in suffixes:
        raise show.UsageError(f"--out {out}: {recording} becomes {' or '.join(suffixes)}")
    check_absent(out, force)
    if recording.suffix == ".tok":
        tokens = Tokens.load(recording)
        write_ids(find_layout(layout, tokens), tokens, out)
    else:
        known = load(codec, device=device)
        chosen = layout_for(layout, known)
        if recording.suffix in SUFFIXES:
            read_ids(chosen, recording).save(out, force=force)
        else:
            codebooks = known.kept(len(chosen.sizes))
            write_ids(chosen, known.encode(recording, codebooks=codebooks), out)
    show.line(str(out))


@lm.command("align")
def align_words(
    listing: Annotated[
        str,
        typer.Argument(help="Folder, manifest or archive of recordings, as for `corpus build`."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Output .jsonl file; an existing one is continued.")
    ],
    kind: Annotated[str, typer.Option(help="Kind of listing; see `corpus build`.")] = "auto",
    commands: Annotated[
        bool, typer.Option("--commands", help="Allow shell commands in the listing. Read it first.")
    ] = False,
) -> None:
    """Align English recordings with their text: times of each word and phone.

    Recordings that cannot be aligned (a number in digits, a name, another text)
    are reported and left out. Run again to resume. The alignments serve to
    interleave speech and text, and to train lm_phones.

    \b
    Examples:
      audiotok lm align recordings/ -o spans.jsonl
      audiotok lm train recipes/lm_phones.toml --set data.spans=spans.jsonl
    """
    from rich.progress import Progress

    from audiotok.data.manifest import listing_of
    from audiotok.lm.spans import write_spans

    source = listing_of(listing, kind)
    total = None if source.costly else sum(1 for _ in source.items(listing))
    with Progress(console=show.stderr_console) as bar:
        task = bar.add_task("aligning", total=total)
        aligned, errors = write_spans(
            source.items(listing), out, progress=lambda _: bar.advance(task), commands=commands
        )
    for each in errors:
        show.error(each)
    show.line(f"{out}: {aligned} recordings aligned, {len(errors)} left out")
    if not aligned:
        raise typer.Exit(1)


@lm.command()
def generate(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output audio file.")],
    text: Annotated[str, typer.Option(help="Text to speak, after the prompt.")] = "",
    rest: Annotated[
        Path | None,
        typer.Option(help="Weights of a model for the remaining codebooks (VALL-E's second)."),
    ] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="Audio or .tok file to continue, in its voice.")
    ] = None,
    prompt_text: Annotated[
        str, typer.Option(help="Transcript of the prompt; for lm_phones, of its whole file.")
    ] = "",
    prompt_seconds: Annotated[float, typer.Option(min=0, help="Seconds of prompt to use.")] = 3.0,
    seconds: Annotated[
        float, typer.Option(min=0, max=3600, help="Maximum length in seconds, with the prompt.")
    ] = 10.0,
    shortest: Annotated[
        float, typer.Option(min=0, help="Minimum length in seconds; only without text.")
    ] = 0.0,
    temperature: Annotated[
        float, typer.Option(min=0, help="Sampling temperature; 0 takes the likeliest id.")
    ] = 0.9,
    top_k: Annotated[
        int | None,
        typer.Option(min=0, help="Number of likeliest ids to sample from; 0: all. Default: 50."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of a model of sums of codebooks. Default: 16."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for sampling.")] = 0,
    codec_name: Annotated[
        str | None, typer.Option("--codec", help="Checkpoint of a codec that has no name.")
    ] = None,
    decoder: DecoderName = None,
    device: Device = "cpu",
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Generate audio with a model: from text, as the continuation of a prompt, or freely.

    Audio is written while ids are sampled, unless a second model adds codebooks
    at the end, or a decoder apart makes the sound.

    \b
    Examples:
      audiotok lm generate runs/units/best.safetensors --prompt reading.flac -o on.wav
      audiotok lm generate runs/tts/best.safetensors --text "Good morning." -o out.wav
    """
    from audiotok.audio.writer import Sink
    from audiotok.codecs.load import load_decoder
    from audiotok.lm.file import codec_of, load_model
    from audiotok.lm.generate import (
        Sampling,
        codes_of_prompt,
        phones_of_prompt,
        predict_codebooks,
        spoken,
    )
    from audiotok.lm.generate import generate as work
    from audiotok.lm.infilling import continued
    from audiotok.lm.phonetic import Reader
    from audiotok.runtime.stream import Stream

    limit_threads(threads)
    speaker, layout = load_model(model, device=device)
    for option, given, use in (
        ("--steps", steps is not None, speaker.sums),
        ("--top-k", top_k is not None, not speaker.sums),
        ("--shortest", shortest > 0, not speaker.sums),
    ):
        if given and not use:
            kind = "a model of sums" if speaker.sums else "no model of sums"
            raise show.UsageError(f"{option}: {model} is {kind}; leave it out")
    codec = codec_of(layout, codec_name or "")
    voice = load_decoder(decoder, source=codec.name, device=device) if decoder else codec
    voice.check_decodes()
    prompt_codes = codes_of_prompt(codec, prompt, prompt_seconds) if prompt else None
    script, reader = f"{prompt_text} {text}".strip(), None
    if speaker.config.phones:
        before = None
        if prompt and prompt_codes is not None:
            before = phones_of_prompt(codec, prompt, prompt_text).first(prompt_codes.shape[1])
            prompt_codes = prompt_codes[:, : int(before.lengths.sum())]
        reader = Reader.of(text, before=before)
    begin = None if prompt_codes is None else prompt_codes[: len(layout.sizes)]
    longest = round(seconds * float(codec.frame_rate))
    columns = work(
        speaker,
        layout,
        text="" if reader else script,
        reader=reader,
        prompt=begin,
        longest=longest,
        shortest=max(1, round(shortest * float(codec.frame_rate))),
        sampling=Sampling(temperature=temperature, top_k=50 if top_k is None else top_k, seed=seed),
    )
    with Sink(out, voice.decoded_rate, voice.channels, force=force) as sink:
        if rest is None and decoder is None and not speaker.sums:
            stream = Stream(codec, codebooks=len(layout.sizes))
            for samples in spoken(columns, layout, stream):
                sink.write(samples)
        else:
            import numpy as np

            rows = layout
            if speaker.sums:
                chosen = {"steps": steps or 16, "temperature": temperature, "seed": seed}
                codes = continued(speaker, layout, longest, text=script, prompt=begin, **chosen)
            else:
                codes = layout.decode(np.concatenate(list(columns), -1))
            if rest is not None:
                second, rows = load_model(rest, device=device)
                full = None if prompt_codes is None else prompt_codes[: len(rows.sizes)]
                known = reader.timed() if reader and second.config.phones else None
                codes = predict_codebooks(
                    second, rows, codes, text=script if second.text else known, prompt=full
                )
            sink.write(voice.decode(rows.tokens(codes)).samples)
    show.line(str(out))


@lm.command()
def score(
    model: Model,
    corpus: Annotated[Path, typer.Argument(help="Folder of a token corpus.")],
    split: Annotated[str, typer.Option(help="Split of the corpus to score. Default: all.")] = "",
    frames: Annotated[
        int, typer.Option(min=1, help="Frames scored at a time; longer recordings are divided.")
    ] = 500,
    spans: Annotated[
        Path | None, typer.Option(help="Alignments of `lm align`, for a model with phones.")
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs", help="Also score how often it prefers recordings to corrupted copies."
        ),
    ] = False,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Score a model by the bits per second of audio that recordings cost it: fewer is better.

    Scores of different layouts of one codec are comparable. Of a model of sums of
    codebooks it is an upper bound, and the density and the codes that sums do
    not give back are scored too.

    \b
    Examples:
      audiotok lm score runs/units/best.safetensors tokens/english --split dev
      audiotok lm score runs/units/best.safetensors tokens/english --split dev --pairs --json
    """
    from audiotok.corpus import Corpus
    from audiotok.lm.data import Recordings
    from audiotok.lm.file import load_model
    from audiotok.lm.loop import held_out_bits
    from audiotok.lm.recipe import LmData
    from audiotok.lm.score import prefers_original

    limit_threads(threads)
    known, layout = load_model(model, device=device)
    source = Corpus(corpus)
    if source.fingerprint != layout.fingerprint:
        raise InputError(
            f"{corpus}: codes of {source.codec} {source.fingerprint}, and the model "
            f"was made for {layout.codec} {layout.fingerprint}"
        )
    alignments = str(spans or "") if known.config.phones else ""
    data = LmData(corpus=str(corpus), text=known.text > 0, spans=alignments, frames=frames)
    recordings = Recordings(source, split, data)
    scores: dict[str, Any] = {
        "recordings": len(recordings),
        **held_out_bits(known, layout, recordings),
    }
    if pairs:
        k = len(layout.sizes)
        codes = [recordings.codes(i)[:k, :frames] for i in range(len(recordings))]
        for kind in ("shuffled", "spliced"):
            preferences = prefers_original(known, layout, codes, kind)
            scores[f"prefers_to_{kind}"] = sum(preferences) / len(preferences)
    if as_json:
        show.as_json(scores)
    else:
        show.facts({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in scores.items()})
