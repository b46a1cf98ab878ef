"""How much of mutual information and of its gap is length, on a model and pairs of yours.

    python benchmarks/length.py MODEL PAIRS [--pairs 60] [--null-prompt empty_user] [--store .curate/scores]

PAIRS is any file that `curate prepare` reads; of it a draw of so many pairs of different prompts is scored. Prints a
Markdown table: the correlation of MI per token with 1/|y| over all responses (Pearson's, and that of their ranks), and
for every form of the gap the shares of the variance of d and of |d| that length explains (docs/method.md), over all
pairs. For `contrastive` also what it was with the own prompt in the mean.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

import curate.base.threads  # noqa: F401  (before torch)
from curate.models.resolve import resolve
from curate.pairs.prepare import prepare
from curate.pairs.schema import PAIRS, Split
from curate.project.params import CleaningParams, DataParams, ScoreParams
from curate.scoring.information import with_information
from curate.scoring.score import score
from curate.selection import gap
from curate.selection.length import explained
from curate.training.pairs import draw

FORMS = ("per_token", "total", "sqrt", "residual")
SIDES = ("chosen", "rejected")


def sample(source: str, count: int) -> pl.DataFrame:
    """`count` pairs of different prompts, all of them on the training side."""
    made = prepare(DataParams(source=source), CleaningParams(max_pairs_per_prompt=1)).pairs
    return draw(made, count, 0).with_columns(split=pl.lit(Split.TRAIN.value).cast(PAIRS["split"]))


def with_own(scores: pl.DataFrame, others: int) -> pl.DataFrame:
    """The scores with the own prompt in the contrastive mean, as it once was: p(y|x) beside `others` times the mean."""
    nulls = {
        f"null_{side}_logps": np.logaddexp(scores[f"ref_{side}_logps"], scores[f"null_{side}_logps"] + np.log(others))
        - np.log(others + 1)
        for side in SIDES
    }
    return with_information(scores.with_columns(**{name: pl.Series(values) for name, values in nulls.items()}))


def correlations(scores: pl.DataFrame) -> str:
    """Of MI per token with 1/|y|, over both responses of every pair: Pearson's, and that of the ranks."""
    mi, tokens = (pl.concat([scores[f"{side}_{what}"] for side in SIDES]) for what in ("pmi", "tokens"))
    found = pl.select(pl.corr(mi, 1 / tokens), pl.corr(mi, 1 / tokens, method="spearman").alias("ranks")).row(0)
    return ", ".join(f"{one:.2f}" for one in found)


def row(name: str, scores: pl.DataFrame) -> str:
    """A line of the table."""
    shares = []
    for form in FORMS:
        found = explained(scores.with_columns(gap.gap(scores, form).alias("d")), "d")
        shares.append(f"{found.gap:.2f}, {found.abs_gap:.2f}")
    return f"| {name} | {scores.height} | {correlations(scores)} | {' | '.join(shares)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pairs_file")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--null-prompt", nargs="+", default=["empty_user", "contrastive"])
    parser.add_argument("--store", type=Path, default=Path(".curate/scores"))
    given = parser.parse_args()
    frame, model = sample(given.pairs_file, given.pairs), resolve(given.model)
    lines = [
        f"| null prompt | pairs | correlation of MI with 1/\\|y\\|, of ranks | {' | '.join(FORMS)} |",
        "|---" * 7 + "|",
    ]
    for name in given.null_prompt:
        options = ScoreParams(engine="transformers", null_prompt=name)
        scores = score(frame, model, options, given.store).scores
        lines.append(row(name, scores))
        if name == "contrastive":
            lines.append(row("contrastive, own prompt in the mean", with_own(scores, options.contrastive_prompts)))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
