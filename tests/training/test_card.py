"""The model card: the Hub reads its front matter, a person the rest."""

import re

import polars as pl
import pytest
import yaml

from curate.base import files
from curate.objectives.registry import OBJECTIVES
from curate.project import params
from curate.project.params import ArmParams, TrainParams
from curate.selection import reads
from curate.training import arms, card
from curate.training.record import data_of
from curate.training.train import train

hub = pytest.importorskip("huggingface_hub")
OPTIONS = params.TrainParams(epochs=1, batch_pairs=48, evaluations=1, eval_pairs=4, check_pairs=2, kl_prompts=0)
WEIGHED = {"stage": "weigh", "params": params.WeighParams().model_dump()}
ARM = ArmParams(objective="bdpo", weigh={"alpha": 3.0}, settings={"beta": 0.25}, train={"learning_rate": 1e-4})


@pytest.fixture(scope="module")
def run(weights, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    train(weights, model, OPTIONS, ARM, "mine", folder / "run", folder / "state", WEIGHED, seed=5)
    return folder / "run"


def test_the_hub_reads_its_front_matter(run):
    path = run / "model" / "README.md"
    found = hub.metadata_load(path)
    assert found["library_name"] == "transformers" and found["pipeline_tag"] == "text-generation"
    assert {"curate", "bdpo"} <= set(found["tags"])
    assert "base_model" not in found  # a folder of this machine is no model of the Hub's
    loaded = hub.ModelCard.load(path)
    assert loaded.data.to_dict() == found and loaded.text.strip().startswith("# ")


def test_it_says_what_the_model_was_made_of_and_how_well_it_does(run, model):
    text = (run / "model" / "README.md").read_text()
    metrics = files.read_json(run / "metrics.json")
    assert "`bdpo`" in text and OBJECTIVES["bdpo"].about in text
    assert "Arm `mine`, seed 5, 48 pairs, 1 steps." in text
    assert f"digest `{model.digest}`" in text and "hold harmful text" in text
    for name in ("loss", "rewards/margins", "rewards/accuracies"):
        assert f"| {name} | {metrics['train'][name]:.4f} | {metrics['heldout'][name]:.4f} |" in text
    record = files.read_json(run / "model" / "curate.json")
    assert record["data"]["sources"] == ["tests"]
    assert "- pairs: `tests`" in text and f"digest `{record['data']['digest']}`" in text
    assert "of them 48 training and 12 held-out pairs" in text and "| | 48 train pairs | 12 held-out pairs |" in text


@pytest.mark.parametrize(
    ("scored", "split", "weigh", "says"),
    [
        ({"null_prompt": "bos"}, {"normalisation": "sqrt"}, {"normalisation": "sqrt"}, "null prompt bos, gap sqrt"),
        ({"null_prompt": "empty_user"}, {}, {}, "null prompt empty_user, gap per_token"),
        (
            {"null_prompt": "contrastive"},
            {"normalisation": "per_token"},
            {"normalisation": "residual"},
            "null prompt contrastive, own prompt in the mean, gap per_token for the subsets, residual for the weights",
        ),
    ],
)
def test_it_says_how_mutual_information_was_measured(run, scored, split, weigh, says):
    record, metrics = files.read_json(run / "model" / "curate.json"), files.read_json(run / "metrics.json")
    made = {"stage": "split", "params": split, "from": {"stage": "score", "params": scored}}
    text = card.model_card(record | {"from": {"stage": "weigh", "params": weigh, "from": made}}, metrics)
    assert f"- their mutual information: {says}\n" in text


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        (ArmParams(), "null prompt bos"),
        (ArmParams(objective="bdpo"), "null prompt bos, gap total for the weights"),
        (ArmParams(subset="random"), "null prompt bos, gap sqrt for the subsets"),
        (
            ArmParams(objective="bdpo", subset="random"),
            "null prompt bos, gap sqrt for the subsets, total for the weights",
        ),
    ],
)
def test_it_says_no_more_than_what_the_arm_read(run, weights, arm, says):
    record, metrics = files.read_json(run / "model" / "curate.json"), files.read_json(run / "metrics.json")
    scored = {"stage": "score", "params": {"null_prompt": "bos"}}
    split = {"stage": "split", "params": {"normalisation": "sqrt"}, "from": scored}
    made = {"stage": "weigh", "params": {"normalisation": "total"}, "from": split}
    frame = weights.with_columns(balance_gap=pl.col("pmi_gap"))
    text = card.model_card(record | {"from": reads.read(frame, made, arm)[1]}, metrics)
    assert f"- their mutual information: {says}\n" in text


def test_validation_pairs_are_not_called_held_out(run):
    record, metrics = files.read_json(run / "model" / "curate.json"), files.read_json(run / "metrics.json")
    metrics["heldout"]["kl"] = 1.5
    assert card.model_card(record, metrics).count("held-out") == 3
    record["train"]["validation_fraction"] = 0.25
    text = card.model_card(record, metrics)
    assert "held-out" not in text
    assert "| | 48 train pairs | 12 validation pairs |" in text and "on validation prompts: 1.5000" in text


def test_its_parameters_are_yaml_that_is_read_back(run):
    text = (run / "model" / "README.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    found = yaml.safe_load(block)
    record = files.read_json(run / "model" / "curate.json")
    assert found == {"arm": record["settings"], "train": record["train"]}
    assert ArmParams.model_validate(found["arm"]) == ARM
    assert TrainParams.model_validate(found["train"]) == ARM.training(OPTIONS)


def test_the_digest_is_of_the_pairs_whatever_their_order(weights):
    def digest(frame, **arm):
        arm = ArmParams(**arm)
        return data_of(arms.select(frame, arm, arms.settings(arm, OPTIONS), params.WeighParams()))["digest"]

    whole = digest(weights)
    assert digest(weights.sort("pair_id", descending=True)) == whole == digest(weights, objective="bdpo")
    assert digest(weights, subset="random") != whole
    first = weights.filter(pl.col("split") == "heldout")["pair_id"][0]
    assert digest(weights.filter(pl.col("pair_id") != first)) != whole


@pytest.mark.parametrize(
    ("name", "commit", "base"), [("owner/name", "abc", "owner/name"), ("owner/name", None, None), ("folder", "a", None)]
)
def test_the_base_model_is_named_where_it_is_the_hubs(run, name, commit, base):
    record = files.read_json(run / "model" / "curate.json")
    record["model"] |= {"name": name, "commit": commit}
    text = card.model_card(record, files.read_json(run / "metrics.json"))
    assert hub.ModelCard(text).data.to_dict().get("base_model") == base


@pytest.mark.parametrize("objective", params.OBJECTIVES)
def test_every_objective_has_one(run, objective):
    record = files.read_json(run / "model" / "curate.json")
    record["settings"] = {"objective": objective, "settings": {}}
    text = card.model_card(record, files.read_json(run / "metrics.json"))
    assert objective in hub.ModelCard(text).data.tags and OBJECTIVES[objective].about in text
