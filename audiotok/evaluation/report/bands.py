"""Error per mel band: a table of dB and a picture, of the scores `mel:band1` to `mel:band10`."""

from __future__ import annotations

from dataclasses import dataclass

from audiotok.evaluation.metrics.mel import Mel, group_centres
from audiotok.evaluation.report.base import Cell, View, competes

BANDS = tuple(f"mel:{name}" for name in Mel.groups["bands"])  # metrics, from low to high
WIDTH, HEIGHT = 640, 300  # of the picture, in its own units
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 40  # margins around its axes
COLOURS = 8  # of the page's lines


@dataclass(frozen=True)
class BandRow:
    """Scores of a subject, a cell for each band, and the line through those that have a value."""

    subject: str
    cells: list[Cell]
    points: str  # "x,y x,y ..." in the picture
    colour: str


@dataclass(frozen=True)
class Bands:
    """Error of each subject in each group of mel bands, from low to high.

    Attributes:
        names: what each column is, in Hz.
        rows: subjects, without those that are there to compare with.
        ticks: height in the picture and text of round numbers of dB.
        places: position in the picture of each column.
    """

    names: list[str]
    rows: list[BandRow]
    ticks: list[tuple[float, str]]
    places: list[float]


def bands(view: View) -> Bands | None:
    """Return the error of subjects per mel band; None where fewer than two bands were scored."""
    infos = [view.infos[name] for name in BANDS if name in view.infos]
    subjects = [s for s in view.results.subjects if competes(s)]
    cells = {s.name: [view.cell(s, info) for info in infos] for s in subjects}
    values = [c.value for row in cells.values() for c in row if c.state == "value"]
    top = max((v for v in values if v is not None), default=0.0)
    if len(infos) < 2 or top <= 0:
        return None
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 1e9) if top / s <= 6)
    high = step * (int(top / step) + 1)
    across = (WIDTH - LEFT - RIGHT) / (len(infos) - 1)
    places = [round(LEFT + i * across, 1) for i in range(len(infos))]

    def up(value: float) -> float:
        return TOP + (high - value) / high * (HEIGHT - TOP - BOTTOM)

    rows = [
        BandRow(
            name,
            row,
            " ".join(
                f"{x:.1f},{up(cell.value):.1f}"
                for x, cell in zip(places, row, strict=True)
                if cell.state == "value" and cell.value is not None
            ),
            f"var(--c{i % COLOURS})",
        )
        for i, (name, row) in enumerate(cells.items())
    ]
    counts = range(round(high / step) + 1)
    return Bands(
        [_hertz(info.name) for info in infos],
        rows,
        [(up(i * step), f"{i * step:g}") for i in counts],
        places,
    )


def _hertz(name: str) -> str:
    """Return the span of a group of bands, as "0.2 to 0.4 kHz"."""
    low, high = group_centres(int(name.removeprefix("mel:band")))
    return f"{low / 1000:.2g} to {high / 1000:.2g} kHz"
