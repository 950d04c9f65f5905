"""Jobs for worker processes, in a module that is quick to import."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any


def shout(source: Path, target: Path) -> dict[str, Any]:
    """Write the name of the source in capitals; fail or end the process if the name says so."""
    if "bad" in source.name:
        raise ValueError(f"{source}: no good")
    if "bug" in source.name:
        raise RuntimeError("shapes\ndo not fit")
    if "kill" in source.name:
        tempfile.mkstemp()  # what a process was in the midst of
        os.kill(os.getpid(), signal.SIGKILL)
    target.write_text(source.name.upper())
    return {"source": str(source), "target": str(target), "seconds": 1.0}


def shouter() -> Any:
    """Return the job."""
    return shout


def broken() -> Any:
    """Raise, as the setup of a worker may."""
    raise ValueError("no codec of that name")


def lethal() -> Any:
    """End the process, as the setup of a worker may."""
    os.kill(os.getpid(), signal.SIGKILL)
