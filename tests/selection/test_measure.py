"""What a file's provenance says of its MI."""

import pytest

from curate.project.params import SplitParams, WeighParams
from curate.scoring.null_prompts import OTHERS
from curate.selection import measure, subsets, weights


def scored(null_prompt, **more):
    return {"stage": "score", "params": {"null_prompt": null_prompt}} | more


ALL = {"contrastive": {"mean_over": "other prompts", "prompts": {"safe": 4}}}
TRAINING = {"contrastive": {"mean_over": OTHERS, "prompts": {"safe": 4}}}


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (scored("empty_user"), "empty_user"),
        (scored("contrastive", **TRAINING), "contrastive"),
        (scored("contrastive", **ALL), measure.HELDOUT_IN_THE_MEAN),
        (scored("contrastive"), measure.OWN_IN_THE_MEAN),
        ({"stage": "weigh", "from": {"stage": "split", "from": scored("contrastive")}}, measure.OWN_IN_THE_MEAN),
        ({}, None),
        (None, None),
        ({"stage": "prepare"}, None),
    ],
)
def test_scores_with_the_own_prompt_or_held_out_ones_in_the_mean_are_told_apart(record, name):
    assert measure.null_prompt(record) == name
    assert measure.warnings(record) == ([measure.WARNINGS[name]] if name in measure.WARNINGS else [])


def test_weigh_goes_by_the_form_of_the_split_unless_told_otherwise():
    split = subsets.provenance(SplitParams(normalisation="sqrt"), scored("empty_user"))
    assert weights.settled(WeighParams(), split).normalisation == "sqrt"
    assert weights.settled(WeighParams(normalisation="total"), split).normalisation == "total"
    made = weights.provenance(WeighParams(), split)
    assert made["params"]["normalisation"] == "sqrt"  # what it was, not where it came from
    assert measure.forms(made) == {"subset_gap": "sqrt", "balance_gap": "sqrt"}
    assert measure.forms(weights.provenance(WeighParams(normalisation="total"), split))["balance_gap"] == "total"


def test_files_of_before_are_per_token():
    old = {"stage": "split", "params": {"fraction": 0.3}, "from": scored("empty_user")}
    for before, forms in ((old, {"subset_gap": "per_token"}), (scored("empty_user"), {}), ({}, {})):
        assert measure.forms(before) == forms and weights.settled(WeighParams(), before).normalisation == "per_token"
    summary = {"length_explains": {"gap": 0.5, "abs_gap": None, "pairs": 10}}
    assert len(measure.warnings(old, summary)) == 1 and "50%" in measure.warnings(old, summary)[0]
