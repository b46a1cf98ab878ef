"""The paper's training experiments: which are drawn of which arms, what is in them, and what they say."""

import artefacts
import numpy as np
import polars as pl
import pytest

from curate.project.params import DEFAULT_ARMS, ArmParams, TrainParams
from curate.reporting import canvas, dots
from curate.reporting.arms import arms_of
from curate.reporting.curves import MOST_ARMS, margins
from curate.reporting.experiments import _extremes, _of_alphas, _of_variants, experiments
from curate.reporting.glance import glance
from curate.reporting.inputs import Material, read_runs

ALPHAS = {f"alpha-{n}": ArmParams(objective="bdpo", weigh={"alpha": alpha}) for n, alpha in enumerate((0.5, 2.0, 0.0))}
ARMS = DEFAULT_ARMS | ALPHAS | {"other": ArmParams(objective="bdpo", weigh={"alpha": 3.0, "scheme": "power"})}
ARMS |= {
    "sqrt": ArmParams(objective="bdpo", weigh={"normalisation": "sqrt"}),
    "turned": ArmParams(objective="bdpo", weigh={"direction": "higher_mi_higher_weight"}),
}
PAIRS = "81 held-out pairs"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every arm with the seeds 0, 1 and 2."""
    folder = tmp_path_factory.mktemp("experiments")
    for place, (name, arm) in enumerate(ARMS.items()):
        for seed in range(3):
            fit = 1.5 + 0.1 * place + 0.03 * seed
            artefacts.write_run(folder / name / f"seed-{seed}", name, arm, seed, fit, noise=10 * place + seed)
    return folder


@pytest.fixture(scope="module")
def every(made):
    return drawn(made, *ARMS)


def arms(made, *names, seeds=(0, 1, 2)):
    return arms_of(Material(artefacts.frame(40), {}, runs=read_runs(made, names, seeds)), None)


def drawn(made, *names, seeds=(0, 1, 2)):
    with canvas.style():
        return {figure.name: figure for figure in experiments(arms(made, *names, seeds=seeds), PAIRS)}


def dots_of(axis):
    """Each collection of dots: [dots, (x, y)]."""
    return [np.asarray(found.get_offsets()) for found in axis.collections]


@pytest.mark.parametrize(
    ("names", "figures"),
    [
        (["dpo"], set()),
        (["dpo", "bdpo"], {"objectives"}),
        (["dpo-balanced", "dpo-random"], set()),
        (["dpo-balanced", "dpo-imbalanced"], {"subset-margins", "subset-ends"}),
        (["dpo", "sf", "bdpo"], {"ablation", "objectives"}),
        (["bw", "sf", "bdpo"], set()),
        (["bdpo", "alpha-0"], {"alpha"}),
        (["bdpo", "other"], set()),
        (["bdpo", "sqrt"], {"variants"}),
        (["ipo", "w-door"], {"objectives"}),
        (list(ARMS), {"subset-margins", "subset-ends", "ablation", "alpha", "objectives", "variants"}),
    ],
)
def test_a_figure_is_drawn_only_when_its_arms_are_there(made, names, figures):
    assert set(drawn(made, *names)) == figures


def test_variants_stand_beside_dpo_and_the_arm_that_differs_in_nothing(every):
    figure = every["variants"]
    assert [label.get_text() for label in figure.figure.axes[0].get_yticklabels()] == [
        *("DPO", "as split", "sqrt", "as split, turned")
    ]
    assert len(figure.compared) == 3 and figure.compared[1].startswith("sqrt minus DPO")


TWO = {"learning_rate": 3e-5}


@pytest.mark.parametrize(
    ("dpo", "forms", "alphas"),
    [
        (TWO, {"dpo", "bdpo", "sqrt"}, {"dpo", "bdpo", "two"}),  # all with one learning rate of their own
        ({}, {"bdpo", "sqrt"}, {"bdpo", "two"}),  # dpo with another
    ],
)
def test_figures_of_one_difference_have_no_arm_that_was_trained_in_another_way(tmp_path, dpo, forms, alphas):
    made = {
        "dpo": ArmParams(train=dpo),
        "bdpo": ArmParams(objective="bdpo", train=TWO),
        "sqrt": ArmParams(objective="bdpo", train=TWO, weigh={"normalisation": "sqrt"}),
        "turned": ArmParams(objective="bdpo", weigh={"direction": "higher_mi_higher_weight"}),
        "two": ArmParams(objective="bdpo", train=TWO, weigh={"alpha": 2.0}),
        "three": ArmParams(objective="bdpo", weigh={"alpha": 3.0}),
    }
    for name, arm in made.items():
        artefacts.write_run(tmp_path / name / "seed-0", name, arm)
    found = arms(tmp_path, *made, seeds=[0])
    assert {arm.name for arm in _of_variants(found)} == forms
    assert {arm.name for arm in _of_alphas(found)} == alphas


def test_every_seed_is_a_dot_and_the_bar_their_mean(made):
    found = arms(made, "dpo", "ipo")
    with canvas.style():
        figure = dots.by_arm({arm.name: arm for arm in found}, "dpo")
    for axis, outcome in zip(figure.axes, dots.PANELS, strict=True):
        for arm, shown in zip(found, dots_of(axis), strict=True):
            assert shown[:, 0].tolist() == pytest.approx(list(arm.values(outcome).values()))
        bars = [line.get_xdata()[0] for line in axis.lines if len(set(line.get_ydata())) == 2]
        means = [arm.spread(outcome).mean for arm in found]
        assert bars[:2] == pytest.approx(means) and bars[2] == pytest.approx(means[0])  # dotted: the baseline's
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["dpo", "ipo"]


def test_equal_seeds_are_seen_apart(made):
    (arm,) = arms(made, "dpo")
    with canvas.style():
        figure = dots.by_arm({"dpo": arm})
    heights = dots_of(figure.axes[0])[0][:, 1]
    assert len(set(heights)) == 3 and np.ptp(heights) < 0.5


def test_alpha_takes_the_arms_that_differ_in_alpha_alone(made):
    """bdpo's alpha is the weights file's, 1.5; the scheme of `other` is another; of alpha 0 there is an arm."""
    figure = drawn(made, "dpo", "bdpo", "bw", "other", *ALPHAS)["alpha"]
    shown = dots_of(figure.figure.axes[0])
    assert [part[0, 0] for part in shown] == [0.0, 0.5, 1.5, 2.0] and {len(part) for part in shown} == {3}
    assert "hollow" not in figure.reading
    line = figure.figure.axes[0].lines[0]
    assert line.get_ydata() == pytest.approx([part[:, 1].mean() for part in shown])


def test_dpo_is_alpha_zero_only_where_no_arm_is_and_it_is_said(made):
    figure = drawn(made, "dpo", "bdpo", "alpha-0")["alpha"]
    assert [part[0, 0] for part in dots_of(figure.figure.axes[0])] == [0.0, 0.5, 1.5]
    assert "No B-DPO arm has α = 0: the hollow dots are the arm dpo" in figure.reading


def test_the_highest_mean_is_named_with_its_seeds(made):
    found = arms(made, "bdpo", "alpha-0", "alpha-1")
    best = max(found, key=lambda arm: arm.spread("heldout_accuracy").mean)
    assert f"highest at α = {best.alpha:g}" in drawn(made, "bdpo", "alpha-0", "alpha-1")["alpha"].reading


def test_objectives_are_whole_objectives_on_all_pairs(made, every):
    figure = every["objectives"]
    labels = [label.get_text() for label in figure.figure.axes[0].get_yticklabels()]
    assert set(labels) == {arm.objective for arm in DEFAULT_ARMS.values()}
    assert "relabelled" in figure.reading and "refusals" in figure.reading
    assert "relabelled" not in drawn(made, "dpo", "ipo")["objectives"].reading


def test_captions_name_seeds_pairs_source_and_what_is_not_shown(every):
    for figure in every.values():
        assert "n = 3" in figure.reading
        assert [claim.tag for claim in figure.claims][1:] == ["ours"] and figure.claims[0].tag in ("paper", "digest")
    for name in ("subset-ends", "ablation", "objectives", "alpha"):
        figure = every[name]
        assert PAIRS in figure.reading and "no safety score" in figure.claims[1].text
        assert all("n = 3 seeds" in line for line in figure.compared)
    compared = every["ablation"].compared
    assert [line.split(":")[0] for line in compared] == ["DPO + BW minus DPO", "DPO + SF minus DPO", "B-DPO minus DPO"]


def test_one_value_does_not_run_from_an_arm_to_itself(made):
    one, other = arms(made, "dpo", "ipo", seeds=[1])
    alike = {"dpo": one, "ipo": other._replace(runs=one.runs)}
    assert "runs from" not in _extremes(alike) and _extremes(alike).count(" in each") == 2
    assert "Held-out accuracy runs from" in _extremes({"dpo": one, "ipo": other})


def test_one_seed_makes_no_comparison_and_says_so(made):
    for name, figure in drawn(made, *ARMS, seeds=[1]).items():
        assert not figure.compared
        assert "the bar" not in figure.reading and "band" not in figure.reading, name
        assert "may be chance" in figure.reading or "One seed an arm: no interval over seeds." in figure.reading, name


def test_lines_of_fewer_pairs_than_the_ends_are_told(made):
    (arm,) = arms(made, "dpo", seeds=[0])
    frame = artefacts.frame(400)
    rewards = frame.select("pair_id", side=pl.col("split").cast(pl.String), margin=pl.lit(0.5))
    assert rewards.filter(side="heldout").height < TrainParams().eval_pairs < rewards.filter(side="train").height
    for rows, fewer in ((rewards, True), (rewards.head(100), False), (None, False)):
        found = arm._replace(runs=[arm.runs[0]._replace(rewards=rows)])
        assert ("Lines are of fewer pairs" in margins([found]).reading) is fewer


def test_the_arms_of_a_figure_differ_in_what_it_says_alone(made):
    """Of `curate train` a run's record says how it was trained; its arm, a default one, does not."""
    (arm,) = arms(made, "bdpo")
    found = [_recorded(arm, weigh={"alpha": alpha}) for alpha in (1.0, 2.0)]
    assert len(_of_alphas(found)) == 2
    for other in ({"train": {"learning_rate": 1e-3}}, {"weigh": {"alpha": 2, "scheme": "power"}}, {"data": "x"}):
        assert _of_alphas([found[0], _recorded(found[1], **other)]) == []


