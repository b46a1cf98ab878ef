"""What scoring costs besides the model, at scale: the score store, reading and writing, joins, rendering.

    python benchmarks/scale.py [--rows 50_000_000] [--chunk-pairs 8192] [--folder TMP]

Everything is synthetic and runs in processes of their own, one after another, so that their peaks do not mix:

    store   build a store of --rows rows, in large batches and in those of a run on a CPU
    lookup  ask it for the keys of one chunk of pairs after another, half of them held
    join    join --rows scored rows to as many pairs by pair_id, which `curate` never does: for comparison
    parts   put the chunks' files together, sum them up and read the result by chunks, as `score_file` does
    pairs   `score_file` with an engine that costs nothing, and again when the store holds everything

Memory is what a part adds to its process: at its peak, of that anonymous (the process's own) and of files (mapped:
the kernel takes it back when it is short). The last table extrapolates from what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from random_model import Shape, make_model
from worker import GIB, Failed, Worker, forget_peak

import curate.base.threads  # noqa: F401  (before torch)
from curate.base import files
from curate.models import rendering
from curate.models.resolve import Model, resolve
from curate.pairs.prepare import prepare
from curate.pairs.schema import PAIRS, SCORES
from curate.project import params
from curate.scoring import chunks, score, scorer
from curate.scoring.chunks import Pairs
from curate.scoring.store import MERGE_ROWS, Store

LOGPS_A_PAIR = 4
BATCH = 2**18  # rows of a large batch
RUN_BATCH = 1024  # rows of a batch of a run on a CPU, about
RUN_ROWS = 2**20  # added in such batches
LOOKUP_SECONDS = 30.0
PARQUET_ROWS = 2**20  # of a file of the join
IN_MEMORY_ROWS = 10_000_000  # the join in memory, at most
TEXT = 1024  # characters of a pair
SHAPE = Shape(8192, 64, 128, 2, 2, 1)
PAIRS_EXTRAPOLATED = (10**6, 10**8, 10**9)
DISK = {"rows": 250, "parts": 3 * TEXT}  # bytes on disk of a row of the join, and of a pair of `parts`, at most
REPEATS = 3
CHARACTERS = [150, 440, 440]  # of prompt, chosen and rejected: about 100 tokens a response
FIRST, AGAIN = "pairs: score_file, an engine that costs nothing", "pairs: score_file, all in the store"
WIDTH = 49  # of the table's first column
SECONDS_A_LOOK = 0.05  # between two looks at the process's memory


class Measured(NamedTuple):
    """A line of the table."""

    what: str
    units: int
    unit: str
    seconds: float
    peak: float = math.nan  # GiB
    anonymous: float = math.nan  # GiB
    mapped: float = math.nan  # GiB
    disk: int = 0  # bytes
    note: str = ""

    @property
    def each(self) -> float:
        """Seconds a unit."""
        return self.seconds / self.units


class Watch:
    """Seconds, and the memory that this process has more at its peak than at the beginning. Linux only.

    Beyond `limit` GiB the process ends itself: the machine is not its own.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit

    def __enter__(self) -> Watch:
        forget_peak()
        self.before = _memory()
        self.most = dict(self.before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        self._start = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.seconds = time.perf_counter() - self._start
        self._over.set()
        self._thread.join()
        self._note()

    def measured(self, what: str, units: int, unit: str, **more: Any) -> Measured:
        gib = (self.most[name] - self.before[name] for name in ("VmHWM", "RssAnon", "RssFile"))
        return Measured(what, units, unit, self.seconds, *gib, **more)

    def _look(self) -> None:
        while not self._over.wait(SECONDS_A_LOOK):
            self._note()
            if self.most["VmHWM"] > self.limit:
                print(f"needs more than the {self.limit:.1f} GiB allowed", file=sys.stderr, flush=True)
                os._exit(1)

    def _note(self) -> None:
        self.most = {name: max(gib, self.most[name]) for name, gib in _memory().items()}


def _memory() -> dict[str, float]:
    """GiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(status[name].split()[0]) / 2**20 for name in ("VmHWM", "RssAnon", "RssFile")}


class Part:
    """A part in a process of its own; what it prints goes to a log."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.lines: list[Measured] = []

    def run(self, what: str, generator: Callable[..., Iterator[Measured]], *args: Any) -> None:
        """Keep and print every line that `generator` yields, and how it failed if it did."""
        worker = Worker(self.log, _lines, generator, *args)
        try:
            for line in worker.next():
                self.lines.append(line)
                print(_line(line), flush=True)
        except Failed as failure:
            print(f"{what:{WIDTH}}{str(failure).splitlines()[-1]}", flush=True)
        finally:
            worker.close()

    def find(self, what: str) -> Measured | None:
        return next((line for line in reversed(self.lines) if line.what == what), None)


def _lines(generator: Callable[..., Iterator[Measured]], *args: Any) -> Iterator[list[Measured]]:
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # should memory end, this process goes first
    yield list(generator(*args))


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="curate-scale-", dir=options.folder) as temporary:
        folder = Path(temporary)
        need = max(DISK["rows"] * options.rows, DISK["parts"] * options.parts) + GIB
        if (free := shutil.disk_usage(folder).free) < need:
            sys.exit(f"{folder} has {free / GIB:.1f} GiB free; {need / GIB:.1f} GiB are needed (--rows, --folder)")
        print(
            f"{os.cpu_count()} cores; polars {pl.__version__}, numpy {np.__version__}, pyarrow {pa.__version__}\n"
            f"{'':{WIDTH}}{'size':>17}{'seconds':>9}{'a second':>12}{'GiB: peak':>10}{'anon.':>7}{'files':>7}  on disk"
        )
        part = Part(folder)
        model = Model("synthetic", None, folder, "0" * 32, 2048)
        part.run("store", build, folder / "store", model, options.rows)
        part.run("lookup", lookup, folder / "store", model, options.rows, options.chunk_pairs)
        part.run("store, small batches", build_small, folder / "small", model, min(RUN_ROWS, options.rows))
        _remove(folder / "store", folder / "small")
        join(part, folder / "join", options.rows)
        part.run("parts", make_parts, folder / "parts", options.parts, options.chunk_pairs)
        part.run("parts: concatenate", concatenate, folder / "parts", options.parts)
        part.run("parts: summarise", summarise, folder / "parts", options.parts)
        for name in ("quarter", "whole"):
            part.run("parts: read by chunks, once", read, folder / "parts" / name, options.chunk_pairs)
        _remove(folder / "parts")
        part.run("pairs", make_pairs, folder / "pairs", options.pairs)
        for what in (FIRST, AGAIN):
            part.run(what, score_all, folder / "pairs", what, options.pairs, options.chunk_pairs)
        part.run("pairs", of_that, folder / "pairs", options.pairs)
        extrapolate(part)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", type=int, default=50_000_000, help="of the store, and of the join")
    add("--chunk-pairs", type=int, default=chunks.CHUNK_PAIRS, help="pairs in memory at a time")
    add("--parts", type=int, default=2_000_000, help=f"pairs of {TEXT} characters whose files are put together")
    add("--pairs", type=int, default=20_000, help="pairs scored with an engine that costs nothing")
    add("--folder", type=Path, help="where the synthetic data goes, and is removed from")
    return parser.parse_args()


