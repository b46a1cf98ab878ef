"""Arms side by side: pooled over seeds, compared on the same prompts, and never more said than was seen."""

import numpy as np
import polars as pl
import pytest
import scipy.stats

from curate.base import files
from curate.base.errors import InputError, UsageError
from curate.evaluation import compare, record, statistics
from curate.evaluation.items import VALUES

KEY = record.Key("s", "safe rate")


def write(
    folder, name, seed, safe, unjudged=0, better="higher", headline=True, judge=None, suite="s", options=None, **params
):
    """An evaluation of one suite and metric; `safe` holds a value a prompt."""
    rows = [
        {
            "suite": suite,
            "metric": "safe rate",
            "item": f"i{i}",
            "cluster": f"c{i}",
            "value": float(value),
            "judged": i >= unjudged,
        }
        for i, value in enumerate(safe)
    ]
    files.write_parquet(pl.DataFrame(rows, schema=VALUES), folder / "values.parquet", {})
    said = {"better": better, "headline": headline, "about": "safe", "value": float(np.mean(safe)), "n": len(safe)}
    suites = {suite: {"metrics": {"safe rate": said}, "judge": judge, "options": options}}
    files.write_json({"name": name, "seed": seed, "suites": suites, "params": params}, folder / "metrics.json")


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def arms(tmp_path, **runs):
    for name, seeds in runs.items():
        for seed, safe in enumerate(seeds):
            at = tmp_path / "base" if name == "base" else tmp_path / name / f"seed-{seed}"
            write(at, name, None if name == "base" else seed, safe)
    return compare.arms(record.read([tmp_path]), ["dpo", "bdpo"])


def test_an_arm_pools_its_seeds_with_the_prompt_as_cluster(tmp_path, draw):
    table = (draw.random((80, 3)) < 0.7).astype(float)
    base, dpo = arms(tmp_path, dpo=table.T, base=[np.ones(80)])
    assert (base.name, base.seeds, dpo.name, dpo.seeds) == ("base", [None], "dpo", [0, 1, 2])
    assert dpo.estimates[KEY] == statistics.rate(table[np.argsort([f"c{i}" for i in range(80)])])
    assert base.estimates[KEY].low < 1  # of 80 prompts all safe, not certainly safe


def test_differences_are_paired_by_prompt_and_seed(tmp_path, draw):
    hard = draw.random(200)
    worse = np.stack([(hard + draw.normal(0, 0.05, 200) < 0.6) for _ in range(3)]).astype(float)
    better = np.stack([(hard + draw.normal(0, 0.05, 200) < 0.7) for _ in range(3)]).astype(float)
    found = compare.compare(arms(tmp_path, base=[worse[0]], dpo=worse, bdpo=better), ["base", "dpo"])
    by_pair = {(one.arm, one.other): one for one in found}
    assert list(by_pair) == [("dpo", "base"), ("bdpo", "base"), ("bdpo", "dpo")]
    one = by_pair["bdpo", "dpo"]
    assert one.difference.mean == pytest.approx((better - worse).mean())
    assert one.verdict == "better" and one.seeds == 3 and one.p >= one.difference.p
    order = np.argsort([f"c{i}" for i in range(200)])
    alone = statistics.compare(better.T[order], worse.T[order], paired_seeds=True)
    assert one.difference == alone
    assert by_pair["dpo", "base"].verdict == "no difference shown"
    assert one.p == pytest.approx(min(1, statistics.holm([o.difference.p for o in found])[2]))


