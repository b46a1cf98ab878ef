"""What `curate prepare` takes of memory and time, by the file's size and kind.

    python benchmarks/preparing.py [--rows 500_000] [--folder TMP]

The rows are made up: prompt, chosen and rejected of words, about 1 kB a row, and one row in fifty is refused. Each file
is prepared in a process of its own; memory is that process's peak less what it takes for a file of ten rows.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

WORDS = ("the", "a", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "somebody", "asks", "whether")
CHARACTERS = {"prompt": 150, "chosen": 440, "rejected": 440}
MIB = 2**20


def rows(count: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(0)
    text = " ".join(draw.choice(WORDS) for _ in range(400_000))
    for number in range(count):
        starts = {name: draw.randrange(len(text) - length) for name, length in CHARACTERS.items()}
        row: dict[str, Any] = {name: text[at : at + CHARACTERS[name]] for name, at in starts.items()}
        row["prompt"] = f"{number}: {row['prompt']}" if number % 50 else None
        yield row


def make(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{count}.{kind}" for kind in ("jsonl", "jsonl.gz", "parquet")]
    with paths[0].open("w") as plain, gzip.open(paths[1], "wt", compresslevel=1) as packed:
        for row in rows(count):
            line = json.dumps(row) + "\n"
            plain.write(line)
            packed.write(line)
    pl.scan_ndjson(paths[0]).sink_parquet(paths[2])
    return paths


def prepared(path: Path) -> tuple[float, float]:
    """Seconds, and MiB at the peak."""
    began = time.monotonic()
    command = [sys.executable, "-m", "curate", "prepare", str(path), "--out", str(path.with_suffix(".pairs.parquet"))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(said)
    return time.monotonic() - began, used.ru_maxrss / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        few, many = make(Path(folder), 10), make(Path(folder), given.rows)
        text = many[0].stat().st_size / MIB
        print(f"{given.rows:,} rows, {text:,.0f} MiB as JSON lines; beside what a file of ten rows takes:")
        for small, large in zip(few, many, strict=True):
            (_, base), (seconds, peak) = prepared(small), prepared(large)
            size = large.stat().st_size / MIB
            kind = large.name.partition(".")[2]
            print(
                f"{kind:<10}{size:>7,.0f} MiB{seconds:>7.1f} s{peak - base:>8,.0f} MiB of memory, "
                f"{(peak - base) / text:.1f} times the text"
            )


if __name__ == "__main__":
    main()