# The store.


def build(root: Path, model: Model, rows: int) -> Iterator[Measured]:
    store = _store(root, model)
    yield _add(store, "store: add and merge", rows, BATCH)


def build_small(root: Path, model: Model, rows: int) -> Iterator[Measured]:
    yield _add(_store(root, model), f"store: the same, {RUN_BATCH} rows a batch", rows, RUN_BATCH)


def _add(store: Store, what: str, rows: int, batch: int) -> Measured:
    seconds = 0.0
    draw = np.random.default_rng(0)
    with Watch() as watch:
        for first in range(0, rows, batch):
            keys = _keys(np.arange(first, min(rows, first + batch), dtype=np.uint64))
            logps = -100 * draw.random(len(keys))
            start = time.perf_counter()
            store.add(keys, logps)
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        store.merge(everything=True)
        seconds += time.perf_counter() - start
    shards = list(store.folder.glob("*.arrow"))
    disk = sum(shard.stat().st_size for shard in shards)
    note = f"{len(shards)} shards, {disk / rows:.2f} bytes a row"
    return watch.measured(what, rows, "rows", disk=disk, note=note)._replace(seconds=seconds)


def lookup(root: Path, model: Model, rows: int, chunk_pairs: int) -> Iterator[Measured]:
    """The keys that chunks of pairs ask for: half of them in the store, anywhere in it, half not."""
    store = _store(root, model)
    shards = list(store.folder.glob("*.arrow"))
    _forget_pages(shards)
    count = LOGPS_A_PAIR * chunk_pairs
    draw = np.random.default_rng(0)

    def look() -> float:
        at = draw.integers(0, 2 * rows, count, dtype=np.uint64)
        keys = _keys(at)
        start = time.perf_counter()
        found = store.lookup(keys)
        seconds = time.perf_counter() - start
        if not np.array_equal(np.isnan(found), at >= rows):
            raise AssertionError("the store gives other rows than it was given")
        return seconds

    with Watch() as watch:
        first = look()
    line = watch.measured("lookup: first (cold, digests verified)", count, "keys", note=f"{len(shards)} shards")
    yield line._replace(seconds=first)
    with Watch() as watch:
        start = time.perf_counter()
        seconds = []
        while len(seconds) < 5 or time.perf_counter() - start < LOOKUP_SECONDS:
            seconds.append(look())
    line = watch.measured("lookup: the rest (median)", count, "keys", note=f"{len(seconds)} chunks")
    yield line._replace(seconds=statistics.median(seconds))


