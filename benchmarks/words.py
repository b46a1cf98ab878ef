"""What a linear model on words tells of a response's safety: the least that `curate judge train` should beat.

    python benchmarks/words.py pairs.parquet [--ridge 1]

Ridge regression of the label on the words and pairs of neighbouring words of a response that occur in three or more
training responses. Prints its accuracy and AUROC on the held-out prompts, and those of refusals by string.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

import curate.base.threads  # noqa: F401  (before torch)
from curate.evaluation.judges.agreement import HARMFUL, auroc
from curate.evaluation.judges.refusals import refuses
from curate.evaluation.judges.training import Responses, responses
from curate.pairs.artefact import read_artefact
from curate.pairs.schema import Split

LEAST = 3  # training responses that a feature occurs in


def features(text: str) -> set[str]:
    words = re.findall(r"[a-z']+", text.lower())
    return {*words, *map(" ".join, pairwise(words))}


def matrix(found: Responses, number: dict[str, int]) -> np.ndarray:
    """1 where a response has a feature, each row of length 1: float64 [responses, features]."""
    rows = np.zeros((len(found.cases), len(number)))
    for row, case in enumerate(found.cases):
        rows[row, [number[one] for one in features(case.response) if one in number]] = 1
    return rows / np.sqrt(np.maximum(rows.sum(1, keepdims=True), 1))


def harmful(found: Responses) -> np.ndarray:
    return np.array([label == HARMFUL for label in found.labels])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--ridge", type=float, default=1.0)
    given = parser.parse_args()
    frame = read_artefact(given.pairs, "pairs")
    learnt, heldout = (responses(frame, side) for side in (Split.TRAIN, Split.HELDOUT))
    seen = Counter(one for case in learnt.cases for one in features(case.response))
    number = {one: place for place, one in enumerate(one for one, count in seen.items() if count >= LEAST)}
    x, held, y = matrix(learnt, number), matrix(heldout, number), harmful(heldout)
    dual = np.linalg.solve(x @ x.T + given.ridge * np.eye(len(x)), 2.0 * harmful(learnt) - 1)
    scores = held @ (x.T @ dual)
    refused = np.array([refuses(case.response) for case in heldout.cases])
    print(f"{len(x):,} training and {len(held):,} held-out responses, {len(number):,} words and pairs of words")
    print(f"words: accuracy {((scores > 0) == y).mean():.3f}, auroc {auroc(scores, y) or float('nan'):.3f}")
    print(f"refusals by string: {refused.mean():.3f} of the responses, accuracy {(~refused == y).mean():.3f}")


if __name__ == "__main__":
    main()
