"""What difference between two arms a study could see: said before it runs, and again from its first seeds.

    python benchmarks/power.py data/weights.parquet [--seeds 3] [--comparisons 6]
    python benchmarks/power.py data/weights.parquet --runs runs --arms bdpo dpo

The least difference that is found in 80 of 100 studies (power .8, two-sided 5%), alone and as the first of so many
comparisons under Holm's correction (then the level is 5% / comparisons):

    (z[1 - level / 2] + z[.8]) * error,   error^2 = spread^2 (1 + (m - 1) icc) / n + between^2 / seeds

n held-out pairs, m the pairs of a prompt as a pair meets them (sum of squares over n), icc how alike differences are
within a prompt, spread the standard deviation of a pair's difference, between that of a seed's. Without runs these are
assumptions, below; with runs the error is that of the bootstrap over seeds and prompts (curate/reporting/paired.py).
All of it is ours.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import NormalDist

import polars as pl

from curate.pairs.schema import Split
from curate.reporting import paired
from curate.reporting.inputs import read_runs

POWER = 0.8
LEVEL = 0.05
# Of docs/results.md: arms of the PKU experiments differ by seed in accuracy by .02, in the margin gap by .02 to .08.
SPREADS = {"accuracy": 0.35, "margin": 0.5, "gap": 0.7}
"""A pair's difference between two arms: of the accuracy, where an eighth of the pairs turn; of margins, nats."""
BETWEEN = {"accuracy": 0.02, "margin": 0.03, "gap": 0.05}
ICC = 0.2


def least(error: float, comparisons: int) -> float:
    """The least difference that is found with POWER at LEVEL / comparisons, two-sided."""
    normal = NormalDist()
    return (normal.inv_cdf(1 - LEVEL / comparisons / 2) + normal.inv_cdf(POWER)) * error


def assumed(heldout: pl.DataFrame, measure: str, seeds: int, icc: float) -> float:
    """The standard error of a difference, from the numbers of held-out pairs and seeds."""
    counts = heldout.group_by("prompt_key").len()["len"].to_list()
    n = sum(counts)
    together = 1 + (sum(count**2 for count in counts) / n - 1) * icc
    return math.sqrt(SPREADS[measure] ** 2 * together / n + BETWEEN[measure] ** 2 / seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--comparisons", type=int, default=6)
    parser.add_argument("--icc", type=float, default=ICC)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--arms", nargs=2, default=["bdpo", "dpo"])
    given = parser.parse_args()
    frame = pl.read_parquet(given.weights)
    heldout = frame.filter(split=Split.HELDOUT.value)
    print(f"{heldout.height:,} held-out pairs over {heldout['prompt_key'].n_unique():,} prompts\n")
    print(f"| measure | seeds | standard error | seen alone | as the first of {given.comparisons} |")
    print("|---" * 5 + "|")
    if given.runs:
        rewards = paired.of(read_runs(given.runs), frame)
        ours, theirs = (rewards[name] for name in given.arms)
        seeds = len(set(ours.seeds) & set(theirs.seeds))
        errors = [(measure, seeds, paired.error(ours, theirs, measure)) for measure in paired.MEASURES]
    else:
        errors = [(m, n, assumed(heldout, m, n, given.icc)) for m in paired.MEASURES for n in given.seeds]
    for measure, seeds, error in errors:
        print(
            f"| {paired.MEASURES[measure]} | {seeds} | {error:.3f} | {least(error, 1):.3f} "
            f"| {least(error, given.comparisons):.3f} |"
        )


if __name__ == "__main__":
    main()
