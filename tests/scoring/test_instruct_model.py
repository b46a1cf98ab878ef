"""Mutual information on a model that speaks English, and real pairs: what is a measure of length, and what is not.

CURATE_SMOLLM2 names a folder with SmolLM2-135M-Instruct; without it these tests skip.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curate.models.resolve import resolve
from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams, ScoreParams
from curate.scoring.score import score
from curate.training.pairs import draw

SIDES = ("chosen", "rejected")
PAIRS, OTHERS = 24, 4


def responses(scores):
    """log p(y|x), log p(y|null) and tokens of all responses, [2 pairs]."""
    return [np.concatenate([scores[name.format(side)] for side in SIDES]) for name in COLUMNS]


COLUMNS = ("ref_{}_logps", "null_{}_logps", "{}_tokens")


def correlation(values, tokens):
    """Of a summed quantity, per token, with 1/|y|: of the ranks, so that no single response decides."""
    return pl.select(pl.corr(pl.Series(values / tokens), pl.Series(1 / tokens), method="spearman")).item()


@pytest.mark.realdata
@pytest.mark.slow
def test_contrastive_mi_is_no_function_of_length_and_was_one_with_the_own_prompt(realdata, tmp_path):
    folder = os.environ.get("CURATE_SMOLLM2", "")
    if not Path(folder, "config.json").is_file():
        pytest.skip("CURATE_SMOLLM2 names no model folder")
    source = DataParams(source=str(realdata / "pref" / "pku_saferlhf_test_safeunsafe_dev.json"))
    frame = draw(prepare(source, CleaningParams(max_pairs_per_prompt=1)).pairs, PAIRS, 0)
    options = ScoreParams(engine="transformers", null_prompt="contrastive", contrastive_prompts=OTHERS)
    made = score(frame, resolve(folder), options, tmp_path)
    assert list(made.provenance["contrastive"]["prompts"].values()) == [OTHERS]
    reference, null, tokens = responses(made.scores)
    total = reference - null
    assert correlation(total, tokens) < 0.8
    assert (total > np.log(OTHERS + 1)).mean() > 0.5  # beyond what own x in the mean would allow
    # With it: p(y|x) and OTHERS times the mean of the others, over OTHERS + 1.
    before = reference - (np.logaddexp(reference, null + np.log(OTHERS)) - np.log(OTHERS + 1))
    assert before.max() <= np.log(OTHERS + 1) + 1e-9 and (before > np.log(OTHERS + 1) - 0.01).mean() > 0.9
    assert correlation(before, tokens) > 0.9
    assert made.summary["length_explains"]["pairs"] == made.scores.filter(pl.col("split") == "train").height
