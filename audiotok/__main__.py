"""The command line: `audiotok COMMAND`, also `python -m audiotok`.

Worker processes import this file again, so it imports nothing that they do not need.
"""

from __future__ import annotations

import os

# How threads of OpenMP wait for their next loop. By default they spin for milliseconds, which on a
# busy machine takes the cores from the threads that are waited for: ten minutes of audio cost eight
# times the processor time. Asleep, they are as fast on a free machine. Read when torch is loaded.
WAITING = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}


def main() -> None:
    """Run the command line; errors are one line on stderr."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    from audiotok.cli.program import run

    run()


if __name__ == "__main__":
    main()
