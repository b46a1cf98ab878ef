"""benchmarks/sides.py: rewards of both responses by the sign of d, over the seeds and pairs that both arms have."""

import numpy as np
import polars as pl
import pytest
from scripts import script

sides = script("benchmarks/sides.py")


def rewards(pairs, chosen, rejected):
    return pl.DataFrame({"pair_id": pairs, "chosen_reward": chosen, "rejected_reward": rejected})


def test_each_sign_and_response_has_its_own_mean():
    frame = pl.DataFrame(
        {
            "pair_id": ["a", "b", "c", "d"],
            "prompt_key": ["p", "q", "r", "s"],
            "split": ["train", "train", "train", "heldout"],
            "pmi_gap": [-1.0, 1.0, 2.0, 0.5],
        }
    )
    ours = {"seed-0": rewards(["a", "b", "c", "d"], [1.0, 0.5, 0.5, 0.0], [0.0, -2.0, -4.0, -1.0])}
    theirs = {
        "seed-0": rewards(["d", "c", "b", "a"], [0.0, 0.5, 0.5, 0.25], [-1.0, -3.0, -1.0, 0.0]),
        "seed-1": rewards(["a"], [9.0], [9.0]),  # the other arm has no such run
    }
    lines = sides.rows(frame, ours, theirs)
    assert lines[0] == "| train | d < 0 | 1 | chosen | +0.25 | +1.00 | +0.75 [+0.75, +0.75] |"
    assert lines[3] == "| train | d > 0 | 2 | rejected | -2.00 | -3.00 | -1.00 [-1.00, -1.00] |"
    assert lines[4].startswith("| train | all | 3 | chosen | +0.42 | +0.67 | +0.25 [")
    assert len(lines) == 10 and lines[-1] == "| heldout | all | 1 | rejected | -1.00 | -1.00 | +0.00 [+0.00, +0.00] |"


def test_pairs_of_one_prompt_and_runs_of_one_seed_are_drawn_together():
    draw = np.random.default_rng(0)
    effect = draw.normal(size=(100, 1)) + draw.normal(size=(1, 4))  # of the prompt and of the seed
    at, low, high = sides.difference(np.repeat(np.arange(100), 3), np.repeat(effect, 3, axis=0), np.zeros((300, 4)))
    assert at == pytest.approx(effect.mean())
    spread = np.sqrt(effect.mean(0).var() / 4 + effect.mean(1).var() / 100)
    assert (high - low) / 3.92 == pytest.approx(spread, rel=0.15)
