"""Arms compared pair by pair: against plain means, and against the comparison of one side that is there."""

import numpy as np
import polars as pl
import pytest
import scipy.stats

from curate.evaluation import statistics
from curate.reporting import paired
from curate.reporting.inputs import Run
from curate.reporting.table import Within, written


@pytest.fixture(scope="module")
def made():
    """60 held-out and 90 training pairs, two or three a prompt; b is easier by 0.5 nats held out, c has one seed and is
    trained on a third of the pairs."""
    runs = []
    draw = np.random.default_rng(2)
    frame = pl.DataFrame(
        {
            "pair_id": [f"p{n}" for n in range(150)],
            "prompt_key": [f"q{n // 2 if n < 60 else n // 3}-{n < 60}" for n in range(150)],
            "side": ["heldout" if n < 60 else "train" for n in range(150)],
        }
    )
    hard = draw.normal(size=150)
    for arm, easier, seeds in (("a", 0.0, 3), ("b", 0.5, 3), ("c", 0.0, 1)):
        for seed in range(seeds):
            margin = hard + draw.normal(scale=0.5, size=150) + np.where(np.arange(150) < 60, easier, 2.0)
            rows = frame.with_columns(margin=pl.Series(margin)).drop("prompt_key")
            rows = (
                rows.filter((pl.col("side") == "heldout") | (pl.int_range(pl.len()) % 3 == 0)) if arm == "c" else rows
            )
            runs.append(Run(arm, seed, pl.DataFrame(), {}, {}, rows))
    return runs, frame


def rows_of(made, arm):
    return pl.concat([run.rewards for run in made[0] if run.arm == arm])


@pytest.mark.parametrize("arm", ["a", "b", "c"])
def test_a_measure_is_the_plain_mean(made, arm):
    rewards, rows = paired.of(*made)[arm], rows_of(made, arm)
    train, heldout = (rows.filter(side=side)["margin"] for side in paired.SIDES)
    assert paired.value(rewards, "accuracy") == pytest.approx((heldout > 0).mean())
    assert paired.value(rewards, "margin") == pytest.approx(heldout.mean())
    assert paired.value(rewards, "gap") == pytest.approx(train.mean() - heldout.mean())


def test_a_seed_s_measure_is_of_the_pairs_that_it_was_measured_on(made):
    """Of runs whose records are gone, with another train.end_pairs: 10 and 20 of the pairs, each with margin 1."""
    few = [
        made[0][0]._replace(seed=n, rewards=made[0][0].rewards.head(10 * n).with_columns(margin=1.0)) for n in (1, 2)
    ]
    rewards = paired.of(few, made[1])["a"]
    assert paired.by_seed(rewards, "margin").tolist() == [1, 1] == paired.by_seed(rewards, "accuracy").tolist()
    assert paired.value(rewards, "margin") == 1


def test_a_held_out_measure_is_compared_as_evaluations_are(made):
    """The same bootstrap; the intervals differ by what is drawn."""
    rewards = paired.of(*made)
    found = paired.compare(rewards["b"], rewards["a"], "accuracy")
    tables = []
    for arm in "ba":
        side = rewards[arm].sides["heldout"]
        tables.append(side.right / side.pairs)
    other = statistics.compare(*tables, rewards["a"].sides["heldout"].pairs[:, 0], paired_seeds=True)
    assert found.mean == pytest.approx(other.mean) and (found.prompts, found.seeds) == (30, 3)
    assert [found.low, found.high] == pytest.approx([other.low, other.high], abs=0.02)
    assert found.p == pytest.approx(other.p, abs=0.02) and found.low > 0
    assert paired.error(rewards["b"], rewards["a"], "accuracy") == pytest.approx(
        (found.high - found.low) / 3.92, rel=0.1
    )


def test_arms_are_compared_over_the_seeds_and_prompts_that_they_have(made):
    """The gap of an arm on a third of the pairs has more noise; one seed is of that seed alone."""
    rewards = {name: one for name, one in paired.of(*made).items() if name != "b"}
    assert list(rewards) == ["a", "c"]
    found = paired.compare(rewards["c"], rewards["a"], "gap")
    only = rows_of(made, "a").head(150), rows_of(made, "c")
    expected = [
        part.filter(side="train")["margin"].mean() - part.filter(side="heldout")["margin"].mean() for part in only
    ]
    assert found.seeds == 1 and found.mean == pytest.approx(expected[1] - expected[0])
    assert found.low < 0 < found.high


def test_arms_that_differ_in_one_prompt_are_not_told_apart(made):
    """Whatever is drawn, the difference has one sign or none: p is 1, as in `statistics.compare`."""
    rewards = paired.of(*made)["a"]
    heldout = rewards.sides["heldout"]
    margins = heldout.margins.copy()
    margins[0] += 1.0
    better = rewards._replace(sides=rewards.sides | {"heldout": heldout._replace(margins=margins)})
    found = paired.compare(better, rewards, "margin")
    assert found.mean == pytest.approx(1 / heldout.pairs[:, 0].sum()) and found.low == 0 < found.high
    assert found.p == 1.0
    assert paired.compare(rewards, rewards, "gap")[:4] == (0, 0, 0, 1)


@pytest.mark.parametrize("measure", paired.MEASURES)
def test_p_over_seeds_is_the_paired_t_test_of_the_runs(made, measure):
    rewards = paired.of(*made)
    ours, theirs = (
        [_value(run.rewards, measure) for run in sorted(made[0], key=lambda run: run.seed) if run.arm == arm]
        for arm in "ba"
    )
    assert paired.by_seed(rewards["b"], measure) == pytest.approx(ours)
    found = paired.compare(rewards["b"], rewards["a"], measure, draws=100)
    assert found.p_seeds == pytest.approx(scipy.stats.ttest_rel(ours, theirs).pvalue)
    assert np.isnan(paired.compare(rewards["c"], rewards["a"], measure, draws=100).p_seeds)


