"""The transformers engine and the trainer on this machine's device, with a random model of a real one's shape.

    python benchmarks/device_check.py [--layers 24 --hidden 896 ...]

Prints scoring tokens/s and peak device memory in float32 and bfloat16, how far the two are apart, and the same
for training, with where it starts. Speed is this machine's; weights are random, so the numbers mean nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from random_model import Shape, make_model

from curate.models.resolve import resolve
from curate.pairs.prepare import prepare
from curate.project import params
from curate.scoring.score import score
from curate.selection.weights import weigh
from curate.training.train import train


def peak_gib() -> float:
    if not torch.cuda.is_available():
        return float("nan")
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        *(("pairs", 2000), ("vocab", 151_936), ("hidden", 896), ("intermediate", 4864)),
        *(("layers", 24), ("heads", 14), ("kv_heads", 2)),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    pairs = prepare(params.DataParams(sample_pairs=options.pairs), params.CleaningParams()).pairs
    texts = [turn["content"] for row in pairs["chosen"].to_list() for turn in row]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sizes = ("vocab", "hidden", "intermediate", "layers", "heads", "kv_heads")
        shape = Shape(*(getattr(options, name) for name in sizes))
        make_model(root / "model", shape, texts)
        model = resolve(root / "model")
        size = sum(file.stat().st_size for file in model.path.glob("*.safetensors")) / 4e6
        print(f"{device}; Qwen2 of {size:,.0f}M parameters, vocabulary {options.vocab:,}; {pairs.height:,} pairs")
        scored = {}
        for dtype in ("float32", "bfloat16"):
            start = time.monotonic()
            settings = params.ScoreParams(engine="transformers", dtype=dtype)
            scored[dtype] = score(pairs, model, settings, root / "store").scores
            print(f"score {dtype}: {time.monotonic() - start:.1f} s with loading, peak {peak_gib():.2f} GiB")
        for column in ("ref_chosen_logps", "null_rejected_logps"):
            tokens = scored["float32"][column.split("_")[1] + "_tokens"]
            apart = ((scored["float32"][column] - scored["bfloat16"][column]) / tokens).abs()
            print(f"{column}: bfloat16 apart from float32 by mean {apart.mean():.2g}, max {apart.max():.2g} nats/token")
        weights = weigh(scored["float32"], params.WeighParams())
        settings_of_training = params.TrainParams(
            epochs=1, learning_rate=1e-6, dtype="bfloat16", evaluations=2, checkpoints=1, check_tolerance=1e-3
        )
        start = time.monotonic()
        arm = params.DEFAULT_ARMS["bdpo"]
        metrics = train(weights, model, settings_of_training, arm, "bdpo", root / "run", root / "state")
        print(f"train bfloat16: {time.monotonic() - start:.1f} s in all, peak {peak_gib():.2f} GiB")
        print(f"loss at step 0: {metrics['start']['loss']:.4f}; at the end, train {metrics['train']['loss']:.4f}")


if __name__ == "__main__":
    main()
