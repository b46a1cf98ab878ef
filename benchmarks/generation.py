"""Generation, side by side: the same greedy answers to the same prompts of the embedded sample, engine by engine.

    python benchmarks/generation.py --model runs/reference [--prompts 200] [--max-tokens 96] [--repeats 3] [--whole]

Contenders, each in a process of its own with the same threads, taking turns (on a GPU one after another):

    transformers  `curate.evaluation.generation.transformers`
    vllm          `curate.evaluation.generation.vllm`
    generate      transformers' own `model.generate` on the same batches as the first

Columns: seconds of starting up (imports, loading, engine); of answering all prompts, the median of the repeats, and
their range; responses/s and tokens/s; seconds as a multiple of the first contender's; the share of answers that are the
first's token by token; resident memory of the process at its peak.

vLLM's prefix cache is emptied before each run, or every run but the first would find its prompts there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rounds import Row, take_turns
from scoring import failures, machine, names, print_table
from worker import memory

import curate.base.threads  # noqa: F401 - before torch
from curate.base.files import write_json
from curate.evaluation.generation.base import Generated, Request
from curate.models import rendering
from curate.models.resolve import Model, resolve
from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams

Generate = Callable[[list[Request]], list[Generated]]


class Settings(NamedTuple):
    model: Path  # folder
    dtype: str
    whole: bool


class Answered(NamedTuple):
    """One run."""

    seconds: float
    answers: list[Generated]
    peak: float  # GiB of resident memory, since the process began


def main() -> None:
    options = parse()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    about = machine(options.threads)
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    requests = draw(options.model, options.prompts, options.max_tokens)
    lengths = [len(request.prompt_ids) for request in requests]
    print(f"{len(requests)} prompts of {min(lengths)}-{max(lengths)} tokens, answers of {options.max_tokens} at most")
    settings = Settings(options.model, options.dtype, options.whole)
    with tempfile.TemporaryDirectory() as folder:
        rates, rows = take_turns(options.engines, settings, requests, options.repeats, Path(folder), answer)
    ours = next((row for row in rows if row.runs), None)
    records = [measured(row, ours) for row in rows if row.runs and ours]
    columns = {
        "start s": "{start_up:.1f}",
        "seconds": "{seconds:.2f}",
        "range": "{fastest:.2f}-{slowest:.2f}",
        "responses/s": "{responses_per_second:,.0f}",
        "tokens/s": "{tokens_per_second:,.0f}",
        "x first": "{times_first:.2f}",
        "same": "{same:.1%}",
        "peak GiB": "{peak:.2f}",
    }
    print_table(records, columns)
    record = {"machine": about, "options": {name: str(value) for name, value in vars(options).items()}}
    failed = failures(rows)
    if options.out:
        write_json(record | {"gemm_flops": rates, "contenders": records, "failures": failed}, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder; of the default pipeline: runs/reference")
    add("--prompts", type=int, default=200)
    add("--max-tokens", type=int, default=96)
    add("--whole", action="store_true", help="nothing ends an answer: each has --max-tokens tokens")
    add("--repeats", type=int, default=3)
    add("--engines", type=names(OPEN, all=list(OPEN)), default=list(OPEN), help=", ".join(OPEN))
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each contender")
    add("--out", type=Path, help="write everything as JSON, too")
    return parser.parse_args()


def draw(folder: Path, count: int, max_tokens: int) -> list[Request]:
    """Greedy requests of the sample's first distinct prompts."""
    pairs = prepare(DataParams(), CleaningParams()).pairs.unique("prompt_key", keep="first", maintain_order=True)
    prompts = pairs.head(count)["prompt"].to_list()
    tokenizer = rendering.load_tokenizer(resolve(folder))
    ids = rendering.prompt_token_ids(tokenizer, prompts, [f"prompt {number}" for number in range(len(prompts))])
    return [Request(np.array(each, dtype=np.int32), max_tokens, 0.0, 1.0, 0) for each in ids]


def answer(name: str, settings: Settings, requests: list[Request]) -> Iterator[float | Answered]:
    """In a worker: seconds of starting up, then one run after another."""
    start = time.perf_counter()
    model = resolve(settings.model)
    stop = set() if settings.whole else rendering.stop_token_ids(rendering.load_tokenizer(model), model)
    generate = OPEN[name](model, settings.dtype, stop)
    yield time.perf_counter() - start
    generate(requests[:4])
    while True:
        start = time.perf_counter()
        answers = generate(requests)
        yield Answered(time.perf_counter() - start, answers, memory()[1])


def open_transformers(model: Model, dtype: str, stop: set[int]) -> Generate:
    from curate.evaluation.generation.transformers import TransformersGeneration

    return TransformersGeneration(model, dtype, stop).generate


def open_vllm(model: Model, dtype: str, stop: set[int]) -> Generate:
    from curate.evaluation.generation.vllm import VllmGeneration

    engine = VllmGeneration(model, dtype, stop)

    def generate(requests: list[Request]) -> list[Generated]:
        engine.engine.reset_prefix_cache()
        return engine.generate(requests)

    return generate


def open_generate(model: Model, dtype: str, stop: set[int]) -> Generate:
    import torch

    from curate.evaluation.generation import transformers
    from curate.evaluation.generation.batches import batches

    engine = transformers.TransformersGeneration(model, dtype, stop)

    @torch.inference_mode()
    def generate(requests: list[Request]) -> list[Generated]:
        out: dict[int, Generated] = {}
        for batch in batches(requests, engine.budget.tokens):
            ids, mask = transformers._left_padded([requests[number] for number in batch], engine.device)
            found = engine.model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=requests[batch[0]].max_tokens,
                eos_token_id=sorted(stop) or None,
                pad_token_id=0,
            )
            for number, tokens in zip(batch, found[:, ids.shape[1] :].tolist(), strict=True):
                end = next((place for place, token in enumerate(tokens) if token in stop), None)
                out[number] = Generated(tokens[:end], "length" if end is None else "stop")
        return [out[number] for number in range(len(requests))]

    return generate


OPEN: dict[str, Callable[[Model, str, set[int]], Generate]] = {
    "transformers": open_transformers,
    "vllm": open_vllm,
    "generate": open_generate,
}


def measured(row: Row, first: Row) -> dict[str, Any]:
    """Of a contender that ran."""
    times, answers = [run.seconds for run in row.runs], row.runs[0].answers
    pairs = list(zip(answers, first.runs[0].answers, strict=True))
    return {
        "name": row.name,
        "start_up": row.start_up,
        "seconds": row.seconds,
        "fastest": min(times),
        "slowest": max(times),
        "responses_per_second": len(answers) / row.seconds,
        "tokens_per_second": sum(len(each.ids) for each in answers) / row.seconds,
        "times_first": row.seconds / first.seconds,
        "same": sum(mine == theirs for mine, theirs in pairs) / len(pairs),
        "peak": row.runs[-1].peak,
        "device": row.device,
    }


if __name__ == "__main__":
    main()
