"""What an arm does, and what is refused before anything loads."""

import math
from pathlib import Path
from unittest.mock import ANY

import polars as pl
import pytest
from accelerate.data_loader import SeedableRandomSampler

from curate.base import files
from curate.base.errors import InputError, UsageError
from curate.models.resolve import Model
from curate.objectives.registry import OBJECTIVES
from curate.pairs.schema import RATINGS
from curate.project import installed, params
from curate.project.params import ArmParams, TrainParams, WeighParams
from curate.selection import relabelling
from curate.selection.weights import weigh
from curate.training import aligned, arms, build, code
from curate.training.arguments import arguments
from curate.training.plan import plan as plan_of
from curate.training.train import train

SHARED = TrainParams(beta=0.3)
ARMS = params.DEFAULT_ARMS
WEIGH = WeighParams(alpha=20)  # as the fixture's
NOWHERE = Model("nowhere", None, Path("/nowhere"), "0", 256)


def settings(shared=SHARED, **arm):
    return arms.settings(ArmParams(**arm), shared)


def select(frame, arm=None, **options):
    arm = arm or ArmParams(**options)
    return arms.select(frame, arm, arms.settings(arm, SHARED), WEIGH)


@pytest.fixture(scope="module")
def rated(weights):
    """Reward and cost by hash: some pairs turn at lambda = 1, others do not."""
    return weights.with_columns(
        pl.col("pair_id").hash(seed).mod(100).cast(pl.Float64).truediv(10).alias(name)
        for seed, name in enumerate(RATINGS)
    )


def test_a_plan_has_every_setting_once():
    assert settings().loss == {"beta": 0.3} and settings().data == {}
    assert settings(settings={"beta": 0.7}).loss == {"beta": 0.7}
    simpo = settings(objective="simpo", settings={"gamma_beta_ratio": 0.1})
    assert simpo.loss == {"beta": 2.0, "gamma_beta_ratio": 0.1}
    mixed = settings(objective="w-door", settings={"a": 0.4, "tau": 2})
    assert mixed.loss == {"a": 0.4, "b": 0.5} and mixed.data == {"longest": 100.0, "tau": 2.0}
    assert mixed.objective is OBJECTIVES["w-door"]
    assert settings(objective="cdpo").record() == {
        "beta": 0.3,
        "lambda": 1.0,
        "cost_limit": None,
        "eta": 0.1,
        "rounds": 200.0,
    }


@pytest.mark.parametrize("objective", params.OBJECTIVES)
def test_a_setting_that_the_objective_does_not_have(objective):
    known = set(OBJECTIVES[objective].settings) | set(arms.DATA_SETTINGS.get(objective, {}))
    with pytest.raises(UsageError, match="no such setting") as caught:
        settings(objective=objective, settings={"gama": 1.0})
    assert caught.value.details["field"] == "settings.gama"
    assert caught.value.details["expected"] == ", ".join(sorted(known))
    good = dict.fromkeys(known - {"lambda"}, 1.0) | ({"a": 0.5} if "a" in known else {})
    settings(objective=objective, settings=good)


OUT_OF_BOUNDS = {
    "beta": (0.0, -0.1),
    "alpha": (-1.0,),
    "gamma_beta_ratio": (-0.5,),
    "delta": (-10.0,),
    "tau": (0.0, -1.0),
    "a": (0.0, 1.0, -0.2),
    "b": (0.0, -0.5),
    "longest": (0.0, 0.5, 1.5, -1.0),
    "lambda": (-1.0,),
    "cost_limit": (),
    "eta": (0.0, -0.1),
    "rounds": (0.0, 1.5),
}