def _recorded(arm, weigh=None, train=None, data=None):
    made = arm.runs[0].record
    made = made | {"train": made["train"] | (train or {}), "data": {"digest": data}}
    weighed = arm.weigh.model_copy(update=weigh) if weigh else arm.weigh
    return arm._replace(weigh=weighed, runs=[run._replace(record=made) for run in arm.runs])


def test_margins_in_another_unit_are_told_of(made):
    """The β is that of the run's record: an arm of `curate train --beta` has none of its own in its settings."""
    runs = read_runs(made, ["dpo", "ipo", "cpo"], [0])
    runs = [run._replace(record=run.record | {"train": {"beta": 0.2 if run.arm == "cpo" else 0.1}}) for run in runs]
    found = arms_of(Material(artefacts.frame(40), {}, runs=runs), None)
    assert [arm.name for arm in found if arm.own_beta] == ["cpo"]
    said = "In units of a β of their own: cpo."
    figures = {figure.name: figure for figure in experiments(found, PAIRS)}
    assert said in margins(found).reading and said in figures["objectives"].reading
    gaps = figures["objectives"].reading.partition("the margin gap")[2].partition(".  ")[0]
    assert "(cpo)" not in gaps
    assert "Not drawn, for the scale of their rewards is their own: cpo." in glance(artefacts.frame(40), found).reading


def test_pairs_of_validation_are_told_of_beside_the_first_figure(made):
    one, other = arms(made, "dpo", "ipo", seeds=[0])
    tried = one.runs[0]._replace(record={"train": {"validation_fraction": 0.1}})
    said = "Measured on validation pairs instead of held-out ones: dpo."
    assert said in glance(artefacts.frame(40), [one._replace(runs=[tried]), other]).reading
    assert "validation" not in glance(artefacts.frame(40), [one, other]).reading


def test_bands_are_drawn_for_several_seeds_and_at_most_so_many_arms(made):
    names = list(DEFAULT_ARMS)
    with canvas.style():
        many, one = margins(arms(made, *names)), margins(arms(made, *names[:2], seeds=[0]))
    axis = many.figure.axes[0]
    assert len(axis.collections) == 2 * MOST_ARMS  # a band an arm and side
    assert f"first {MOST_ARMS} of {len(names)} arms" in many.reading and names[MOST_ARMS] not in many.alt
    assert not one.figure.axes[0].collections and "One seed an arm: no interval over seeds." in one.reading
    legend = [text.get_text() for text in many.figure.legends[0].get_texts()]
    assert legend == [*names[:MOST_ARMS], "train", "held out"]
