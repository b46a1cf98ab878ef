"""Training, side by side: the same DPO steps on the same pairs from the same model, by `curate` and by TRL.

    python benchmarks/training.py [--data pku|hh|both] [--models 30m-32k] [--batch-pairs 8] [--steps 5] [--repeats 3]

Contenders, each in a process of its own with the same threads, taking turns (on a GPU one after another):

    curate               `curate.training.trainer.PairTrainer` with the objective dpo
    curate-padded        the same without packs: padded buckets, the model's own attention
    curate-torch         the same in packs, with PyTorch's own matrix products, not oneDNN's
    curate-padded-torch  without both
    trl                  TRL's DPOTrainer with precomputed reference log-probs
    trl-compact          the same with the LM head on response tokens only; TRL does so where it has Triton (on a
                         GPU), elsewhere it runs the head on prompts and padding, too

All get the same batches in the same order, the reference log-probs as numbers, nothing truncated, the same optimiser,
learning rate and clipping; a run begins from the stored weights, with a new optimiser. The pairs are drawn at random,
so that a batch shares no prompts but a pair's own. The reference gives every token the same probability: were it the
policy, the first loss would be ln 2 whatever the log-probs.

Columns: seconds of starting up (imports, loading, tokenising); of a step (loading the batch, forward, backward,
clipping, optimiser), the mean over the steps after the first of each step's median over the repeats, and the range of
the repeats' means; processor seconds of a step, all threads together, which other processes move little; tokens/s, of
(x, y_w) and (x, y_l), however often a contender runs them; seconds as a multiple of curate's; the fraction of the
limit, which is the time that the matrix products that cannot be left out take at the best rate measured of square
ones (limits.py), a batch's shared prompts once, the LM head on response tokens, three products for each of the forward
pass; loss of the first step, and by how much the first and any loss differ from curate's, as a fraction; resident
memory of the process at its peak, and by how much training raised it, with the first run's gradients and optimiser
state; on a GPU the device memory at the peak of what tensors took.

Models have random weights and a tokenizer trained on the data: the numbers compare speed and mean nothing else.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from limits import Needed, training
from random_model import SHAPES, Shape, build, shape_of
from rounds import Row, take_turns
from scoring import CONTEXT, DATA, failures, machine, models, names, print_table
from trainers import TRAINERS, Settings, train
from work import Sequence, Work, render
from worker import Worker

import curate.base.threads  # noqa: F401 - before torch
from curate.base.files import write_json
from curate.models import rendering
from curate.models.resolve import resolve
from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams
from curate.training.arguments import OPTIMIZER
from curate.training.pairs import draw

OURS = "curate"


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
                record["results"].append(compare(name, data, pairs, Path(folder), options))
            if options.out:
                write_json(record, options.out)


def parse() -> argparse.Namespace:
    every = tuple(TRAINERS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", default="pku", help="pku, hh, both; or a source as params.yaml's data.source has it")
    add("--models", type=models, default=["30m-32k"], help=f"{', '.join(SHAPES)}, or a folder")
    add("--batch-pairs", type=int, default=8)
    add("--steps", type=int, default=5, help="measured, after one that is not")
    add("--pairs", type=int, help="drawn by --seed, and gone through again when they end; else as many as steps take")
    add("--repeats", type=int, default=3)
    add("--trainers", type=names(TRAINERS, all=every), default=list(every), help=", ".join(every))
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: autocast over float32 weights")
    add("--optimizer", default=OPTIMIZER, help="as TrainingArguments.optim has it; curate's and TRL's own")
    add("--learning-rate", type=float, default=1e-5)
    add("--checkpointing", action="store_true", help="of gradients: compute activations again, keep fewer")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each contender")
    add("--seed", type=int, default=0, help="of the draw of pairs")
    add("--out", type=Path, help="write everything as JSON, too")
    options = parser.parse_args()
    options.pairs = options.pairs or (options.steps + 1) * options.batch_pairs
    if options.pairs < options.batch_pairs or options.steps < 1:
        parser.error("there must be a batch of pairs, and a step")
    return options


def compare(name: str, data: str, pairs: pl.DataFrame, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Every contender on one model and data set; prints the table."""
    shape = shape_of(name)
    texts = [turn["content"] for side in ("prompt", "chosen", "rejected") for row in pairs[side] for turn in row]
    with closing(Worker(folder / "build.log", build, folder / "model", name, texts, CONTEXT)) as builder:
        made = builder.next()
    rendered = render(rendering.load_tokenizer(resolve(folder / "model")), pairs, CONTEXT)
    work = referred(rendered, draw(rendered.pairs, options.pairs, options.seed), shape)
    every = batches(work, options.batch_pairs, options.steps)
    need = training(every, shape)
    print(
        f"\n{name}: {made['parameters']:,} parameters, {shape.layers} layers of {shape.hidden}, "
        f"vocabulary {shape.vocab:,}\n{data}: {work.pairs.height:,} pairs, {options.steps} steps of "
        f"{options.batch_pairs} measured: {need.tokens / options.steps:,.0f} tokens a step "
        f"({padded(every) / need.tokens:.0%} of that with padding, {need.positions / need.tokens:.0%} with a prompt "
        f"of two responses once; the LM head must run on {need.head_rows / need.tokens:.0%})"
    )
    settings = Settings(
        model=folder / "model",
        scratch=folder / "scratch",
        dtype=options.dtype,
        batch_pairs=options.batch_pairs,
        steps=options.steps + 1,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        checkpointing=options.checkpointing,
    )
    rates, rows = take_turns(options.trainers, settings, work, options.repeats, folder, train)
    limit = need.flops / max(rates.values()) / options.steps
    print(f"{options.dtype} GEMM:", ", ".join(f"{way} {rate / 1e9:,.0f} GFLOP/s" for way, rate in rates.items()))
    print(f"limit: {need.flops / options.steps / 1e9:,.0f} GFLOP a step at the best of these rates, {limit:.2f} s\n")
    ours = next((row for row in rows if row.name == OURS and row.runs), None)
    records = [measured(row, need, options.steps, limit, ours) for row in rows if row.runs]
    columns = {
        "start s": "{start_up:.1f}",
        "s/step": "{seconds:.3f}",
        "range": "{fastest:.3f}-{slowest:.3f}",
        "cpu s": "{processor:.3f}",
        "tokens/s": "{tokens_per_second:,.0f}",
        "x ours": "{times_ours:.2f}",
        "of limit": "{fraction_of_limit:.1%}",
        "loss": "{loss:.6f}",
        "|d| first": "{first_difference:.1e}",
        "|d| any": "{max_difference:.1e}",
        "peak GiB": "{peak:.2f}",
        "raised": "{raised:.2f}",
    }
    print_table(records, columns)
    about = {"model": name, **shape._asdict(), **made, "data": data, "pairs": work.pairs.height}
    return about | {
        "needed": need._asdict(),
        "gemm_flops": rates,
        "contenders": records,
        "failures": failures(rows),
    }


