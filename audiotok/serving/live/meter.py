"""Text about live audio: a level meter on the terminal, and summaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.text import Text

from audiotok._platform.console import stderr_console
from audiotok.serving.live.microphone import Level
from audiotok.serving.live.pipe import PipeSummary


def pipe_summary(row: PipeSummary) -> dict[str, str]:
    """Return a `pipe.PipeSummary` as labelled text."""
    took, frame = row.took, row.frame_seconds
    share = f", {took.p50 / frame:.0%} of it at p50" if took.count else ""
    return {
        "codec": row.codec,
        "audio": f"{row.seconds:.2f} s, {row.frames} frames",
        "rate": f"{row.nominal_kbps:.2f} kbps nominal, {row.stream_kbps:.2f} as a stream",
        "latency": f"{row.latency * 1e3:.0f} ms algorithmic",
        f"a frame of {frame * 1e3:.0f} ms": f"computed in {took}{share}",
    }


def microphone_summary(level: Level) -> dict[str, str]:
    """Return the last `microphone.Level` as labelled text."""
    return {
        "said": f"{level.seconds:.1f} s, {level.frames} frames",
        "rate": f"{level.nominal_kbps:.2f} kbps",
        "latency": f"{level.latency * 1e3:.0f} ms algorithmic, {level.device * 1e3:.0f} ms devices",
        "a frame": f"computed in {level.took}",
        "dropped": str(level.dropped),
    }


@contextmanager
def meter() -> Iterator[Callable[[Level], None]]:
    """Yield a function that shows a `microphone.Level` in a line on stderr, on a terminal."""
    with Live(console=stderr_console, auto_refresh=False, transient=True) as live:

        def show(level: Level) -> None:
            if not stderr_console.is_terminal or level.frames % 5:
                return
            style = "red" if level.level > -6 else "green"
            latency = f"{level.latency * 1e3:.0f} ms + frame {level.took}"
            text = f"  {level.level:5.0f} dB  {level.nominal_kbps:.2f} kbps  {latency}"
            dropped = f"  dropped {level.dropped}" if level.dropped else ""
            # Fits one line of 80 columns.
            cells = max(1, min(30, stderr_console.width - len(text) - len(dropped)))
            full = max(0, min(cells, round((level.level + 60) / 60 * cells)))  # from -60 dB up
            bar = ("█" * full, style), ("·" * (cells - full), "dim")
            live.update(Text.assemble(*bar, text, (dropped, "yellow")), refresh=True)

        yield show
