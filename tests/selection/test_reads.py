"""What an arm reads of the weights: what it does not read changes nothing of it."""

import polars as pl
import pytest
from artefacts import frame

from curate.base.errors import InputError
from curate.project.params import ArmParams, TrainParams, WeighParams
from curate.selection import measure, subsets
from curate.selection.reads import digests, read
from curate.selection.weights import provenance, weigh
from curate.training import arms

ARMS = {
    "dpo": ArmParams(),
    "dpo-balanced": ArmParams(subset="balanced"),
    "bdpo": ArmParams(objective="bdpo"),
    "bw": ArmParams(objective="bdpo", scaling_factor=False),
    "alpha 0": ArmParams(objective="bdpo", balance_weight=False, scaling_factor=False),
    "own alpha": ArmParams(objective="bdpo", weigh={"alpha": 0.5}),
    "own form": ArmParams(objective="bdpo", weigh={"normalisation": "total"}),
}
SCORED = {"stage": "score", "params": {"null_prompt": "bos"}}


def weighed(split=None, changes=None, pairs=None, **options):
    """The frame and provenance that the stage `weigh` would write."""
    params = WeighParams(**options)
    before = {"stage": "split", "params": {"seed": 0} | (split or {}), "from": SCORED}
    params = params.model_copy(update={"normalisation": measure.PER_TOKEN})
    given = (frame(60) if pairs is None else pairs).drop("balance_gap", strict=False).with_columns(**(changes or {}))
    return weigh(given, params), provenance(params, before)


def changed(*one, **other):
    before, after = digests(*weighed(), ARMS), digests(*weighed(*one, **other), ARMS)
    return {name for name in ARMS if before[name] != after[name]}


def test_the_same_is_the_same():
    assert changed() == set()
    found = digests(*weighed(), ARMS)
    assert found["dpo"] == found["alpha 0"]  # no weight reaches its loss
    assert len(set(found.values())) == len(ARMS) - 1


@pytest.mark.parametrize(
    ("options", "arms"),
    [
        ({"alpha": 2.0}, {"bdpo", "bw", "own form"}),
        ({"scaling": "none"}, {"bdpo", "own alpha", "own form"}),
        ({"scaling": "constant", "constant": 0.7}, {"bdpo", "own alpha", "own form"}),
        ({"split": {"seed": 1}}, {"dpo-balanced"}),
        ({"changes": {"balanced": ~pl.col("balanced")}}, {"dpo-balanced"}),
        ({"changes": {"imbalanced": ~pl.col("imbalanced")}}, set()),
        ({"changes": {"ref_chosen_logps": pl.col("ref_chosen_logps") - 1e-9}}, set(ARMS)),
        ({"changes": {"chosen_safe": ~pl.col("chosen_safe")}}, set(ARMS)),
        ({"pairs": frame(60).reverse()}, set(ARMS)),
        ({"pairs": frame(59)}, set(ARMS)),
    ],
)
def test_an_arm_is_another_where_what_it_reads_is(options, arms):
    assert changed(**options) == arms


def test_nothing_else_is_handed_to_the_training():
    weights, made = weighed(split={"seed": 3})
    pairs, before = read(weights, made, ARMS["dpo"])
    assert before == SCORED
    assert not {*subsets.SUBSETS, "chosen_weight", "rejected_weight", "pair_scale", "balance_gap"} & {*pairs.columns}
    pairs, before = read(weights, made, ARMS["dpo-balanced"])
    assert before["params"] == {"seed": 3} and "balanced" in pairs.columns and "random" not in pairs.columns
    pairs, before = read(weights, made, ARMS["bdpo"])
    assert (before["stage"], before["from"]) == ("weigh", SCORED) and pairs["pair_scale"].equals(weights["pair_scale"])


@pytest.mark.parametrize("name", ARMS)
def test_the_training_pairs_are_those_of_the_whole_file(name):
    weights, made = weighed(alpha=2.0)
    arm = ARMS[name]
    settings, shared = arms.settings(arm, TrainParams()), WeighParams.model_validate(made["params"])
    pairs, before = read(weights, made, arm)
    own = WeighParams.model_validate(before["params"]) if before["stage"] == "weigh" else WeighParams()
    whole, part = (arms.select(one, arm, settings, p) for one, p in ((weights, shared), (pairs, own)))
    columns = ["pair_id", "chosen_weight", "rejected_weight", "pair_scale", "harmful", "ref_chosen_logps"]
    for side in ("training", "heldout"):
        assert getattr(part, side).select(columns).equals(getattr(whole, side).select(columns)), side


def test_an_arms_own_weights_are_those_of_its_params():
    weights, made = weighed()
    pairs, before = read(weights, made, ARMS["own alpha"])
    assert before["params"] == made["params"] | {"alpha": 0.5}
    assert pairs["chosen_weight"].equals(weighed(alpha=0.5)[0]["chosen_weight"])


@pytest.mark.parametrize("made", [{}, {"stage": "weigh", "params": {"alpha": 1.0, "gone": 2}}], ids=["none", "other"])
def test_weights_of_unknown_making(made):
    """Their settings are not taken to be the defaults, but where nothing is weighed anew nothing is asked."""
    weights, _ = weighed()
    with pytest.raises(InputError, match="weigh them again"):
        read(weights, made, ARMS["own alpha"])
    assert read(weights, made, ARMS["dpo"])[0].height == weights.height
