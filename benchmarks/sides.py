"""What the weights did to the two sides: rewards of chosen and of rejected responses, by the sign of d.

    python benchmarks/sides.py data/weights.parquet runs [--arm bdpo] [--with dpo]

B-DPO pushes harder on the response that the reference model comprehends less: the chosen one where d < 0 (the rejected
response has the higher MI), the rejected one where d > 0. Prints Markdown: for the training and the held-out pairs of
either sign, and for all, the mean rewards (nats, beta log-ratio) of both arms over the seeds that both have, and their
difference. 95% intervals: prompts and seeds are drawn independently (pigeonhole bootstrap). [ours]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl

from curate.evaluation.statistics import compare
from curate.pairs.schema import Split
from curate.reporting.inputs import REWARDS_FILE

ARMS = ("ours", "theirs")
SIDES = {"chosen": "chosen_reward", "rejected": "rejected_reward"}
SIGNS = {"d < 0": pl.col("pmi_gap") < 0, "d > 0": pl.col("pmi_gap") > 0, "all": pl.lit(True)}


def by_seed(folder: Path) -> dict[str, pl.DataFrame]:
    """The rewards of each of an arm's runs."""
    return {path.parent.name: pl.read_parquet(path) for path in sorted(folder.glob(f"seed-*/{REWARDS_FILE}"))}


def difference(prompts: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Mean of ours less theirs, both [pairs, seeds], and its 95% interval; `prompts` [pairs]: of which each is."""
    _, numbers, pairs = np.unique(prompts, return_inverse=True, return_counts=True)

    def means(values: np.ndarray) -> np.ndarray:
        """Of each prompt's pairs: [prompts, seeds]."""
        total = np.zeros((len(pairs), values.shape[1]))
        np.add.at(total, numbers, values)
        return total / pairs[:, None]

    found = compare(means(ours), means(theirs), pairs, paired_seeds=True)
    return found.mean, found.low, found.high


def rows(frame: pl.DataFrame, ours: dict[str, pl.DataFrame], theirs: dict[str, pl.DataFrame]) -> list[str]:
    """A line for each part of the pairs and each of its two responses, over the seeds that both arms have.

    Args:
        frame: pair_id, prompt_key, split and pmi_gap of every pair.
    """
    lines = []
    seeds = sorted(set(ours) & set(theirs))
    for split in (Split.TRAIN.value, Split.HELDOUT.value):
        both = frame.filter(split=split)
        for arm, runs in zip(ARMS, (ours, theirs), strict=True):
            for seed in seeds:
                found = runs[seed].select("pair_id", **{f"{arm} {side} {seed}": SIDES[side] for side in SIDES})
                both = both.join(found, on="pair_id")
        for sign, where in SIGNS.items():
            part = both.filter(where)
            for side in SIDES if part.height else ():
                one, two = (part.select(f"{arm} {side} {seed}" for seed in seeds).to_numpy() for arm in ARMS)
                at, low, high = difference(part["prompt_key"].to_numpy(), one, two)
                what = f"{split} | {sign} | {part.height} | {side} | {two.mean():+.2f} | {one.mean():+.2f}"
                lines.append(f"| {what} | {at:+.2f} [{low:+.2f}, {high:+.2f}] |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--arm", default="bdpo")
    parser.add_argument("--with", dest="other", default="dpo")
    given = parser.parse_args()
    frame = pl.read_parquet(given.weights, columns=["pair_id", "prompt_key", "split", "pmi_gap"])
    ours, theirs = (by_seed(given.runs / name) for name in (given.arm, given.other))
    if not set(ours) & set(theirs):
        sys.exit(f"{given.arm} and {given.other} have no seed in common in {given.runs}")
    print(f"| pairs | sign of d | number | response | {given.other} | {given.arm} | difference [95%] |")
    print("|---" * 7 + "|")
    print("\n".join(rows(frame, ours, theirs)))


if __name__ == "__main__":
    main()