def _store(root: Path, model: Model) -> Store:
    return Store(root, model, "float32", "synthetic")


def _keys(numbers: np.ndarray) -> list[bytes]:
    """The key of each row: 16 bytes that look random (splitmix64)."""
    words = _mixed(np.stack([2 * numbers, 2 * numbers + 1], axis=1)).tobytes()
    return [words[at : at + 16] for at in range(0, len(words), 16)]


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _forget_pages(paths: list[Path]) -> None:
    """Have the kernel drop what it caches of these files."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# The join.


def join(part: Part, folder: Path, rows: int) -> None:
    """Scores to pairs by pair_id, with polars; what is larger than memory is stopped."""
    sizes = sorted({min(rows, IN_MEMORY_ROWS), rows})
    for size in sizes:
        part.run("join", write_sides, folder, size)
        for engine in ("in-memory", "streaming"):
            if engine == "streaming" or size <= IN_MEMORY_ROWS:
                part.run(_join_name(engine), join_sides, folder, size, engine)
        _remove(folder)


def _join_name(engine: str) -> str:
    return f"join by pair_id: polars, {engine}"


def write_sides(folder: Path, rows: int) -> Iterator[Measured]:
    """Both sides as Parquet files, their rows in different orders."""
    draw = np.random.default_rng(0)
    with Watch() as watch:
        for side in ("pairs", "scores"):
            (folder / side).mkdir(parents=True)
            for first in range(0, rows, PARQUET_ROWS):
                numbers = np.arange(first, min(rows, first + PARQUET_ROWS), dtype=np.uint64)
                columns: dict[str, Any] = {"source_row": numbers.astype(np.int64)}
                if side == "scores":
                    numbers = (numbers * np.uint64(2**31 - 1)) % np.uint64(rows)  # a prime: every number once
                    columns = {
                        name: draw.integers(1, 500, len(numbers), dtype=np.int32)
                        if dtype == pl.Int32
                        else -100 * draw.random(len(numbers))
                        for name, dtype in SCORES.items()
                    }
                frame = pl.DataFrame({"pair_id": _hex(numbers), **columns})
                frame.write_parquet(folder / side / f"{first:012}.parquet")
    yield watch.measured("join: write its two sides", rows, "rows", disk=_size(folder))


def join_sides(folder: Path, rows: int, engine: str) -> Iterator[Measured]:
    pairs, scores = (pl.scan_parquet(folder / side / "*.parquet") for side in ("pairs", "scores"))
    out = folder / "out.parquet"
    with Watch(_allowed()) as watch:
        joined = pairs.join(scores, on="pair_id", how="left")
        if engine == "streaming":
            joined.sink_parquet(out, engine="streaming")
        else:
            joined.collect(engine="in-memory").write_parquet(out)
    yield watch.measured(_join_name(engine), rows, "rows", disk=out.stat().st_size)


def _allowed() -> float:
    """GiB that a part may take: most of what the machine has to spare."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return 0.75 * int(lines["MemAvailable"].split()[0]) / 2**20


def _hex(numbers: np.ndarray) -> pl.Series:
    words = np.ascontiguousarray(_mixed(np.stack([2 * numbers, 2 * numbers + 1], axis=1)))
    array = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(numbers), [None, pa.py_buffer(words)])
    return pl.Series(values=array.cast(pa.binary())).bin.encode("hex")


# The chunks' files.


