"""A random model and pairs that it has scored."""

import gc

import polars as pl
import pytest
from tiny import many, save_model

from curate.models.resolve import resolve
from curate.project import params
from curate.scoring.score import score
from curate.selection.subsets import split
from curate.selection.weights import weigh


@pytest.fixture(scope="session", autouse=True)
def _freeze():
    """Trainer collects garbage once a run: half of a small one's time, with all that is imported here."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("random")))


@pytest.fixture(scope="session")
def weights(model, tmp_path_factory):
    """60 pairs, 48 of them to train on; a third are of harmless queries and have no harmful response."""
    harmless = pl.col("source_row") % 3 == 0
    query_type = pl.when(harmless).then(pl.lit("safe")).otherwise("query_type")
    pairs = many(60).with_columns(query_type=query_type, rejected_safe=harmless)
    scored = score(pairs, model, params.ScoreParams(engine="transformers"), tmp_path_factory.mktemp("store"))
    return weigh(split(scored.scores, params.SplitParams(match=[])), params.WeighParams(alpha=20))