def _value(rows, measure):
    train, heldout = (rows.filter(side=side)["margin"] for side in paired.SIDES)
    return {"accuracy": (heldout > 0).mean(), "margin": heldout.mean(), "gap": train.mean() - heldout.mean()}[measure]


@pytest.mark.parametrize(("prompts", "there"), [(1, False), (3, False), (8, True)])
def test_draws_without_an_arm_s_few_prompts_count_against_a_difference(prompts, there):
    """Of 200 training prompts an arm has so many: a draw has none of them with a chance of (1 - prompts / 200)^200,
    37%, 5% and .03%. There is no interval where the bounds of 95% are among them, and p is no less than that chance."""
    draw = np.random.default_rng(0)

    def arm(training):
        margins = [draw.normal(size=(size, 1)) for size in (200, 50)]
        has = np.arange(200)[:, None] < training
        sides = [(margins[0] * has, has[:, 0]), (margins[1], np.ones(50))]
        made = (paired.Side(each, (each > 0).astype(float), pairs.astype(float)[:, None]) for each, pairs in sides)
        return paired.Rewards((0,), dict(zip(paired.SIDES, made, strict=True)))

    few, full = arm(prompts), arm(200)
    found = [paired.interval(few, "gap"), paired.compare(few, full, "gap")[1:3]]
    assert np.isfinite(found).all() == there and np.isnan(found).all() != there
    far = few._replace(
        sides={**few.sides, "train": few.sides["train"]._replace(margins=few.sides["train"].margins + 9)}
    )
    assert paired.compare(far, full, "gap").p >= 0.9 * (1 - prompts / 200) ** 200
    row = paired.table({"few": far, "full": full}, ["full"]).rows[2]
    assert isinstance(row[2], Within) == there and "nan" not in written(row[2])
    assert row[-1] is None  # one seed


def test_a_family_is_corrected_together(made):
    rewards = paired.of(*made)
    wanted = [("b", "a", "margin"), ("b", "a", "gap"), ("c", "a", "margin"), ("d", "a", "margin")]
    found = paired.family(rewards, wanted)
    assert [(one.arm, one.measure) for one in found] == [("b", "margin"), ("b", "gap"), ("c", "margin")]
    assert [one.corrected for one in found] == pytest.approx(statistics.holm([one.difference.p for one in found]))
    assert found[0].difference.mean == pytest.approx(0.5, abs=0.15) and found[0].corrected < 0.01
    low, high = paired.interval(rewards["a"], "accuracy")
    assert low < paired.value(rewards["a"], "accuracy") < high


def test_an_arm_that_turned_training_pairs_round_has_no_gap(made):
    """Nor an interval of it, nor a comparison."""
    runs, frame = made
    runs = [run._replace(metrics={"swapped": 5 * (run.arm == "c")}) for run in runs]
    rewards = paired.of(runs, frame)
    assert [one.has("gap") for one in rewards.values()] == [True, True, False] and rewards["c"].has("margin")
    found = paired.table(rewards, ["a"])
    assert [row[:2] for row in found.rows if row[0] == "c − a"] == [
        ["c − a", paired.MEASURES[name]] for name in ("accuracy", "margin")
    ]
    assert paired.family(rewards, [("a", "c", "gap")]) == []


def test_runs_of_other_pairs_or_of_validation_prompts_are_left_out(made):
    runs, frame = made
    assert paired.of(runs, frame.head(100)) == {} and paired.table({}, ["a"]) is None
    validated = [
        run._replace(record={"train": {"validation_fraction": 0.25}}) if run.arm == "a" else run for run in runs
    ]
    assert list(paired.of([*validated, runs[0]._replace(rewards=None)], frame)) == ["b", "c"]


def test_the_table_has_every_arm_beside_those_that_are_compared_with(made):
    table = paired.table(paired.of(*made), ["base", "a"])
    assert [row[:2] for row in table.rows[:3]] == [["b − a", name] for name in paired.MEASURES.values()]
    assert table.columns[-1] == "p over seeds" and table.rows[0][-1] == pytest.approx(
        paired.compare(*(paired.of(*made)[arm] for arm in "ba"), "accuracy").p_seeds
    )
    assert {row[0] for row in table.rows} == {"b − a", "c − a"} and len(table.rows) == 6
    assert table.rows[0][2].value == pytest.approx(
        paired.compare(*(paired.of(*made)[arm] for arm in "ba"), "accuracy").mean
    )


def test_margins_of_another_beta_are_not_compared(made):
    """They are in another unit; accuracies have none."""
    runs, frame = made
    betas = {"a": 0.1, "b": 0.2}
    runs = [run._replace(record={"train": {"beta": betas[run.arm]}}) for run in runs if run.arm in betas]
    assert [row[1] for row in paired.table(paired.of(runs, frame), ["a"]).rows] == [paired.MEASURES["accuracy"]]
    alike = [run._replace(record={"train": {"beta": 0.2}}) for run in runs]
    assert len(paired.table(paired.of(alike, frame), ["a"]).rows) == len(paired.MEASURES)


def test_arms_of_other_held_out_prompts_are_not_compared(made):
    """As where one was trained with --limit: `arms.compare` compares them neither."""
    runs, frame = made
    few = [run._replace(rewards=run.rewards.filter(side="heldout").head(9)) if run.arm == "b" else run for run in runs]
    found = paired.family(paired.of(few, frame), [("b", "a", "accuracy"), ("c", "a", "accuracy")])
    assert [one.arm for one in found] == ["c"]
