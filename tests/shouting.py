"""Jobs for worker processes to do, in a file that is quick to import."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any


def shout(source: Path, target: Path) -> dict[str, Any]:
    """A job that does what the name of its file says."""
    if "bad" in source.name:
        raise ValueError(f"{source}: no good")
    if "bug" in source.name:
        raise RuntimeError("shapes\ndo not fit")
    if "kill" in source.name:
        os.kill(os.getpid(), signal.SIGKILL)
    target.write_text(source.name.upper())
    return {"source": str(source), "target": str(target), "seconds": 1.0}


def shouter() -> Any:
    return shout


def broken() -> Any:
    raise ValueError("no codec of that name")


def lethal() -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
