"""Does a pair's imbalance predict how far a trained model overfits it, with length held fixed?

    python benchmarks/overfitting.py MODEL PROJECT [--arm dpo] [--null-prompt empty_user bos contrastive]

PROJECT is a folder in which an arm was trained on all pairs, with `train.end_pairs` beyond their number, so that
runs/ARM/seed-*/rewards.parquet has every pair's margin. MODEL scored them; another null prompt scores what the store
lacks. Prints Markdown: for each null prompt and form of the gap d (docs/method.md)

- its rank correlation with the first d, and the shares of the variance of d and of |d| that length explains;
- over the training pairs the partial correlation, of ranks, of |d| and of d with the pair's overfitting: its margin
  less the mean margin of the NEAREST held-out pairs by length;
- the same with the margin itself on held-out pairs, where nothing is overfitted: a pair that is easy is fitted well in
  any case, so what counts is the first less the second, which stands beside them.

Then the rank correlations of all these d with one another, over the training pairs.

Length held fixed: log|y_w|, log|y_l|, their squares and product are partialled out. 95% intervals: prompts of either
side and seeds are drawn independently (pigeonhole bootstrap). Ranks are taken once, in each seed. The interval of the
overfitting takes the held-out pairs that give a pair's expected margin as given: they are not drawn. [ours]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

import curate.base.threads  # noqa: F401  (before torch)
from curate.models.resolve import resolve
from curate.pairs.artefact import read_artefact
from curate.pairs.schema import PAIRS, Split
from curate.project.params import ScoreParams
from curate.reporting.inputs import REWARDS_FILE
from curate.scoring.score import score
from curate.selection import gap
from curate.selection.length import SIZES, explained

FORMS = ("per_token", "total", "sqrt", "residual")
NEAREST = 25  # held-out pairs whose margins a training pair's is compared with
DRAWS = 2000


class Side(NamedTuple):
    """The pairs of one side."""

    prompts: np.ndarray  # which prompt each is of [pairs], numbered from 0
    controls: np.ndarray  # a constant and what is partialled out [pairs, 6]
    outcome: np.ndarray  # ranks, in each seed [pairs, seeds]


class Partial(NamedTuple):
    """A partial correlation with its resamples."""

    value: float
    draws: np.ndarray

    def __str__(self) -> str:
        low, high = np.quantile(self.draws, (0.025, 0.975))
        return f"{self.value:+.2f} [{low:+.2f}, {high:+.2f}]"

    @property
    def p(self) -> float:
        """Two-sided, of no correlation: as in `curate.evaluation.statistics.compare`."""
        tail = min(int((self.draws <= 0).sum()), int((self.draws >= 0).sum())) + 1
        return min(1.0, 2 * tail / (len(self.draws) + 1))

    def less(self, other: Partial) -> Partial:
        return Partial(self.value - other.value, self.draws - other.draws)


def margins(folder: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with a column of margins for each seed, margin-SEED; without the pairs that a run was not measured on."""
    paths = sorted(folder.glob(f"seed-*/{REWARDS_FILE}"))
    assert paths, f"no seed-*/{REWARDS_FILE} in {folder}"
    for path in paths:
        name = path.parent.name.replace("seed", "margin")
        frame = frame.join(pl.read_parquet(path).select("pair_id", pl.col("margin").alias(name)), on="pair_id")
    return frame


def side_of(frame: pl.DataFrame, values: np.ndarray) -> Side:
    """`values` [pairs, seeds] as ranks, and the pairs' lengths as controls."""
    one, two = (column - column.mean() for column in log_lengths(frame).T)
    controls = np.stack([np.ones_like(one), one, two, one * one, two * two, one * two], axis=1)
    prompts = np.unique(frame["prompt_key"].to_numpy(), return_inverse=True)[1]
    return Side(prompts, controls, np.stack([ranks(column) for column in values.T], axis=1))


def log_lengths(frame: pl.DataFrame) -> np.ndarray:
    """log|y_w| and log|y_l|: [pairs, 2]."""
    return frame.select(**SIZES).to_numpy()


def ranks(values: np.ndarray) -> np.ndarray:
    """From 0 to 1, of equal values the mean."""
    return (np.asarray(pl.Series(values).rank("average")) - 0.5) / len(values)


def overfitted(training: pl.DataFrame, heldout: pl.DataFrame, names: list[str]) -> np.ndarray:
    """Each training pair's margin less the mean of the NEAREST held-out pairs by log lengths: [pairs, seeds]."""
    at, near = log_lengths(training), log_lengths(heldout)
    distance = ((at[:, None] - near[None]) ** 2).sum(-1)
    nearest = np.argsort(distance, axis=1)[:, :NEAREST]
    return training.select(names).to_numpy() - heldout.select(names).to_numpy()[nearest].mean(axis=1)