@pytest.mark.parametrize("objective", params.OBJECTIVES)
def test_a_setting_out_of_its_bounds(objective):
    """Whatever an objective may be told has bounds; no division by zero, no temperature that turns a loss round."""
    known = set(OBJECTIVES[objective].settings) | set(arms.DATA_SETTINGS.get(objective, {}))
    for name in known:
        for value in OUT_OF_BOUNDS[name]:
            with pytest.raises(UsageError, match="out of bounds") as caught:
                settings(objective=objective, settings={name: value})
            assert caught.value.details["field"] == f"settings.{name}"
            assert caught.value.details["found"] == f"{value:g}"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"lambda": 0.4, "cost_limit": 0.0}, "lambda"),
        ({"eta": 0.2}, "eta"),
        ({"lambda": 0.4, "rounds": 100.0}, "rounds"),
    ],
)
def test_no_setting_goes_unread(given, field):
    """cdpo's lambda is given, or found for a cost limit."""
    with pytest.raises(UsageError, match="would change nothing") as caught:
        settings(objective="cdpo", settings=given)
    assert caught.value.details["field"] == f"settings.{field}"
    assert settings(objective="cdpo", settings={"cost_limit": 0.0, "eta": 0.2, "rounds": 9.0}).data["eta"] == 0.2


def test_arms_select_pairs_and_weights(weights):
    everything, heldout, record = select(weights, ARMS["dpo"])
    assert everything.height == weights.filter(pl.col("split") == "train").height and record == {}
    assert everything["chosen_weight"].to_list() == [1.0] * everything.height
    balanced, same, _ = select(weights, ARMS["dpo-balanced"])
    assert balanced.height == weights["balanced"].sum() and same.equals(heldout)
    training = weights.filter(pl.col("split") == "train")
    both = select(weights, ARMS["bdpo"]).training
    for name in ("chosen_weight", "rejected_weight", "pair_scale"):
        assert both[name].equals(training[name]) and both[name].n_unique() > 1
    scale_only = select(weights, ARMS["sf"]).training
    assert scale_only["rejected_weight"].to_list() == [1.0] * scale_only.height
    assert scale_only["pair_scale"].equals(training["pair_scale"])
    weights_only = select(weights, ARMS["bw"]).training
    assert weights_only["pair_scale"].to_list() == [1.0] * scale_only.height
    assert weights_only["rejected_weight"].equals(training["rejected_weight"])
    with pytest.raises(InputError, match="no held-out pairs") as caught:
        select(training, ARMS["dpo-balanced"])
    assert "subset" not in str(caught.value)  # another one has no more of them
    with pytest.raises(InputError, match="no training pairs"):
        select(weights.with_columns(balanced=pl.lit(False)), ARMS["dpo-balanced"])


def test_an_arm_weighs_as_it_says(weights):
    """What differs from the file's weighing, and only that; alpha 20 stays."""
    arm = ArmParams(objective="bdpo", weigh={"scheme": "power", "direction": "higher_mi_higher_weight"})
    expected = weigh(weights, WeighParams(alpha=20, scheme="power", direction="higher_mi_higher_weight"))
    found = select(weights, arm)
    for frame, side in ((found.training, "train"), (found.heldout, "heldout")):
        rows = expected.filter(pl.col("split") == side)
        for name in ("chosen_weight", "rejected_weight", "pair_scale"):
            assert frame[name].equals(rows[name])
    assert not expected["chosen_weight"].equals(weights["chosen_weight"])
    assert select(weights, ArmParams(objective="bdpo", weigh={"alpha": 20.0})).training.equals(
        select(weights, ARMS["bdpo"]).training
    )


def test_an_arm_has_a_form_of_the_gap_of_its_own(weights):
    """Anew from the sums; and where the file's form is another than the default, an arm that names none keeps it."""
    for form in ("total", "residual"):
        found = select(weights, ArmParams(objective="bdpo", weigh={"normalisation": form})).training
        expected = weigh(weights, WeighParams(alpha=20, normalisation=form)).filter(pl.col("split") == "train")
        assert found["chosen_weight"].equals(expected["chosen_weight"])
        assert not found["chosen_weight"].equals(select(weights, ARMS["bdpo"]).training["chosen_weight"])
    made = weights.with_columns(balance_gap=pl.col("pmi_gap") * 0.5)
    arm = ArmParams(objective="bdpo", weigh={"alpha": 3.0})
    shared = WeighParams(alpha=20, normalisation="sqrt")
    found = arms.select(made, arm, arms.settings(arm, TrainParams()), shared).training
    halved = weigh(weights.with_columns(pmi_gap=pl.col("pmi_gap") * 0.5), WeighParams(alpha=3.0))
    assert found["chosen_weight"].equals(halved.filter(pl.col("split") == "train")["chosen_weight"])
    with pytest.raises(ValueError, match="as_split is what an arm has"):
        ArmParams(objective="bdpo", weigh={"normalisation": "as_split"})


