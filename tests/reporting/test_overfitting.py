"""benchmarks/overfitting.py: the partial correlation against least squares, and what it is matched with."""

import numpy as np
import polars as pl
import pytest
from scripts import script

overfitting = script("benchmarks/overfitting.py")


def made(count, seed):
    """Pairs of three a prompt with lengths, and a number that goes with the first length."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(5, 200, (count, 2))
    frame = pl.DataFrame(
        {
            "prompt_key": [f"q{n // 3}" for n in range(count)],
            "chosen_tokens": lengths[:, 0],
            "rejected_tokens": lengths[:, 1],
        }
    )
    return frame, np.log(lengths[:, 0]) + draw.normal(size=count), draw


def test_length_is_taken_out_of_both(monkeypatch):
    """What goes with the outcome only through length has none of it left; what goes with it besides has."""
    monkeypatch.setattr(overfitting, "DRAWS", 200)
    frame, predictor, draw = made(900, 0)
    through_length = np.log(frame["chosen_tokens"].to_numpy()) * 2 + draw.normal(size=900)
    seeds = draw.multinomial(2, [0.5, 0.5], size=201)
    seeds[0] = 1
    for outcome, expected in ((through_length, 0.0), (through_length + predictor, 0.6)):
        side = overfitting.side_of(frame, np.stack([outcome, outcome + 0.1 * draw.normal(size=900)], axis=1))
        found = overfitting.partial(side, overfitting.ranks(predictor), seeds, draw)
        assert found.value == pytest.approx(expected, abs=0.12)
        rest = [
            column - side.controls @ np.linalg.lstsq(side.controls, column, rcond=None)[0]
            for column in (overfitting.ranks(predictor), side.outcome.mean(axis=1))
        ]
        assert found.value == pytest.approx(np.corrcoef(*rest)[0, 1])
        low, high = np.quantile(found.draws, (0.025, 0.975))
        assert low < found.value < high and (found.p < 0.02) == (expected > 0)


def test_a_pair_is_matched_with_held_out_pairs_of_its_lengths(monkeypatch):
    monkeypatch.setattr(overfitting, "NEAREST", 2)
    heldout = pl.DataFrame({"chosen_tokens": [10, 11, 100, 110], "rejected_tokens": [10, 10, 100, 90]})
    heldout = heldout.with_columns(**{"margin-0": pl.Series([1.0, 3.0, -5.0, -7.0])})
    training = pl.DataFrame({"chosen_tokens": [10, 104], "rejected_tokens": [11, 99], "margin-0": [2.5, 2.5]})
    assert overfitting.overfitted(training, heldout, ["margin-0"])[:, 0].tolist() == [0.5, 8.5]
