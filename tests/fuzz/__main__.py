"""`python -m tests.fuzz --inputs 10000`: exit code 1 where an input was neither read nor refused in one message."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

import curate.base.threads  # noqa: E402, F401  (before torch)
from fuzz.run import fuzz  # noqa: E402


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input: makes one fault again")
    parser.add_argument("--only", help="one reader")
    given = parser.parse_args()
    count = fuzz(given.inputs, given.seed, given.only, given.first)
    for name in sorted(count.read.keys() | count.refused.keys() | {fault.reader for fault in count.faults}):
        faults = sum(fault.reader == name for fault in count.faults)
        say(f"{name:<12}read {count.read[name]:>6,}  refused {count.refused[name]:>6,}  faults {faults:>4,}")
    signatures: dict[str, list[int]] = {}
    for fault in count.faults:
        signatures.setdefault(f"{fault.reader}: {fault.signature}", []).append(fault.number)
    for signature, numbers in signatures.items():
        say(f"{len(numbers):>5} x {signature} (--first {numbers[0]} --inputs 1)")
    say(f"{given.inputs:,} inputs, seed {given.seed}: {len(count.faults):,} faults, {len(signatures)} kinds")
    return bool(count.faults)


if __name__ == "__main__":
    sys.exit(main())
