"""The learning rates that were tried, and which is taken: the lowest own loss on validation pairs, for each objective.

    python benchmarks/rates.py runs

Of the runs whose arm sets `validation_fraction`, as those of presets/smollm2-pku-search.yaml. Prints Markdown.
"""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path

from curate.reporting.inputs import Run, read_runs


def rate(run: Run) -> float:
    return float(run.record["train"]["learning_rate"])


def loss(run: Run) -> float:
    return run.final("heldout", "loss") or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    runs = [run for run in read_runs(parser.parse_args().runs) if run.record["train"].get("validation_fraction")]
    runs.sort(key=lambda run: (run.metrics["objective"], rate(run)))
    print("| objective | learning rate | validation loss | validation accuracy | train accuracy | margin gap | taken |")
    print("|---|---|---|---|---|---|---|")
    for _, group in groupby(runs, key=lambda run: run.metrics["objective"]):
        tried = list(group)
        best = min(tried, key=loss)
        for run in tried:
            measures = [("heldout", "rewards/accuracies"), ("train", "rewards/accuracies"), ("overfitting", "margins")]
            values = [run.final(*measure) for measure in measures]
            cells = " | ".join("–" if value is None else f"{value:.3f}" for value in values)
            taken = "yes" if run is best else ""
            print(f"| {run.metrics['objective']} | {rate(run):g} | {loss(run):.4f} | {cells} | {taken} |")


if __name__ == "__main__":
    main()