def referred(rendered: Work, drawn: pl.DataFrame, shape: Shape) -> Work:
    """`drawn` of the rendered pairs, in its order, with the log-probs of a reference that is uniform."""
    ids = drawn.select("pair_id").join(rendered.ids, on="pair_id", how="left", maintain_order="left")
    tokens = {f"{side}_tokens": ids[f"{side}_ids"].list.len() for side in ("chosen", "rejected")}
    logps = {f"ref_{side}_logps": -math.log(shape.vocab) * tokens[f"{side}_tokens"] for side in ("chosen", "rejected")}
    return Work(drawn.with_columns(**tokens, **logps), ids, rendered.null)


def batches(work: Work, batch_pairs: int, steps: int) -> list[list[Sequence]]:
    """The sequences of each measured step. The first step is not measured; a batch that is not full is left out."""
    an_epoch = work.ids.height // batch_pairs
    every = [
        [
            Sequence(prompt, response)
            for prompt, *responses in rows.select("prompt_ids", "chosen_ids", "rejected_ids").iter_rows()
            for response in responses
        ]
        for rows in work.ids.iter_slices(batch_pairs)
    ]
    return [every[step % an_epoch] for step in range(1, steps + 1)]


def padded(every: list[list[Sequence]]) -> int:
    """Tokens of the batches, each padded to its longest sequence."""
    return sum(len(batch) * max(sequence.length for sequence in batch) for batch in every)


def measured(row: Row, need: Needed, steps: int, limit: float, ours: Row | None) -> dict[str, Any]:
    """Of a contender that ran: seconds and GiB."""
    seconds, means = typical([run.steps for run in row.runs]), [run.seconds for run in row.runs]
    losses = row.runs[0].losses
    expected = ours.runs[0].losses if ours else []
    apart = [abs(found / loss - 1) for run in row.runs for found, loss in zip(run.losses, expected, strict=bool(ours))]
    return {
        "name": row.name,
        "start_up": row.start_up,
        "seconds": seconds,
        "fastest": min(means),
        "slowest": max(means),
        "processor": typical([run.processor for run in row.runs]),
        "steps": [run.steps for run in row.runs],
        "tokens_per_second": need.tokens / steps / seconds,
        "times_ours": ours and seconds / typical([run.steps for run in ours.runs]),
        "fraction_of_limit": limit / seconds,
        "loss": losses[0],
        "losses": losses,
        "first_difference": apart[0] if apart else None,
        "max_difference": max(apart, default=None),
        "peak": row.runs[-1].peak,
        "raised": max(run.raised for run in row.runs),
        "device": row.runs[-1].device,
    }


def typical(runs: list[list[float]]) -> float:
    """Of runs of steps: each step's median over the runs, and the mean of those."""
    return float(np.median(runs, axis=0).mean())


if __name__ == "__main__":
    main()