def test_safedpo_relabels_its_training_pairs(weights):
    turned = relabelling.swap(weights, pl.col("source_row") % 2 == 1).with_columns(
        rejected_safe=pl.when(pl.col("source_row") == 0).then(False).otherwise("rejected_safe"),
        chosen_safe=pl.when(pl.col("source_row") == 0).then(False).otherwise("chosen_safe"),
    )
    found, heldout, record = select(turned, objective="safedpo")
    assert record["dropped"] == 1 and record["swapped"] > 5
    assert found["chosen_safe"].all() and found.height == 47
    # What is held out measures every arm alike.
    assert heldout["pair_id"].equals(turned.filter(pl.col("split") == "heldout")["pair_id"])
    assert heldout["chosen_safe"].equals(turned.filter(pl.col("split") == "heldout")["chosen_safe"])


def test_cdpo_at_a_price(rated):
    free, paid = (select(rated, objective="cdpo", settings={"lambda": price}) for price in (0.0, 2.0))
    training = rated.filter(pl.col("split") == "train")
    for found, price in ((free, 0.0), (paid, 2.0)):
        expected = relabelling.cdpo(training, price)
        assert (
            found.training.select(expected.frame.columns)
            .drop("chosen_weight", "rejected_weight", "pair_scale")
            .equals(expected.frame.drop("chosen_weight", "rejected_weight", "pair_scale"))
        )
        assert found.record == {"lambda": price, "swapped": expected.swapped, "dropped": 0}
    assert free.record["swapped"] != paid.record["swapped"]


def test_cdpo_finds_the_price_of_a_cost_limit(rated, capsys):
    training = rated.filter(pl.col("split") == "train")
    free = relabelling.expected_ratings(training, 0.0)[1]
    lowest = training.select(pl.min_horizontal("chosen_cost", "rejected_cost").mean()).item()
    limit = (free + lowest) / 2
    found = select(rated, objective="cdpo", settings={"cost_limit": limit, "eta": 0.2, "rounds": 400})
    assert found.record["lambda"] > 0 and found.record["cost_limit"] == limit
    assert found.record["expected_cost"] == pytest.approx(limit, abs=1e-3)
    assert relabelling.expected_ratings(training, found.record["lambda"])[1] == found.record["expected_cost"]
    assert found.record["swapped"] == relabelling.cdpo(training, found.record["lambda"]).swapped
    assert f"lambda {found.record['lambda']:.3f}" in capsys.readouterr().err
    with pytest.raises(InputError, match="no lambda keeps the cost limit"):
        select(rated, objective="cdpo", settings={"cost_limit": lowest - 1})


def test_door_counts_as_harmful_what_answers_a_harmful_query(weights):
    """A rejected response to a harmful query, unless it is known to be safe."""
    frame = weights.head(12).with_columns(
        query_type=pl.Series(["unsafe", "safe", "unknown"] * 4),
        rejected_safe=pl.Series([None] * 3 + [False] * 3 + [True] * 3 + [False] * 3, dtype=pl.Boolean),
    )
    frame = pl.concat([frame.with_columns(split=pl.lit(side)) for side in ("train", "heldout")])
    found = select(frame, objective="door").training
    assert found["harmful"].to_list() == [1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]


SIDES = [(True, False), (False, True), (False, False), (False, None), (None, False), (True, True)]