@pytest.mark.parametrize(("better", "expected"), [("higher", "worse"), ("lower", "better")])
def test_what_is_better_depends_on_the_metric_and_few_seeds_are_said(tmp_path, better, expected):
    for name, value in (("dpo", 1.0), ("bdpo", 0.0)):
        write(tmp_path / name, name, 0, [value] * 60, better=better)
    (found,) = compare.compare(compare.arms(record.read([tmp_path])[::-1]), ["dpo"])
    assert (found.arm, found.other) == ("bdpo", "dpo")
    assert found.verdict == f"{expected} (1 seed: these runs, not the method)"


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((10, 20, 30), "better (3 seeds: these runs, not the method)"),
        ((20, 21, 22), "better"),
        ((20, 20, 20), "better"),
    ],
)
@pytest.mark.parametrize("other", ["base", "dpo"])
def test_three_seeds_show_a_method_where_they_do_so_alone(tmp_path, other, gains, verdict):
    """Of 200 prompts 10, 20 and 30 more are safe: by prompts p < .001, by the three differences alone .074."""
    safe = (np.arange(200) < 100).astype(float)
    better = [(np.arange(200) < 100 + gain).astype(float) for gain in gains]
    runs = {other: [safe] * (1 if other == "base" else 3), "bdpo": better}
    (one,) = compare.compare(arms(tmp_path, **runs), [other])
    assert one.verdict == verdict and one.outcome == "better" and one.p < 0.001
    assert one.record()["seeds"] == 3  # `base` has none, and the verdict goes by three
    alone = scipy.stats.ttest_1samp(np.array(gains) / 200, 0).pvalue if len(set(gains)) > 1 else 0.0
    assert one.record()["p_seeds"] == pytest.approx(alone) and (alone < 0.05) == (verdict == "better")


def test_a_record_of_one_seed_has_no_p_over_seeds(tmp_path):
    (one,) = compare.compare(arms(tmp_path, base=[np.zeros(60)], bdpo=[np.ones(60)]), ["base"])
    assert one.record()["p_seeds"] is None
    files.write_json(one.record(), tmp_path / "compared.json")


def test_secondary_metrics_are_not_compared_nor_corrected_for(tmp_path):
    for name, value in (("dpo", 1.0), ("bdpo", 0.0)):
        write(tmp_path / name, name, 0, [value] * 60, headline=False)
    assert compare.compare(compare.arms(record.read([tmp_path])), ["dpo"]) == []
    write(tmp_path / "bdpo", "bdpo", 0, [0.0] * 59, headline=False)  # they stand side by side all the same
    with pytest.raises(InputError, match="different items"):
        compare.compare(compare.arms(record.read([tmp_path])), ["dpo"])


def test_answers_without_a_verdict_are_counted_over_the_seeds(tmp_path):
    for seed in range(2):
        write(tmp_path / f"dpo/seed-{seed}", "dpo", seed, [0.0] * 10, unjudged=3)
    (dpo,) = compare.arms(record.read([tmp_path]))
    assert dpo.estimates[KEY].unjudged == 6


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(InputError, match="no evaluation in this folder"):
        record.read([tmp_path])
    write(tmp_path / "a", "dpo", 0, [1.0] * 10)
    write(tmp_path / "b", "dpo", 0, [1.0] * 10)
    with pytest.raises(
        InputError, match=r"(?s)two evaluations have one name and seed.*/b\n.*dpo, seed 0, as in .*/a;?"
    ):
        record.read([tmp_path])
    write(tmp_path / "b", "bdpo", 0, [1.0] * 9)
    with pytest.raises(InputError, match="different items") as caught:
        compare.compare(compare.arms(record.read([tmp_path])), ["dpo"])
    assert "dpo, seed 0" in caught.value.details["found"]
    with pytest.raises(UsageError, match="no such arm"):
        compare.check_others(compare.arms(record.read([tmp_path])), ["ipo"])


def test_a_model_that_was_not_trained_has_no_seed_in_a_message(tmp_path):
    write(tmp_path / "a", "a", None, [1.0] * 10)
    write(tmp_path / "b", "b", None, [1.0] * 9)
    with pytest.raises(InputError, match="different items") as caught:
        compare.compare(compare.arms(record.read([tmp_path])), ["a"])
    assert caught.value.details["found"] == "b and a"


