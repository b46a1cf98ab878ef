"""`python -m tests.faults --kills 200`: exit code 1 where a kill lost, spoiled or left something."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from faults.kills import COMMANDS, counted, kills  # noqa: E402


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curate-faults-") as folder:
        done = kills(given.kills, Path(folder), given.seed, given.only)
    for name, count in counted(done).items():
        say(f"{name:<10}" + "  ".join(f"{what} {number}" for what, number in count.items()))
    faults = [(kill, fault) for kill in done for fault in kill.faults]
    for kill, fault in faults:
        say(f"{kill.command} killed after {kill.after:.3f} s: {fault}")
    say(f"{sum(kill.killed for kill in done)} kills of {len(done)} tries, seed {given.seed}: {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