@pytest.mark.parametrize("objective", ["door", "w-door"])
def test_door_neither_refuses_with_an_unsafe_response_nor_trains_it_as_benign(weights, objective, capsys):
    """Turned round where the other is safe, else left out, counted and said; held-out pairs stay as they came."""
    labels = {name: [pair[side] for pair in SIDES] * 2 for side, name in enumerate(("chosen_safe", "rejected_safe"))}
    frame = weights.head(12).with_columns(
        query_type=pl.Series(["unsafe"] * 6 + ["unknown"] * 6),
        **{name: pl.Series(values, dtype=pl.Boolean) for name, values in labels.items()},
    )
    frame = pl.concat([frame.with_columns(split=pl.lit(side)) for side in ("train", "heldout")])
    training, heldout, record = select(frame, objective=objective)
    assert record == {"swapped": 2, "dropped": 4}
    assert "2 pairs whose chosen response is unsafe are turned round, 4 left out" in capsys.readouterr().err
    assert training["chosen_safe"].to_list() == [True, True, None, True] * 2
    assert training["harmful"].to_list() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert training["chosen"][1].equals(frame["rejected"][1]) and training["relabelled"].sum() == 2
    for side in ("chosen", "rejected"):
        assert heldout[f"{side}_safe"].to_list() == labels[f"{side}_safe"]


def test_w_doors_aligned_model_prefers_no_unsafe_response(weights, model, tmp_path):
    given = []
    frame = relabelling.swap(weights, pl.col("source_row") % 2 == 1)
    options = (SHARED, ArmParams(objective="w-door"), "arm", tmp_path / "run", tmp_path / "state")
    with pytest.raises(InputError):  # nothing was trained
        aligned.aligned_model(plan_of(frame, model, *options), lambda frame, *_: given.append(frame))
    assert given[0]["chosen_safe"].all() and given[0].height == weights.height


def test_an_arm_weighs_with_the_params_of_the_file(weights, tmp_path, monkeypatch):
    """Those of its provenance, where it has keys of its own to put in their place; else none are asked for."""
    given = []
    monkeypatch.setattr(arms, "select", lambda *options: given.append(options[3]) or 1 / 0)
    own = ArmParams(objective="bdpo", weigh={"scheme": "power"})
    record = {"stage": "weigh", "params": {"alpha": 7.0}}
    for arm, provenance in ((own, record), (ARMS["bdpo"], record), (ARMS["bdpo"], {})):
        with pytest.raises(ZeroDivisionError):
            train(weights, NOWHERE, SHARED, arm, "arm", tmp_path / "run", tmp_path / "state", provenance)
    assert given == [WeighParams(alpha=7.0), WeighParams(), WeighParams()]


@pytest.mark.parametrize("provenance", [{}, {"stage": "other", "params": {}}, {"stage": "weigh", "params": {"old": 1}}])
def test_an_arm_that_weighs_anew_must_know_how_the_pairs_were_weighed(weights, tmp_path, provenance):
    own = ArmParams(objective="bdpo", weigh={"scheme": "power"})
    with pytest.raises(InputError, match="how these pairs were weighed is not known"):
        train(weights, NOWHERE, SHARED, own, "arm", tmp_path / "run", tmp_path / "state", provenance)


