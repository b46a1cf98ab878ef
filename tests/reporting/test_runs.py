"""Runs as they lie in folders, gathered by arm: what is read, the statistics over seeds, tables and files."""

import json
import math
import os

import artefacts
import polars as pl
import pytest

from curate.base import files
from curate.base.errors import InputError
from curate.project import params
from curate.project.params import ArmParams
from curate.reporting import answers
from curate.reporting.arms import (
    about_table,
    arm_metrics,
    arm_table,
    arms_of,
    comparable,
    compare,
    evaluated,
    pairs_said,
    run_table,
)
from curate.reporting.curves import over_seeds
from curate.reporting.inputs import Material, Run, read_run, read_runs
from curate.reporting.plots import curves
from curate.reporting.table import Spread, Within, written
from curate.reporting.write import write_report

ARMS = {
    "safedpo": ArmParams(objective="safedpo"),
    "dpo": ArmParams(),
    "half": ArmParams(objective="bdpo", weigh={"alpha": 0.5}),
}


def rewrite(folder, **changes):
    """Set values of metrics.json; a key `part.key` reaches into a part."""
    path = folder / "metrics.json"
    metrics = files.read_json(path)
    for name, value in changes.items():
        part, _, key = name.partition(".")
        if key:
            metrics[part][key] = value
        else:
            metrics[part] = value
    path.write_text(json.dumps(metrics))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three arms with seeds 0, 1 and 2, and round held-out accuracies."""
    root = artefacts.write_all(tmp_path_factory.mktemp("runs"))
    for arm, accuracies in (("dpo", (0.70, 0.72, 0.74)), ("safedpo", (0.71, 0.75, 0.76)), ("half", (0.73, 0.73, 0.71))):
        for seed, accuracy in enumerate(accuracies):
            folder = root / f"made/{arm}/seed-{seed}"
            artefacts.write_run(folder, arm, ARMS[arm], seed, fit=2 + 0.1 * seed)
            rewrite(folder, **{"heldout.rewards/accuracies": accuracy})
    return root


def gathered(root, names=("safedpo", "dpo", "half"), seeds=(0, 1, 2), given=True):
    material = Material(artefacts.frame(), {}, runs=read_runs(root / "made", names, seeds))
    wanted = {
        "train": {"arms": list(names), "seeds": list(seeds)},
        "arms": {n: a.model_dump() for n, a in ARMS.items()},
    }
    return arms_of(material, params.check(params.Params, wanted) if given else None)


def test_arms_and_seeds_are_read_in_the_order_asked_for(root):
    runs = read_runs(root / "made", ["safedpo", "dpo"], [2, 0])
    assert [(run.arm, run.seed) for run in runs] == [("safedpo", 2), ("safedpo", 0), ("dpo", 2), ("dpo", 0)]
    assert [(run.arm, run.seed) for run in read_runs(root / "made")][:4] == [
        ("dpo", 0),
        ("dpo", 1),
        ("dpo", 2),
        ("half", 0),
    ]
    assert {run.seed for run in read_runs(root / "made/dpo")} == {0, 1, 2}
    assert len(read_runs(root / "made/dpo/seed-1")) == 1


def test_arms_may_have_seeds_of_their_own(root):
    runs = read_runs(root / "made", ["safedpo", "dpo"], {"dpo": [2, 0], "safedpo": [1]})
    assert [(run.arm, run.seed) for run in runs] == [("safedpo", 1), ("dpo", 2), ("dpo", 0)]


def test_a_run_that_is_missing_or_broken_is_named(root, tmp_path):
    with pytest.raises(InputError, match="no runs in this folder"):
        read_runs(tmp_path)
    with pytest.raises(InputError, match=r"(?s)made/dpo/seed-3.*curate train"):
        read_runs(root / "made", ["dpo"], [0, 3])
    artefacts.write_run(tmp_path / "dpo", "dpo")
    metrics = (tmp_path / "dpo/metrics.json").read_text()
    (tmp_path / "dpo/metrics.json").write_text(metrics.replace('"seed"', '"sed"'))
    with pytest.raises(InputError, match=r"(?s)not the metrics of a run.*seed"):
        read_run(tmp_path / "dpo")
    (tmp_path / "dpo/metrics.json").write_text(metrics)
    (tmp_path / "dpo/curve.csv").write_text("step,loss\n0,1\n")
    with pytest.raises(InputError, match="not the curve of a run"):
        read_run(tmp_path / "dpo")
    (tmp_path / "dpo/curve.csv").unlink()
    os.mkfifo(tmp_path / "dpo/curve.csv")
    with pytest.raises(InputError, match="this is a pipe"):
        read_run(tmp_path / "dpo")


def test_a_run_without_a_divergence_is_read_and_drawn_without(tmp_path):
    """Of an older version, whose curve has no such column, or with the estimate off; beside one that has it."""
    for name, kept in (("dpo", True), ("half", False), ("safedpo", False)):
        folder = tmp_path / "runs" / name / "seed-0"
        artefacts.write_run(folder, name, ARMS[name])
        if not kept:
            curve = pl.read_csv(folder / "curve.csv").with_columns(kl=None)
            (curve.drop("kl") if name == "half" else curve).write_csv(folder / "curve.csv")
            rewrite(folder, **{"heldout.kl": None})
    material = Material(artefacts.frame(40), {}, runs=read_runs(tmp_path / "runs"))
    arms = {arm.name: arm for arm in arms_of(material, None)}
    assert all(arm.runs[0].curve["kl"].dtype == pl.Float64 for arm in arms.values())
    heldout = arms["dpo"].runs[0].curve.filter(pl.col("side") == "heldout")
    assert arms["dpo"].values("heldout_kl") == {0: heldout["kl"][-1]} and arms["half"].values("heldout_kl") == {}
    table = arm_table(list(arms.values()))
    assert [row[table.columns.index("KL ↓")] is None for row in table.rows] == [False, True, True]
    write_report(material, tmp_path / "all", None)
    assert (tmp_path / "all/figures/divergence.svg").is_file()
    plotted = pl.read_csv(tmp_path / "all/plots/kl.csv")
    assert plotted.rows() == [("dpo", 0, "heldout", *row) for row in heldout.select("step", "kl").rows()]
    without = [run for run in material.runs if run.arm != "dpo"]
    write_report(Material(material.frame, {}, runs=without), tmp_path / "none", None)
    assert not (tmp_path / "none/figures/divergence.svg").exists()
    assert "None" not in (tmp_path / "none/index.html").read_text()
    broken = tmp_path / "runs/dpo/seed-0/curve.csv"
    broken.write_text(broken.read_text().replace(str(heldout["kl"][-1]), "x"))
    with pytest.raises(InputError, match="not a readable CSV file"):
        read_run(broken.parent)


def test_plain_folders_are_seeds_of_an_arm_or_named_by_their_folder(tmp_path):
    """Two seeds of one arm are one arm; the same arm on another subset, or the same seed again, is not."""
    for name, arm, seed in (("a", ArmParams(), 0), ("b", ArmParams(), 1)):
        artefacts.write_run(tmp_path / "seeds" / name, "dpo", arm, seed)
        artefacts.write_run(tmp_path / "subsets" / name, "dpo", arm, seed)
    assert [(run.arm, run.seed) for run in read_runs(tmp_path / "seeds")] == [("dpo", 0), ("dpo", 1)]
    artefacts.write_run(tmp_path / "subsets/c", "dpo", ArmParams(subset="balanced"), 2)
    assert [(run.arm, run.seed) for run in read_runs(tmp_path / "subsets")] == [
        ("a (dpo)", 0),
        ("b (dpo)", 1),
        ("c (dpo)", 2),
    ]
    artefacts.write_run(tmp_path / "seeds/c", "dpo", ArmParams(), 1)
    assert [(run.arm, run.seed) for run in read_runs(tmp_path / "seeds")] == [
        ("a (dpo)", 0),
        ("b (dpo)", 1),
        ("c (dpo)", 1),
    ]


def test_seeds_of_one_arm_may_be_logged_apart(tmp_path):
    for seed in (0, 1):
        artefacts.write_run(tmp_path / f"r{seed}", "dpo", ArmParams(), seed)
    path = tmp_path / "r1/model/curate.json"
    record = files.read_json(path)
    idle = {"report_to": ["tensorboard"], "save": "adapter", "checkpoints": 7}
    files.write_json(record | {"train": record["train"] | idle}, path)
    assert [(run.arm, run.seed) for run in read_runs(tmp_path)] == [("dpo", 0), ("dpo", 1)]


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {"digest": "of fewer pairs"}},
        {"model": {"digest": "another"}},
        {"from": {"stage": "weigh", "params": {"alpha": 3.0}}},
    ],
)
def test_runs_on_other_pairs_weights_or_models_are_no_seeds_of_one_arm(tmp_path, changed):
    """A trial with --limit and a whole run, two models, two files of weights: a mean over them is of nothing. DPO does
    not read how its file was weighed."""
    for name, seed in (("bdpo", 0), ("bdpo", 1), ("dpo", 0), ("dpo", 1)):
        folder = tmp_path / name / f"{name}-{seed}"
        artefacts.write_run(folder, name, ARMS["half" if name == "bdpo" else "dpo"], seed)
        record = files.read_json(folder / "model/curate.json")
        files.write_json(record | (changed if seed else {}), folder / "model/curate.json")
    assert [run.arm for run in read_runs(tmp_path / "bdpo")] == ["bdpo-0", "bdpo-1"]
    assert [run.arm for run in read_runs(tmp_path / "dpo")] == (
        ["dpo", "dpo"] if "from" in changed else ["dpo-0", "dpo-1"]
    )


def test_a_folder_that_is_named_as_another_arm_is_told_with_its_own(tmp_path):
    """A B-DPO run in a folder `dpo` is not called dpo; a name that begins with the arm says enough."""
    for name in ("bdpo", "bdpo-sqrt", "dpo"):
        artefacts.write_run(tmp_path / name, "bdpo", ARMS["half"])
    assert [run.arm for run in read_runs(tmp_path)] == ["bdpo", "bdpo-sqrt", "dpo (bdpo)"]
    metrics = write_report(Material(artefacts.frame(40), {}, runs=read_runs(tmp_path)), tmp_path / "out", None)
    assert list(metrics["arms"]) == ["bdpo", "bdpo-sqrt", "dpo (bdpo)"]


def test_a_run_within_another_run_s_folder_is_told_apart(tmp_path):
    """`dpo` of `--out runs/dpo` and `dpo/seed-0` of no --out: each has its own row with its own numbers."""
    for name, fit, seed in (("dpo", 2.0, 0), ("dpo/seed-0", 3.0, 0), ("dpo/seed-1", 4.0, 1)):
        artefacts.write_run(tmp_path / name, "dpo", ArmParams(), seed, fit=fit)
    runs = read_runs(tmp_path)
    assert [(run.arm, run.seed) for run in runs] == [("dpo", 0), ("dpo/seed-0", 0), ("dpo/seed-1", 1)]
    arms = arms_of(Material(artefacts.frame(40), {}, runs=runs), None)
    for arm in arms:
        assert arm.values("train_margin") == {
            arm.runs[0].seed: files.read_json(tmp_path / arm.name / "metrics.json")["train"]["rewards/margins"]
        }


def test_runs_in_one_folder_that_differ_in_more_than_their_seed_are_no_seeds_of_one_arm(tmp_path):
    """As where a seed is added with another learning rate, or after an upgrade that measures more pairs."""
    for seed in (0, 1, 2):
        artefacts.write_run(tmp_path / f"bdpo/seed-{seed}", "bdpo", ArmParams(objective="bdpo"), seed)
        artefacts.write_run(tmp_path / f"dpo/seed-{seed}", "dpo", ArmParams(), seed)
    rewrite_record(tmp_path / "bdpo/seed-2", {}, {"learning_rate": 1e-3})
    told = [run.arm for run in read_runs(tmp_path)]
    assert told == ["bdpo/seed-0", "bdpo/seed-1", "bdpo/seed-2", "dpo", "dpo", "dpo"]


def test_two_runs_of_one_name_and_seed_are_refused(tmp_path):
    """Two of the arm dpo, told apart by their folders, one of which is called as the arm of a third."""
    for name, arm in (("dpo", "dpo"), ("dpo-x", "dpo"), ("mine", "dpo-x")):
        artefacts.write_run(tmp_path / name, arm, ArmParams())
    with pytest.raises(
        InputError, match=r"(?s)two runs have one name and seed.*/mine\n.*dpo-x, seed 0, as in .*/dpo-x"
    ):
        read_runs(tmp_path)
    (tmp_path / "dpo-x").rename(tmp_path / "dpo-y")
    assert [run.arm for run in read_runs(tmp_path)] == ["dpo", "dpo-x", "dpo-y"]


def test_mean_and_deviation_are_of_the_seeds(root):
    """0.70, 0.72, 0.74: mean 0.72, squared deviations 0.0004 + 0 + 0.0004, over n - 1 = 2: sd 0.02."""
    _, dpo, _ = gathered(root)
    assert dpo.spread("heldout_accuracy") == Spread(pytest.approx(0.72), pytest.approx(0.02), 3)
    assert written(dpo.spread("heldout_accuracy")) == "0.720 ± 0.020"
    assert arm_metrics(dpo)["heldout_accuracy"] == {"mean": pytest.approx(0.72), "sd": pytest.approx(0.02), "n": 3}
    alone = gathered(root, seeds=[1])[1]
    assert alone.spread("heldout_accuracy") == Spread(pytest.approx(0.72), None, 1)
    assert written(alone.spread("heldout_accuracy")) == "0.720"
    assert dpo.values("margin_gap")[0] == dpo.runs[0].metrics["overfitting"]["margins"]


def test_an_arm_that_turned_training_pairs_round_has_no_gap(root):
    """Not even where its metrics.json, of an earlier version, has one: the margins are of other labels on each side."""
    safedpo, dpo, _ = gathered(root)
    assert safedpo.turned and not dpo.turned and safedpo.runs[0].metrics["swapped"] == 3
    assert safedpo.values("margin_gap") == safedpo.values("accuracy_gap") == {} and safedpo.values("train_margin")
    run = safedpo.runs[0]
    before = run._replace(metrics=run.metrics | {"overfitting": {"margins": 25.0, "accuracies": 0.5}})
    assert before.final("overfitting", "margins") is None
    none = run._replace(metrics=before.metrics | {"swapped": 0})
    assert none.final("overfitting", "margins") == 25.0
    assert compare(safedpo, dpo, "margin_gap") is None
    (row,) = (row for row in arm_table([safedpo, dpo]).rows if row[0] == "safedpo")
    assert written(row[arm_table([safedpo]).columns.index("margin gap ↓")]) == "–"


def test_a_difference_is_paired_by_seed(root):
    """safedpo - dpo: 0.01, 0.03, 0.02: mean 0.02, sd 0.01, error 0.01 / sqrt(3). half - dpo: 0.03, 0.01, -0.03."""
    safedpo, dpo, half = gathered(root)
    clear, noise = compare(safedpo, dpo), compare(half, dpo)
    assert clear.mean == pytest.approx(0.02) and clear.error == pytest.approx(0.01 / math.sqrt(3)) and clear.n == 3
    # Two degrees of freedom: 0.02 is 3.46 standard errors, and 95% reach to 4.30.
    assert clear.within_noise and "within noise (zero is in Student's 95% interval over the seeds)" in str(clear)
    clearer = clear._replace(error=0.02 / 4.31)
    assert not clearer.within_noise and str(clearer).endswith(", zero is outside Student's 95% interval over the seeds")
    twice = clear._replace(error=1e-6, n=2)
    assert twice.within_noise and "two seeds give no Student's 95% interval" in str(twice)
    sd = math.sqrt(((0.03 - 0.01 / 3) ** 2 + (0.01 - 0.01 / 3) ** 2 + (-0.03 - 0.01 / 3) ** 2) / 2)
    assert noise.mean == pytest.approx(0.01 / 3) and noise.error == pytest.approx(sd / math.sqrt(3))
    assert noise.within_noise and "within noise" in str(noise)
    assert str(compare(dpo, safedpo)).startswith("dpo minus safedpo: −0.0200 ± 0.0058 (n = 3 seeds)")


@pytest.mark.parametrize(
    ("gaps", "said"),
    [((0.98, 0.96, 0.99), "half is not shown to overfit less or more than dpo"), ((0.98, 0.97, 0.98), "overfits less")],
)
def test_the_first_screen_claims_no_more_than_the_seeds_show(root, gaps, said):
    """Less in each of three seeds, by 2.6 standard errors (p = .12) and by 7 (p = .02)."""
    _, dpo, half = gathered(root)

    def with_gaps(arm, values):
        runs = zip(arm.runs, values, strict=True)
        return arm._replace(
            runs=[run._replace(metrics=run.metrics | {"overfitting": {"margins": value}}) for run, value in runs]
        )

    dpo = with_gaps(dpo, (1.0, 1.0, 1.0))
    assert said in answers._overfitting(with_gaps(half, gaps), dpo)
    alone = dpo._replace(runs=dpo.runs[:1])
    assert answers._overfitting(half, alone).endswith("in these runs, which share hardly a seed")
    slightly = with_gaps(alone, [1.0004])
    assert answers._overfitting(slightly, alone) == "dpo overfits as much as dpo in this one run"
    assert answers._overfitting(with_gaps(alone, [1.2]), alone) == "dpo overfits more than dpo in this one run"


def test_only_seeds_that_both_arms_have_are_compared(root):
    safedpo, dpo, _ = gathered(root)
    fewer = dpo._replace(runs=dpo.runs[1:])
    assert compare(safedpo, fewer).n == 2
    assert compare(safedpo, fewer).mean == pytest.approx(0.025)
    assert compare(safedpo, dpo._replace(runs=dpo.runs[:1])) is None
    assert compare(dpo, dpo).within_noise


def test_arms_stand_in_the_order_of_train_arms(root):
    assert [row[0] for row in arm_table(gathered(root)).rows] == ["safedpo", "dpo", "half"]
    assert [row[0] for row in arm_table(gathered(root, ["half", "safedpo", "dpo"])).rows] == ["half", "safedpo", "dpo"]
    shuffled = Material(artefacts.frame(), {}, runs=read_runs(root / "made"))
    wanted = params.check(params.Params, {"train": {"arms": ["w-door", "safedpo"]}})
    assert [arm.name for arm in arms_of(shuffled, wanted)] == ["safedpo", "dpo", "half"]


def test_what_an_arm_is_comes_from_its_record_and_else_from_the_params(root, tmp_path):
    _, dpo, half = gathered(root, given=False)
    assert (half.objective, half.subset, half.alpha) == ("bdpo", "all", 0.5) and dpo.alpha is None
    artefacts.write_run(tmp_path / "dpo", "dpo-balanced", ArmParams(subset="balanced"))
    (tmp_path / "dpo/model/curate.json").unlink()
    material = Material(artefacts.frame(), {}, runs=read_runs(tmp_path))
    assert arms_of(material, None)[0].subset is None and arms_of(material, None)[0].objective == "dpo"
    assert arms_of(material, params.Params())[0].subset == "balanced"
    assert evaluated(arms_of(material, None)) == []
    assert evaluated(arms_of(material, params.Params())) == [81]
    assert evaluated([half]) == [81]
    known = params.Params(train=params.TrainParams(eval_pairs=64, end_pairs=100))
    (known_from_params,) = arms_of(material, known)
    assert evaluated([known_from_params]) == [81]  # of the run's end; the curve is of fewer
    assert (known_from_params.followed, known_from_params.evaluated) == (64, 81)


def test_pairs_are_counted_as_the_run_was_measured_and_compared_with_their_like(tmp_path):
    """81 are held out. `limited` was trained on fewer pairs; `tried` is measured on 21 validation pairs."""
    for name, data, train in (
        ("dpo", {"heldout": 81}, {}),
        ("ipo", {"heldout": 81}, {}),
        ("limited", {"heldout": 12}, {}),
        ("tried", {"heldout": 21}, {"validation_fraction": 0.1}),
        ("tried-too", {"heldout": 21}, {"validation_fraction": 0.1}),
        ("tried-three", {"heldout": 21}, {"validation_fraction": 0.1}),
    ):
        for seed in (0, 1):
            folder = tmp_path / name / f"seed-{seed}"
            artefacts.write_run(folder, name, ArmParams(objective="ipo" if name == "ipo" else "dpo"), seed)
            rewrite_record(folder, data, train)
    found = {arm.name: arm for arm in arms_of(Material(artefacts.frame(), {}, runs=read_runs(tmp_path)), None)}
    assert [found[name].evaluated for name in ("dpo", "limited", "tried")] == [81, 12, 21]
    everything = list(found.values())
    assert [arm.name for arm in comparable(everything)] == ["dpo", "ipo"] and evaluated(everything) == []
    assert evaluated(comparable(everything)) == [81] and pairs_said(comparable(everything)) == "81 held-out pairs"
    tried = comparable([arm for arm in everything if arm.validation])
    assert len(tried) == 3 and pairs_said(tried) == "21 validation pairs" and evaluated(tried) == []
    assert arm_table(tried).columns[2] == "validation accuracy ↑"
    assert arm_table(everything).columns[2] == "held-out or validation accuracy ↑"
    assert compare(found["dpo"], found["ipo"]) and compare(found["tried"], found["tried-too"])
    assert compare(found["dpo"], found["tried"]) is compare(found["dpo"], found["limited"]) is None


def rewrite_record(folder, data, train):
    record = files.read_json(folder / "model/curate.json")
    files.write_json(record | {"data": data, "train": record["train"] | train}, folder / "model/curate.json")


def test_every_run_is_a_row_with_what_its_objective_counts(root):
    table = run_table(gathered(root))
    assert len(table.rows) == 9 and [row[:2] for row in table.rows[:2]] == [["safedpo", 0], ["safedpo", 1]]
    swapped = table.columns.index("swapped")
    assert table.rows[0][swapped] == 3 and table.rows[8][swapped] is None
    about = about_table(gathered(root))
    assert about.rows[2][about.columns.index("α")] == 0.5 and about.rows[1][about.columns.index("objective")] == "dpo"


def test_the_files_have_a_row_an_arm_and_seed(root, tmp_path):
    material = Material(artefacts.frame(), {}, runs=read_runs(root / "made", ["safedpo", "dpo"], [0, 1, 2]))
    wanted = params.check(params.Params, {"train": {"arms": ["safedpo", "dpo"], "seeds": [0, 1, 2]}})
    metrics = write_report(material, tmp_path / "out", wanted)
    rows = pl.read_csv(tmp_path / "out/plots/arms.csv")
    assert rows.select("arm", "seed").rows() == [(arm, seed) for arm in ("safedpo", "dpo") for seed in (0, 1, 2)]
    assert rows["heldout_accuracy"].to_list() == pytest.approx([0.71, 0.75, 0.76, 0.70, 0.72, 0.74])
    gaps = (rows["train_margin"] - rows["heldout_margin"]).to_list()
    assert rows["margin_gap"].to_list() == [None, None, None, *map(pytest.approx, gaps[3:])]
    assert metrics["arms"]["dpo"]["heldout_accuracy"]["mean"] == pytest.approx(0.72)
    curve = pl.read_csv(tmp_path / "out/plots/curves.csv")
    assert curve.group_by("arm", "seed").len()["len"].to_list() == [22] * 6
    page = (tmp_path / "out/index.html").read_text()
    assert "3 seeds an arm." in page and "0.720 ± 0.020" in page and "Every arm and seed" in page


def test_a_line_is_the_mean_of_the_steps_that_all_seeds_reached():
    def run(seed, values):
        frame = pl.DataFrame({"step": range(len(values)), "side": ["heldout"] * len(values), "rewards/margins": values})
        return Run("dpo", seed, frame, {}, {})

    line = over_seeds([run(0, [0.0, 1.0, 5.0]), run(1, [0.0, 3.0])], "heldout", "rewards/margins")
    assert line.rows() == [(0, 0.0, 0.0, 0.0), (1, 2.0, 1.0, 3.0)]


def test_curves_keep_seeds_apart(root):
    frame = curves(read_runs(root / "made", ["dpo"], [0, 2]))
    assert frame["seed"].unique().sort().to_list() == [0, 2] and frame.columns[:2] == ["arm", "seed"]


def test_one_seed_has_an_interval_over_its_prompts_where_it_kept_its_pairs_rewards(tmp_path):
    """Of the held-out margin and of the gap, around their values; more seeds, or no rewards, have none."""
    frame = artefacts.frame(60)
    for arm, seeds in (("dpo", 1), ("safedpo", 2), ("half", 1)):
        for seed in range(seeds):
            folder = tmp_path / f"{arm}/seed-{seed}"
            artefacts.write_run(folder, arm, ARMS[arm], seed)
            noise = pl.int_range(pl.len()) % 7 / 10
            rewards = frame.select(
                "pair_id",
                pl.col("split").cast(pl.String).alias("side"),
                margin=1.0 + (pl.col("split") == "train") + noise,
            )
            means = dict(rewards.group_by("side").agg(pl.col("margin").mean()).iter_rows())
            rewrite(folder, **{f"{side}.rewards/margins": mean for side, mean in means.items()})
            rewrite(folder, **{"overfitting.margins": means["train"] - means["heldout"]})
            if arm != "half":
                files.write_parquet(rewards, folder / "rewards.parquet", {})
    runs = read_runs(tmp_path, ["dpo", "safedpo", "half"], {"dpo": [0], "safedpo": [0, 1], "half": [0]})
    dpo, safedpo, half = arms_of(Material(frame, {}, runs=runs), None)
    for outcome, value in (("heldout_margin", means["heldout"]), ("margin_gap", means["train"] - means["heldout"])):
        low, high = dpo.interval(outcome)
        assert low < value < high and high - low < 0.5
        assert dpo.cell(outcome) == Within(pytest.approx(value), low, high)
        assert safedpo.interval(outcome) is half.interval(outcome) is None
        assert half.cell(outcome).sd is None
    assert safedpo.cell("heldout_margin").n == 2 and safedpo.cell("margin_gap") is None
    assert dpo.interval("train_margin") is None
    (row,) = arm_table([dpo]).rows
    assert sum(isinstance(cell, Within) for cell in row) == 2