def partial(side: Side, predictor: np.ndarray, seeds: np.ndarray, rng: np.random.Generator) -> Partial:
    """The partial correlation of `predictor` [pairs] with the outcome, given the controls.

    That of the last two given all before is -P_ab / sqrt(P_aa P_bb), P the inverse of their matrix of moments.

    Args:
        seeds: how often each seed is drawn, [draws, seeds]; what is drawn with the first is the value itself.
    """
    count = int(side.prompts.max()) + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=len(seeds))
    drawn[0] = 1
    weights = drawn[:, side.prompts].astype(np.float64)
    outcome = (side.outcome @ seeds.T / seeds.sum(1)).T  # [draws, pairs]
    known = np.concatenate([side.controls, predictor[:, None]], axis=1)
    size = known.shape[1]
    moments = np.empty((len(seeds), size + 1, size + 1))
    moments[:, :size, :size] = (weights @ (known[:, :, None] * known[:, None]).reshape(len(known), -1)).reshape(
        -1, size, size
    )
    moments[:, :size, size] = moments[:, size, :size] = (weights * outcome) @ known
    moments[:, size, size] = (weights * outcome**2).sum(1)
    inverse = np.linalg.inv(moments)
    found = -inverse[:, -1, -2] / np.sqrt(inverse[:, -1, -1] * inverse[:, -2, -2])
    return Partial(float(found[0]), found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("project", type=Path)
    parser.add_argument("--arm", default="dpo")
    parser.add_argument("--null-prompt", nargs="+", default=["empty_user", "bos", "contrastive"])
    parser.add_argument("--store", type=Path, help="[default: PROJECT/.curate/scores]")
    given = parser.parse_args()
    weights = read_artefact(given.project / "data" / "weights.parquet", "pairs", "scores")
    frame = margins(given.project / "runs" / given.arm, weights)
    names = [name for name in frame.columns if name.startswith("margin-")]
    training, heldout = (frame.filter(split=side.value) for side in (Split.TRAIN, Split.HELDOUT))
    print(f"{given.arm}: {training.height} training and {heldout.height} held-out pairs, {len(names)} seeds\n")
    over = side_of(training, overfitted(training, heldout, names))
    easy = side_of(heldout, heldout.select(names).to_numpy())
    rng = np.random.default_rng(0)
    seeds = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS + 1)
    seeds[0] = 1
    model, store = resolve(given.model), given.store or given.project / ".curate" / "scores"
    stated: tuple[Partial, Partial] | None = None
    lines: list[str] = []
    ranked: dict[str, np.ndarray] = {}
    for null in given.null_prompt:
        options = ScoreParams(engine="transformers", null_prompt=null, too_long="reject")
        scored = score(weights.select(list(PAIRS)), model, options, store).scores
        for form in FORMS:
            scored = scored.with_columns(gap.gap(scored, form).alias("d"))
            d = [
                part.select("pair_id").join(scored, on="pair_id", how="left", maintain_order="left")["d"].to_numpy()
                for part in (training, heldout)
            ]
            ranked[f"{null} {form}"] = own = ranks(d[0])
            alike = np.corrcoef(own, next(iter(ranked.values())))[0, 1]
            shares = explained(scored, "d")
            cells = [f"{alike:.2f}", f"{shares.gap:.2f}, {shares.abs_gap:.2f}"]
            for size in (True, False):
                at, near = (ranks(np.abs(part) if size else part) for part in d)
                one, two = partial(over, at, seeds, rng), partial(easy, near, seeds, rng)
                cells += [str(one), str(two), str(one.less(two))]
                stated = stated or (one, one.less(two))
            lines.append(f"| {null} | {form} | {' | '.join(cells)} |")
    heads = [f"{what}: {of}" for what in ("\\|d\\|", "d") for of in ("overfitting", "held-out margin", "difference")]
    print(f"| null prompt | form | ranks with the first | of length: d, \\|d\\| | {' | '.join(heads)} |")
    print("|---" * (4 + len(heads)) + "|")
    print("\n".join(lines))
    print(f"\n| rank correlation of d | {' | '.join(ranked)} |\n{'|---' * (1 + len(ranked))}|")
    for name, row in zip(ranked, np.corrcoef(list(ranked.values())), strict=True):
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in row)} |")
    if stated is not None:
        print(
            f"\n|d| of the first line: overfitting p = {stated[0].p:.4f}, difference p = {stated[1].p:.4f}, uncorrected"
        )


if __name__ == "__main__":
    main()