REFUSED = {
    "an unknown setting": ({"settings": {"gamma": 1.0}}, {}, UsageError, "no such setting"),
    "safedpo without labels": (
        {"objective": "safedpo"},
        {"chosen_safe": pl.lit(None, dtype=pl.Boolean)},
        InputError,
        "safety labels that SafeDPO relabels by are missing",
    ),
    "safedpo without labels of held-out pairs": (
        {"objective": "safedpo"},
        {"rejected_safe": pl.when(pl.col("split") == "train").then("rejected_safe")},
        InputError,
        "safety labels that SafeDPO relabels by are missing",
    ),
    "door with every chosen response unsafe": (
        {"objective": "door"},
        {"chosen_safe": pl.lit(False), "rejected_safe": pl.lit(False)},
        InputError,
        "left no training pair",
    ),
    "safedpo with nothing safe": (
        {"objective": "safedpo"},
        {"chosen_safe": pl.lit(False), "rejected_safe": pl.lit(False)},
        InputError,
        "left no training pair",
    ),
    "cdpo without ratings": ({"objective": "cdpo"}, {}, InputError, "ratings that C-DPO relabels by are missing"),
    "cdpo with a hole": (
        {"objective": "cdpo"},
        dict.fromkeys(RATINGS, pl.when(pl.col("source_row") != 1).then(0.0)),
        InputError,
        "ratings that C-DPO relabels by are missing",
    ),
    "a negative lambda": (
        {"objective": "cdpo", "settings": {"lambda": -1.0}},
        dict.fromkeys(RATINGS, pl.lit(0.0)),
        UsageError,
        "out of bounds",
    ),
    **{
        f"{name} with {next(iter(columns))} otherwise": ({"objective": name}, columns, InputError, "to be harmful")
        for name, columns in (
            ("door", {"query_type": pl.lit("safe")}),
            ("w-door", {"query_type": pl.lit("unknown")}),
            ("door", {"rejected_safe": pl.lit(True)}),
        )
    },
    "a folder that is not ours": ({}, {}, Exception, "would lose what it holds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_loads(case, weights, tmp_path, monkeypatch):
    arm, columns, kind, says = REFUSED[case]

    def never(*_, **__):
        raise AssertionError("loaded")

    for name in ("load_tokenizer", "load_model", "make_policy"):
        monkeypatch.setattr(build, name, never)
    if "folder" in case:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "precious").write_text("")
    with pytest.raises(kind, match=says):
        frame = weights.with_columns(**columns)
        train(frame, NOWHERE, SHARED, ArmParams(**arm), "arm", tmp_path / "run", tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_w_door_trains_its_aligned_model_once(weights, model, tmp_path, capsys, monkeypatch):
    """A DPO arm of the same pairs and params, kept; with or without its training the same bytes."""
    options = TrainParams(
        epochs=1,
        batch_pairs=16,
        evaluations=1,
        eval_pairs=8,
        check_pairs=4,
        checkpoints=1,
        lora_rank=2,
        kl_prompts=2,
        kl_tokens=2,
    )
    arm = ArmParams(objective="w-door", subset="imbalanced", settings={"tau": 1.0})
    state, code_digest = tmp_path / "state", code.code_digest()
    train(weights, model, options, arm, "arm", tmp_path / "one", state)
    assert capsys.readouterr().err.count("train dpo: ") == 2
    (aligned,) = (state / "aligned").iterdir()
    before = (aligned / "metrics.json").stat().st_mtime_ns
    heldout = [files.read_json(folder / "metrics.json")["heldout"] for folder in (aligned, tmp_path / "one")]
    assert heldout[0]["kl"] is None and heldout[1]["kl"] > 0
    train(weights, model, options, arm, "arm", tmp_path / "two", state)
    assert "train dpo" not in capsys.readouterr().err
    assert (aligned / "metrics.json").stat().st_mtime_ns == before
    train(weights, model, options, ARMS["dpo-imbalanced"], "dpo", tmp_path / "dpo", state)
    file = "model/model.safetensors"
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert (aligned / file).read_bytes() == (tmp_path / "dpo" / file).read_bytes()
    # Another tau needs no other model; its weights differ.
    arm = ArmParams(objective="w-door", subset="imbalanced", settings={"tau": 0.1})
    train(weights, model, options, arm, "arm", tmp_path / "three", state)
    assert len(list((state / "aligned").iterdir())) == 1
    assert (tmp_path / "three" / file).read_bytes() != (tmp_path / "one" / file).read_bytes()
    # Another code does: what the former made goes, of the same settings alone.
    stale = state / "checkpoints" / aligned.name
    for folder in (stale, other := state / "aligned" / "0123456789abcdef-0123456789abcdef"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(code, "code_digest", lambda: "f" * 16)
    capsys.readouterr()
    train(weights, model, options, arm, "arm", tmp_path / "four", state)
    assert capsys.readouterr().err.count("train dpo: ") == 2
    anew = aligned.with_name(aligned.name.replace(code_digest, "f" * 16))
    assert set((state / "aligned").iterdir()) == {anew, other} and not stale.exists()
    assert (tmp_path / "four" / file).read_bytes() == (tmp_path / "three" / file).read_bytes()


def test_a_key_is_of_the_code_too(weights, monkeypatch):
    """Two digests, of what was asked for and of what computes it: checkpoints of another code are another folder."""

    def key(**changes):
        given = (SHARED.model_copy(update=changes), ArmParams(), "arm", Path("run"), Path("state"))
        return plan_of(weights, NOWHERE, *given).key

    settings, of_code = key().split("-")
    assert key(beta=0.2).split("-") == [ANY, of_code] and key(beta=0.2) != key() == key(report_to=["x"])
    monkeypatch.setattr(code, "version", lambda name: "9" if name == "torch" else "0")
    code.code_digest.cache_clear()
    first = key()
    assert first.startswith(f"{settings}-") and first != f"{settings}-{of_code}"
    monkeypatch.setattr(installed, "digest", lambda deps: str(sorted(deps)))
    code.code_digest.cache_clear()
    assert key().startswith(f"{settings}-") and key() != first
    code.code_digest.cache_clear()


def test_a_key_is_of_the_safety_labels_too(weights):
    """SafeDPO's loss reads them: a run of other labels does not go on from this one's checkpoints."""

    def key(frame):
        return plan_of(frame, NOWHERE, SHARED, ArmParams(objective="safedpo"), "arm", Path("run"), Path("state")).key

    safe = pl.when(pl.col("source_row") == 1).then(True).otherwise("rejected_safe")
    assert key(weights) == key(weights) != key(weights.with_columns(rejected_safe=safe))


def test_a_key_is_of_the_tokenizer_too(weights, tmp_path):
    """Another chat template makes other tokens of the same pairs: an interrupted run does not go on with them."""

    def key():
        return plan_of(weights, model, SHARED, ArmParams(), "arm", Path("run"), Path("state")).key

    model = NOWHERE._replace(path=tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    first = key()
    assert key() == first
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0] }}")
    assert key() != first


def test_a_run_goes_on_whatever_of_its_settings_changes_no_number(weights):
    """They are those that do not tell seeds of one arm apart, either."""

    def key(**changed):
        shared = SHARED.model_copy(update=changed)
        return plan_of(weights, NOWHERE, shared, ArmParams(), "arm", Path("run"), Path("state")).key

    assert key(check_pairs=3, check_tolerance=0.5, checkpoints=7, report_to=["wandb"], save="adapter") == key()
    assert key(eval_pairs=3) != key() != key(beta=0.2)


def test_a_key_is_of_the_launch_where_that_changes_the_run_or_its_checkpoints(weights, monkeypatch):
    """And of no other: how many processes train an arm whose pairs stand alone, or none, is in no key."""

    def keys():
        given = ("arm", Path("run"), Path("state"))
        return [plan_of(weights, NOWHERE, SHARED, ArmParams(objective=name), *given).key for name in ("dpo", "kldpo")]

    dpo, kldpo = keys()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert keys() == [dpo, kldpo]
    monkeypatch.setenv("WORLD_SIZE", "2")
    two = keys()
    assert two[0] == dpo and two[1] != kldpo
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert keys()[0] == dpo and keys()[1] not in (kldpo, two[1])
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert keys()[0] != dpo


def test_no_two_seeds_share_an_order_of_the_pairs(weights, model, tmp_path):
    """Three seeds, three epochs: nine orders; seed 0's are those it always had."""
    orders = []
    for seed in range(3):
        planned = plan_of(weights, model, SHARED, ArmParams(), "arm", tmp_path, tmp_path, seed=seed)
        sampler = SeedableRandomSampler(range(48), data_seed=arguments(planned, resuming=False).data_seed)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            orders.append(tuple(sampler))
    assert len(set(orders)) == 9
    first = SeedableRandomSampler(range(48), data_seed=0)
    assert orders[0] == tuple(first)


def test_w_doors_token_weights_are_of_the_aligned_model(weights, model, tmp_path, monkeypatch):
    """Its own reference as the aligned model: every factor is one, and the run is DOOR's."""
    options = TrainParams(
        epochs=1, batch_pairs=16, evaluations=1, eval_pairs=8, check_pairs=4, checkpoints=1, kl_prompts=0
    )
    monkeypatch.setattr(build, "aligned_model", lambda *_: model)
    for name in ("door", "w-door"):
        train(weights, model, options, ArmParams(objective=name), name, tmp_path / name, tmp_path / "state")
    door, weighted = (pl.read_csv(tmp_path / name / "curve.csv") for name in ("door", "w-door"))
    assert door["loss"].to_list() == pytest.approx(weighted["loss"].to_list(), abs=1e-4)
    assert not math.isclose(door["loss"][0], door["loss"][-1], abs_tol=0.01)
