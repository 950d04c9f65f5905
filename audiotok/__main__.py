"""The command line: `audiotok COMMAND`, also `python -m audiotok`.

Worker processes import this file again, so it imports nothing that they do not need.
"""

from __future__ import annotations

import os

LOAD = "/proc/loadavg"  # its fourth field begins with the number of threads that run now


def main() -> None:
    """Run the command line; errors are one line on stderr."""
    for name, value in waiting().items():
        os.environ.setdefault(name, value)
    from audiotok.cli.program import run

    run()


def waiting() -> dict[str, str]:
    """Return environment variables that say how threads of OpenMP wait for their next loop.

    They are read when torch is loaded. By default threads spin for milliseconds, which on a busy
    machine takes the cores from the threads that are waited for: ten minutes of audio cost eight
    times the processor time. Here they fall asleep at once on a busy machine, and on one with free
    cores after a thousand turns, within which most loops follow: a fifth faster.
    """
    asleep = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
    try:
        with open(LOAD, encoding="ascii") as file:  # noqa: PTH123  (pathlib takes longer to import)
            running = int(file.read().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):  # not on Linux, where OpenMP is another, too
        return asleep
    return asleep | ({"GOMP_SPINCOUNT": "1000"} if running <= (os.cpu_count() or 1) else {})


if __name__ == "__main__":
    main()