def make_parts(folder: Path, pairs: int, chunk_pairs: int) -> Iterator[Measured]:
    """The scored chunks, a file each."""
    (folder / "parts").mkdir(parents=True)
    text = _text(2**26)
    draw = np.random.default_rng(0)
    for first in range(0, pairs, chunk_pairs):
        frame = _pairs(np.arange(first, min(pairs, first + chunk_pairs)), text, draw, [TEXT // 3] * 3)
        scores = {name: -100 * draw.random(frame.height) for name in SCORES}
        frame = frame.with_columns(pl.Series(name, scores[name]).cast(dtype) for name, dtype in SCORES.items())
        frame.write_parquet(folder / "parts" / f"{first:012}.parquet")
    yield from ()


def concatenate(folder: Path, pairs: int) -> Iterator[Measured]:
    paths = sorted((folder / "parts").iterdir())
    with Watch() as watch:
        files.sink_parquet(pl.scan_parquet(paths), folder / "whole", {})
    note = f"{len(paths)} files, {pairs * TEXT / 1e6 / watch.seconds:,.0f} MB of text a second"
    yield watch.measured("parts: concatenate", pairs, "pairs", disk=(folder / "whole").stat().st_size, note=note)


def summarise(folder: Path, pairs: int) -> Iterator[Measured]:
    provenance = {"model": {}, "template": {}, "engine": "", "params": {"dtype": "", "null_prompt": ""}}
    with Watch() as watch:
        score.summarise(pl.scan_parquet(folder / "whole"), 0, provenance)
    yield watch.measured("parts: summarise", pairs, "pairs")
    files.sink_parquet(pl.scan_parquet(folder / "whole").head(pairs // 4), folder / "quarter", {})


def read(path: Path, chunk_pairs: int) -> Iterator[Measured]:
    chunks.CHUNK_PAIRS = chunk_pairs
    with Watch() as watch:
        count = sum(chunk.height for chunk in Pairs.of_file(path).chunks())
    yield watch.measured("parts: read by chunks, once", count, "pairs")


def _pairs(numbers: np.ndarray, text: str, draw: np.random.Generator, lengths: list[int]) -> pl.DataFrame:
    """schema.PAIRS; prompt, chosen and rejected of so many characters."""
    columns: dict[str, Any] = {"pair_id": _hex(numbers.astype(np.uint64)), "source_row": numbers}
    for name, length in zip(("prompt", "chosen", "rejected"), lengths, strict=True):
        starts = draw.integers(0, len(text) - length, len(numbers)).tolist()
        columns[name] = [text[start : start + length] for start in starts]

    def turn(name: str, role: str) -> pl.Expr:
        return pl.concat_list(pl.struct(pl.lit(role).alias("role"), pl.col(name).alias("content"))).alias(name)

    frame = pl.DataFrame(columns).with_columns(
        turn("prompt", "user"),
        turn("chosen", "assistant"),
        turn("rejected", "assistant"),
        prompt_key="pair_id",
        query_type=pl.lit("unsafe"),
        chosen_safe=True,
        rejected_safe=False,
        split=pl.lit("train"),
        source=pl.lit("synthetic"),
        source_format=pl.lit("canonical"),
    )
    return frame.select(*PAIRS).cast(PAIRS)  # type: ignore[arg-type]


def _text(length: int) -> str:
    """Words of the embedded sample in random order."""
    words = np.array(sorted({word for line in _sample() for word in line.split()}), dtype=object)
    drawn = np.random.default_rng(1).integers(0, len(words), length // 4)
    return " ".join(words[drawn])[:length]


def _sample() -> list[str]:
    pairs = prepare(params.DataParams(), params.CleaningParams()).pairs
    return [turn["content"] for side in ("prompt", "chosen", "rejected") for row in pairs[side] for turn in row]


# Everything but the model.


class Free:
    """An engine that gives any numbers, at no cost."""

    def logps(self, sequences: list[rendering.TokenSequence]) -> np.ndarray:
        return -np.arange(1.0, len(sequences) + 1)

    def close(self) -> None:
        pass


def make_pairs(folder: Path, count: int) -> Iterator[Measured]:
    """Model and pairs."""
    folder.mkdir()
    make_model(folder / "model", SHAPE, _sample())
    frame = _pairs(np.arange(count), _text(2**24), np.random.default_rng(0), CHARACTERS)
    files.write_parquet(frame, folder / "pairs.parquet", {})
    yield from ()


def score_all(folder: Path, what: str, count: int, chunk_pairs: int) -> Iterator[Measured]:
    """`score_file` with the engine replaced, several times."""
    chunks.CHUNK_PAIRS = chunk_pairs
    scorer.open_engine = lambda *_: Free()
    model, out = resolve(folder / "model"), folder / "scores.parquet"
    settings = params.ScoreParams(engine="transformers")
    seconds = []
    for _ in range(REPEATS):
        if what == FIRST:
            _remove(folder / "store")
        with Watch() as watch:
            score.score_file(folder / "pairs.parquet", model, settings, folder / "store", out)
        seconds.append(watch.seconds)
        if len(seconds) == 1:  # later, memory is what the first left
            line = watch.measured(what, count, "pairs", disk=_size(folder / "store"))
    tokens = pl.read_parquet(out, columns=["chosen_tokens"])["chosen_tokens"].mean()
    yield line._replace(seconds=statistics.median(seconds), note=f"{tokens:.0f} tokens a response")


def of_that(folder: Path, count: int) -> Iterator[Measured]:
    """What rendering and making keys take, by themselves."""
    model = resolve(folder / "model")
    tokenizer = rendering.load_tokenizer(model)
    frame = pl.read_parquet(folder / "pairs.parquet")
    with Watch() as watch:
        rendered = rendering.render_pairs(tokenizer, frame)
    yield watch.measured("pairs: of that, rendering", count, "pairs")
    null = np.array(rendering.null_prompt_ids(tokenizer, "empty_user"), dtype=np.int32)
    arrays = [[np.array(ids, dtype=np.int32) for ids in rendered[f"{part}_ids"]] for part in ("prompt", *scorer.SIDES)]
    store = _store(folder / "none", model)
    with Watch() as watch:
        for prompt, *responses in zip(*arrays, strict=True):
            for response in responses:
                store.key(rendering.TokenSequence(prompt, response))
                store.key(rendering.TokenSequence(null, response))
    yield watch.measured("pairs: of that, keys", count, "pairs")


# What is printed.


def _line(line: Measured) -> str:
    gib = "".join(f"{value:>{width}.2f}" for value, width in ((line.peak, 10), (line.anonymous, 7), (line.mapped, 7)))
    more = ", ".join(filter(None, (f"{line.disk / GIB:.2f} GiB" if line.disk else "", line.note)))
    size = f"{line.units:,} {line.unit}"
    return f"{line.what:{WIDTH}}{size:>17}{line.seconds:9.2f}{1 / line.each:>12,.0f}{gib}  {more}"


def extrapolate(part: Part) -> None:
    """Proportional, but for looking up: every shard is asked for every key."""
    built, asked = part.find("store: add and merge"), part.find("lookup: the rest (median)")
    print(f"\nExtrapolated, not measured: {os.cpu_count()} cores, {LOGPS_A_PAIR} distinct log-probs a pair")
    print(f"{'':{WIDTH}}" + "".join(f"{pairs:>17,} pairs" for pairs in PAIRS_EXTRAPOLATED))

    def row(what: str, values: list[str]) -> None:
        print(f"{what:{WIDTH}}" + "".join(f"{value:>23}" for value in values))

    if built:
        row("store, on disk", [_bytes(built.disk / built.units * LOGPS_A_PAIR * n) for n in PAIRS_EXTRAPOLATED])
        row("store, add and merge", [_duration(built.each * LOGPS_A_PAIR * n) for n in PAIRS_EXTRAPOLATED])
    if built and asked:
        a_shard = asked.each / max(1.0, built.units / MERGE_ROWS)
        shards = [math.ceil(LOGPS_A_PAIR * n / MERGE_ROWS) for n in PAIRS_EXTRAPOLATED]
        seconds = [a_shard * LOGPS_A_PAIR * n * k for n, k in zip(PAIRS_EXTRAPOLATED, shards, strict=True)]
        row("lookup of every key, the store being full", [_duration(each) for each in seconds])
    for what, peak in (
        (FIRST, False),
        (AGAIN, False),
        ("parts: concatenate", False),
        ("parts: summarise", True),
        (_join_name("streaming"), True),
    ):
        if line := part.find(what):
            row(what, [_duration(line.each * n) for n in PAIRS_EXTRAPOLATED])
            if peak:
                row("  its memory", [_bytes(line.peak * GIB / line.units * n) for n in PAIRS_EXTRAPOLATED])


def _bytes(count: float) -> str:
    return f"{count / GIB:,.2f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:,.1f} s"
    return f"{seconds:,.0f} s" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
