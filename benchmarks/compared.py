"""A study's arms beside each other, over seeds and prompts together: the two families of docs/study.md, in Markdown.

    python benchmarks/compared.py data/weights.parquet runs [--with dpo]

The first family is the stated tests of held-out pairs (b, d1, e); the second every arm against --with, in each measure.
The p-values of a family are corrected for all of it: those of the second by Holm, those of the first by Bonferroni for
--tests 6, since two of the safe rate (`curate compare`) and one of benchmarks/overfitting.py are not here.
p over seeds, of other training runs, is not corrected: where it is not small a difference is not one of the methods.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from curate.reporting import paired
from curate.reporting.inputs import read_runs
from curate.reporting.paired import Compared, Measure, Rewards

STATED: list[tuple[str, str, Measure]] = [
    ("dpo-imbalanced", "dpo-balanced", "gap"),
    ("bdpo", "dpo", "accuracy"),
    ("bdpo", "bdpo-alpha-30", "accuracy"),
]


def arm_rows(rewards: dict[str, Rewards]) -> list[str]:
    """Every arm by itself, each measure with its 95% interval."""
    lines = [f"| arm | seeds | {' | '.join(paired.MEASURES.values())} |", "|---" * 5 + "|"]
    for name, one in rewards.items():
        cells = []
        for measure in paired.MEASURES:
            low, high = paired.interval(one, measure)
            cells.append(f"{paired.value(one, measure):.3f} [{low:.3f}, {high:.3f}]" if one.has(measure) else "–")
        lines.append(f"| {name} | {len(one.seeds)} | {' | '.join(cells)} |")
    return lines


def rows(found: Sequence[Compared], tests: int = 0) -> list[str]:
    """Every comparison; corrected by Bonferroni for so many `tests`, or as it was (0)."""
    lines = [
        "| arms | measure | difference | 95% interval | seeds | p | p, corrected | p over seeds |",
        "|---" * 8 + "|",
    ]
    for one in found:
        low, high = one.difference.low, one.difference.high
        corrected = min(1.0, one.difference.p * tests) if tests else one.corrected
        lines.append(
            f"| {one.arm} − {one.other} | {paired.MEASURES[one.measure]} | {one.difference.mean:+.3f} "
            f"| [{low:+.3f}, {high:+.3f}] | {one.difference.seeds} | {one.difference.p:.3f} | {corrected:.3f} "
            f"| {'–' if math.isnan(one.difference.p_seeds) else f'{one.difference.p_seeds:.3f}'} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--with", dest="other", default="dpo")
    parser.add_argument("--tests", type=int, default=6)
    given = parser.parse_args()
    frame = pl.read_parquet(given.weights, columns=["pair_id", "prompt_key"])
    rewards = paired.of(read_runs(given.runs), frame)
    if given.other not in rewards:
        sys.exit(f"no run of {given.other} that was measured on held-out pairs (those of a search of rates were not)")
    print("\n".join(arm_rows(rewards)), "\n\nStated beforehand:\n")
    print("\n".join(rows(paired.family(rewards, STATED), given.tests)), f"\n\nEvery arm beside {given.other}:\n")
    against = [(name, given.other, measure) for name in rewards if name != given.other for measure in paired.MEASURES]
    print("\n".join(rows(paired.family(rewards, against))))


if __name__ == "__main__":
    main()
