"""Every preset is what `presets/write.py` writes, and runs the arms that docs/experiments.md names."""

import re
from pathlib import Path

import pytest
from scripts import script

from curate.project import params

ROOT = Path(__file__).resolve().parents[2]
write = script("presets/write.py")


def test_the_folder_holds_what_the_table_says():
    assert {path.stem for path in (ROOT / "presets").glob("*.yaml")} == set(write.presets())


@pytest.mark.parametrize("name", write.presets())
def test_a_preset_is_up_to_date(name):
    assert (ROOT / "presets" / f"{name}.yaml").read_text() == write.text(name), "run python presets/write.py"


def test_every_arm_of_the_documented_table_is_there():
    named = set(re.findall(r"`((?:dpo|bdpo|cdpo|w-door)[a-z0-9-]*)`", (ROOT / "docs" / "experiments.md").read_text()))
    arms = params.load(ROOT / "presets" / "sample-experiments.yaml").arms
    assert named <= set(arms) and len(named) > 10


def test_figure_5_differs_in_alpha_alone():
    loaded = params.load(ROOT / "presets" / "sample-experiments.yaml")
    alphas = {loaded.arms[name].weighing(loaded.weigh).alpha for name in [*write.ALPHAS, "bdpo"]}
    assert alphas == {0.0, 0.5, 1.0, 1.5, 2.0, 2.5}
    assert all(loaded.arms[name].objective == "bdpo" for name in write.ALPHAS)


def test_the_study_searches_the_rates_of_every_objective_alike_and_holds_what_is_read_apart():
    study, search = (params.load(ROOT / "presets" / f"smollm2-pku{part}.yaml") for part in ("", "-search"))
    tried = {}
    for name in search.train.arms:
        own = search.arms[name].training(search.train)
        tried.setdefault(search.arms[name].objective, set()).add(own.learning_rate)
        assert own.validation_fraction > 0
    assert set(map(frozenset, tried.values())) == {frozenset(write.RATES)}
    for name in study.train.arms:
        arm = study.arms[name]
        own = arm.training(study.train)
        assert own.learning_rate == write.SEARCHED[arm.objective] and own.learning_rate in tried[arm.objective]
        assert own.validation_fraction == 0 and len(study.train.seeds_of(name)) >= (5 if name in ("dpo", "bdpo") else 3)
    # The steps before training are the same: what one preset has made, the other goes on from.
    for section in ("model", "data", "cleaning", "score", "split", "weigh", "arms"):
        assert getattr(study, section) == getattr(search, section), section


def test_the_papers_presets_have_their_data_and_models():
    models = {name: params.load(ROOT / "presets" / f"{name}.yaml") for name in write.presets() if "paper" in name}
    assert {loaded.model.name for loaded in models.values()} == {
        "Qwen/Qwen2-7B-Instruct",
        "mistralai/Mistral-7B-Instruct-v0.3",
        "lmsys/vicuna-7b-v1.5",
    }
    for loaded in models.values():
        assert loaded.data.source == "hub:PKU-Alignment/PKU-SafeRLHF" and len(loaded.train.seeds) >= 3
        kept = loaded.cleaning.max_pairs_per_query_type * (1 - loaded.data.heldout_fraction)
        assert kept == pytest.approx(10_000, rel=0.01)