def judge(**model):
    return {"judge": "rubric", "digest": "r", "model": {"name": "j", "digest": "d", "engine": "e 1"} | model}


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"judge": judge()}, {"judge": judge(digest="e")}, "s: judge"),
        ({"judge": judge()}, {"judge": None}, "s: judge"),
        ({"max_tokens": 96}, {"max_tokens": 12}, "s: max_tokens"),
        ({"judge": judge()}, {"judge": judge(name="elsewhere/j", engine="e 2")}, None),
        ({"temperature": 0.0, "top_p": 0.9}, {"temperature": 0.0, "top_p": 1.0}, None),
        ({"temperature": 1.0, "top_p": 0.9}, {"temperature": 1.0, "top_p": 1.0}, "s: top_p"),
        ({"temperature": 0.0}, {"temperature": 1.0, "options": {"temperature": 0.0}}, "s: options"),
        ({"temperature": 0.0, "options": {"temperature": 0.7}}, {"options": {"temperature": 0.7}}, None),
        ({"options": {"suffixes": "a.txt"}}, {"options": {"suffixes": "b.txt"}}, None),
        ({"suite": "hhh", "max_tokens": 96}, {"suite": "hhh", "temperature": 1.0}, None),
        ({"suite": "gsm8k", "options": {"max_tokens": 8}}, {"suite": "gsm8k", "options": {}}, "gsm8k: options"),
    ],
)
@pytest.mark.parametrize("names", [("dpo", "bdpo"), ("dpo", "dpo")])
def test_what_was_judged_or_answered_in_another_way_is_not_compared(tmp_path, one, other, said, names):
    for seed, (name, how) in enumerate(zip(names, (one, other), strict=True)):
        write(tmp_path / f"{name}-{seed}", name, seed, [1.0] * 10, **how)
    found = record.read([tmp_path])
    if said is None:
        compare.compare(compare.arms(found), ["dpo"])
        return
    with pytest.raises(InputError, match="made in different ways") as caught:
        compare.compare(compare.arms(found), ["dpo"])
    assert caught.value.details["field"] == said and "seed 1" in caught.value.details["found"]


def test_models_of_one_name_that_differ_in_more_than_their_seed_are_no_seeds_of_an_arm(tmp_path):
    for seed, digest in ((0, "a"), (1, "a"), (2, "b")):
        folder = tmp_path / f"dpo/seed-{seed}"
        write(folder, "dpo", seed, [1.0] * 10)
        metrics = files.read_json(folder / "metrics.json")
        files.write_json(
            metrics | {"made": {"seed": seed, "data": {"digest": digest}, "train": {"kl_prompts": seed}}},
            folder / "metrics.json",
        )
    found = record.read([tmp_path])
    assert compare.arms(found[:2])[0].seeds == [0, 1]
    with pytest.raises(InputError, match=r"(?s)differ in more than their seed.*name dpo.*seed 0 and seed 2"):
        compare.arms(found)


def test_what_not_every_seed_has_is_left_out_and_said(tmp_path, capsys):
    for seed in range(2):
        write(tmp_path / f"dpo/seed-{seed}", "dpo", seed, [1.0] * 10)
    last = tmp_path / "dpo/seed-1"
    values, metrics = pl.read_parquet(last / "values.parquet"), files.read_json(last / "metrics.json")
    more = pl.concat([values, values.with_columns(metric=pl.lit("harm score"))])
    files.write_parquet(more, last / "values.parquet", {})
    described = metrics["suites"]["s"]["metrics"]
    described["harm score"] = described["safe rate"]
    files.write_json(metrics, last / "metrics.json")
    (dpo,) = compare.arms(record.read([tmp_path]))
    assert list(dpo.estimates) == [KEY]
    assert "dpo: not all of its seeds have these, which are left out: s: harm score" in capsys.readouterr().err


def test_many_comparisons_do_not_hide_a_plain_difference():
    """The least p of 10,000 draws, 0.0002, times 300 comparisons is 0.06: such a p is drawn for longer."""
    tables = compare.Tables(np.ones((60, 1)), np.zeros((60, 1)), np.ones(60), False, True)
    one, many = (compare._difference(tables, comparisons) for comparisons in (1, 300))
    assert one.p == 2 / (statistics.DRAWS + 1)
    assert 300 * many.p <= compare.RESOLUTION < 300 * one.p
    assert compare._difference(tables._replace(theirs=tables.ours), 300).p == 1


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("t", "t", True), ("t", "u", False), ("t", None, True), (None, None, True)],
)
def test_judges_that_differ_in_their_template_alone_are_not_alike(tmp_path, one, other, alike):
    """A record of before says nothing of the tokenizer."""
    for name, tokenizer in (("dpo", one), ("bdpo", other)):
        model = {"name": name, "digest": "d"} | ({"tokenizer": tokenizer} if tokenizer else {})
        write(tmp_path / name / "seed-0", name, 0, [0.0, 1.0], judge={"judge": "rubric", "model": model})
    runs = record.read([tmp_path])
    if alike:
        compare.check_alike(runs)
    else:
        with pytest.raises(InputError, match="made in different ways"):
            compare.check_alike(runs)
