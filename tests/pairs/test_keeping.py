"""A column that was kept goes through every later stage."""

import numpy as np
import polars as pl

from curate.pairs.artefact import read_artefact
from curate.pairs.schema import STAGES
from curate.project.params import SplitParams, WeighParams
from curate.scoring.scorer import _assemble
from curate.selection import subsets, weights
from tests.artefacts import frame


def test_later_stages_keep_it(tmp_path):
    whole = frame(80)
    pairs = whole.select(list(STAGES["pairs"])).with_columns(topic=pl.lit("x"), n=pl.int_range(80))
    sums = np.full((80, 2), -3.0)
    scores = _assemble(pairs, [[[1, 2]] * 80] * 3, sums, sums[..., None] - 1)
    assert scores.columns[-len(STAGES["scores"]) :] == list(STAGES["scores"])
    scored = whole.select(list(STAGES["pairs"] | STAGES["scores"])).with_columns(pairs.select("topic", "n"))
    weighted = weights.weigh(subsets.split(scored, SplitParams()), WeighParams())
    for made in (scores, weighted):
        assert made.select("topic", "n").equals(pairs.select("topic", "n"))
    weighted.write_parquet(tmp_path / "w.parquet")
    assert read_artefact(tmp_path / "w.parquet", *STAGES).select("topic", "n").equals(pairs.select("topic", "n"))
