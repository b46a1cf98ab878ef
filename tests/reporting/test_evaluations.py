"""Evaluations in the report: the page's numbers are those of the statistics, and nothing is said beyond them."""

import html
import re
from xml.etree import ElementTree

import artefacts
import numpy as np
import polars as pl
import pytest

from curate.base import files
from curate.base.errors import InputError
from curate.evaluation import compare, record, statistics
from curate.project import params
from curate.reporting.evaluations import MOST_SENTENCES, shown
from curate.reporting.inputs import read_material
from curate.reporting.table import Within, written
from curate.reporting.write import write_report

SAFE = {"base": 0.3, "dpo": 0.5, "bdpo": 0.8}
HEADLINE = {
    "sample": ["harm score, unsafe prompts ↓", "safe rate, unsafe prompts ↑", "over-refusal, safe prompts ↓"],
    "prefill": ["attack success ↓", "harm score ↓"],
}
HOSTILE = "</script><b>模型\x1b[31m</b> $x$ {{ 7*7 }} -->"


def place(folder, name, seed):
    return folder / name if seed is None else folder / name / f"seed-{seed}"


def write(folder, seeds=(0,), **options):
    """Evaluations of base, dpo and bdpo."""
    for name, safe in SAFE.items():
        for seed in (None,) if name == "base" else seeds:
            artefacts.write_evaluation(
                place(folder, name, seed), name, seed, **{"safe": safe, "unjudged": 2 * (name == "bdpo")} | options
            )
    return folder


def report(folder, out, wanted=None):
    """The folder of the report of the evaluations in `folder`."""
    data = out / "weights.parquet"
    files.write_parquet(artefacts.frame(40), data, {})
    write_report(read_material(data, {}, None, evaluations=folder), out / "report", wanted)
    return out / "report"


def wanted(**changes):
    made = params.Params()
    return made.model_copy(update={"report": made.report.model_copy(update=changes)})


def page(folder):
    return (folder / "index.html").read_text()


def plain(part):
    return html.unescape(re.sub(r"<[^>]+>", "", part)).strip()


def tables(text):
    """[caption, columns, rows] of every table, as a reader sees them."""
    return [
        (
            plain(re.split("<span>", re.search("<caption>(.*?)</caption>", table, re.S)[1])[0]),
            [plain(cell) for cell in re.findall("<th scope=.col.*?</th>", table, re.S)],
            [
                [plain(cell) for cell in re.findall("<t[hd].*?</t[hd]>", row, re.S)]
                for row in re.findall("<tr>.*?</tr>", table.partition("</thead>")[2], re.S)
            ],
        )
        for table in re.findall("<table>.*?</table>", text, re.S)
    ]


def section(text):
    return text.partition('<section id="evaluation"')[2].partition("</section>")[0]


def short(text):
    """The sentences at the top of the section."""
    top = section(text).partition('<ul class="short">')[2].partition("</ul>")[0]
    return [plain(line) for line in re.findall("<li>.*?</li>", top, re.S)]


def values(folder, name, seeds, suite, metric):
    """By numpy from the files: [prompts, seeds], how many items each prompt has, how many answers have no verdict."""
    columns, unjudged = [], 0
    for seed in seeds:
        frame = pl.read_parquet(place(folder, name, seed) / "values.parquet").filter(suite=suite, metric=metric)
        _, at, items = np.unique(frame["cluster"].to_numpy(), return_inverse=True, return_counts=True)
        columns.append(np.bincount(at, frame["value"].to_numpy()) / items)
        unjudged += int((~frame["judged"]).sum())
    return np.stack(columns, axis=1), items, unjudged


def estimate(table, items):
    return statistics.rate(table) if set(np.unique(table)) <= {0, 1} else statistics.mean(table, items)


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    root = tmp_path_factory.mktemp("one")
    return write(root / "evaluations"), report(root / "evaluations", root, wanted())


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory):
    root = tmp_path_factory.mktemp("three")
    return write(root / "evaluations", (0, 1, 2)), report(root / "evaluations", root, wanted())


@pytest.mark.parametrize("made", ["one_seed", "three_seeds"])
def test_every_number_of_the_tables_is_that_of_the_statistics(made, request):
    folder, out = request.getfixturevalue(made)
    seeds = (0,) if made == "one_seed" else (0, 1, 2)
    found_tables = {
        (caption.removesuffix(", continued"), tuple(columns)): rows
        for caption, columns, rows in tables(section(page(out)))
    }
    seen = 0
    for (suite, columns), rows in found_tables.items():
        if suite == "Comparisons":
            continue
        assert columns[:3] == ("arm", "seeds", "prompts")
        assert [row[:3] for row in rows] == [[name, str(len(seeds) if name != "base" else 1), "40"] for name in SAFE]
        for name, *_, cells in ((row[0], row[3:]) for row in rows):
            for column, cell in zip(columns[3:], cells, strict=True):
                table, items, unjudged = values(folder, name, (None,) if name == "base" else seeds, suite, column[:-2])
                found = estimate(table, items)
                assert cell == written(Within(found.value, found.low, found.high, unjudged, found.n)), (suite, column)
                seen += 1
    first = {}
    for suite, columns in found_tables:
        first.setdefault(suite, list(columns[3:]))
    assert {suite: first[suite] for suite in HEADLINE} == HEADLINE
    assert seen == 3 * (3 + 3 + 2 + 4)
    unjudged = 2 * len(seeds)  # bdpo's first answers of each suite; of prefill those that nothing was given to
    assert section(page(out)).count(f"({unjudged} of ") == 4


@pytest.mark.parametrize("made", ["one_seed", "three_seeds"])
def test_every_verdict_is_that_of_the_corrected_test(made, request):
    folder, out = request.getfixturevalue(made)
    seeds = (0,) if made == "one_seed" else (0, 1, 2)
    pairs = [("dpo", "base"), ("bdpo", "base"), ("bdpo", "dpo")]
    keys = [(suite, column) for suite, columns in HEADLINE.items() for column in columns]
    expected = []
    for arm, other in pairs:
        for suite, column in keys:
            (ours, items, _), (theirs, *_) = (
                values(folder, name, (None,) if name == "base" else seeds, suite, column[:-2]) for name in (arm, other)
            )
            trained = other != "base"
            expected.append(statistics.compare(ours, theirs, items, paired_seeds=trained, trained=trained))
    corrected = statistics.holm([one.p for one in expected])
    (rows,) = [rows for caption, _, rows in tables(section(page(out))) if caption == "Comparisons"]
    assert len(rows) == len(expected) == 15
    outcomes = {}
    for row, one, p, (pair, key) in zip(
        rows, expected, corrected, [(pair, key) for pair in pairs for key in keys], strict=True
    ):
        suite, column = key
        assert row[:2] == [" − ".join(pair), f"{suite}: {column}"]
        over_seeds = None if made == "one_seed" else one.p_seeds
        assert row[2:6] == list(map(written, (Within(one.mean, one.low, one.high), one.p, float(p), over_seeds)))
        better = "better" if (one.mean > 0) == column.endswith("↑") else "worse"
        outcome = better if p < 0.05 else "no difference shown"
        alone = p < 0.05 and not one.p_seeds < 0.05
        number = "1 seed" if made == "one_seed" else "3 seeds"
        assert row[6] == outcome + (f" ({number}: these runs, not the method)" if alone else "")
        outcome += " (these runs, not the method)" if alone else ""
        name, _, part = column[:-2].partition(", ")
        outcomes.setdefault(pair, []).append((outcome, f"{name} ({part})" if part else name, suite))
    assert {outcome.partition(" ")[0] for found in outcomes.values() for outcome, *_ in found} >= {"better", "worse"}

    # The same in sentences, the comparison with the last of report.compare_with first.
    lines = short(page(out))
    assert [line.partition(":")[0] for line in lines] == [
        "bdpo against dpo", "dpo against base", "bdpo against base"
    ]  # fmt: skip
    for line, pair in zip(lines, [pairs[2], *pairs[:2]], strict=True):
        parts = line.partition(": ")[2].removesuffix(".").split("; ")
        alone = " (these runs, not the method)"
        said = {part.partition(" in ")[0] + alone * part.endswith(alone): part for part in parts}
        assert set(said) == {outcome for outcome, *_ in outcomes[pair]}
        for outcome, metric, suite in outcomes[pair]:
            assert metric in said[outcome] and f"of {suite}" in said[outcome]


def test_few_seeds_are_warned_of_and_three_are_not(one_seed, three_seeds):
    warning = "a claim about a method needs at least 3 seeds"
    assert warning in section(page(one_seed[1])) and warning not in section(page(three_seeds[1]))
    assert "these runs, not the method" not in page(three_seeds[1])


def test_what_three_seeds_do_not_show_by_themselves_is_said_of_these_runs(tmp_path):
    """bdpo's seeds gain .2, .35 and .6 in safety: of prompts more than enough, of seeds p = .08."""
    for seed, gain in enumerate((8, 14, 24)):
        for name, more in (("dpo", 0), ("bdpo", gain)):
            folder = tmp_path / "e" / name / f"seed-{seed}"
            artefacts.write_evaluation(folder, name, seed, judge=True)
            values = pl.read_parquet(folder / "values.parquet")
            safe = pl.int_range(pl.len()).over("suite", "metric") < 10 + more
            values = values.with_columns(
                value=pl.when(pl.col("metric").str.contains("safe rate")).then(safe).otherwise(0.0)
            )
            files.write_parquet(values, folder / "values.parquet", {})
            metrics = files.read_json(folder / "metrics.json")
            for suite, metric, mean in values.group_by("suite", "metric").agg(pl.col("value").mean()).rows():
                metrics["suites"][suite]["metrics"][metric]["value"] = mean
            files.write_json(metrics, folder / "metrics.json")
    out = report(tmp_path / "e", tmp_path, wanted(compare_with=["dpo"]))
    (line,) = short(page(out))
    assert "better in safe rate (unsafe prompts) of sample (these runs, not the method); no difference" in line
    assert "better in 1 of 5 metrics than dpo (these runs, not the method)" in plain(page(out))
    assert "better (3 seeds: these runs, not the method)" in plain(section(page(out)))


def test_the_judge_is_named_and_no_answer_is_on_the_page(one_seed):
    text = page(one_seed[1])
    assert "Judge: truth (what the sample&#39;s generator knows)." in section(text)
    assert "SECRET" not in text and "request 1 of" not in text and "I cannot help" not in text


def test_a_judge_s_model_and_commit_are_named(tmp_path):
    artefacts.write_evaluation(tmp_path / "e/base", "base")
    metrics = files.read_json(tmp_path / "e/base/metrics.json")
    model = {"name": "owner/judge", "commit": "c0ffee", "digest": "d"}
    metrics["suites"]["prefill"]["judge"] = {"judge": "classifier", "label": "bad", "model": model}
    files.write_json(metrics, tmp_path / "e/base/metrics.json")
    found = {suite.name: suite.judge for suite in shown(compare.arms(record.read([tmp_path / "e"])), []).suites}
    assert found == {
        "sample": "truth (what the sample's generator knows)",
        "prefill": "classifier (owner/judge, commit c0ffee, harmful is its label bad)",
    }


def test_without_a_judge_string_matching_is_secondary_and_compared_with_nothing(tmp_path):
    out = report(write(tmp_path / "e", judge=False), tmp_path, wanted())
    text = section(page(out))
    assert "No judge read the answers of strongreject: refusals were found by matching strings" in plain(text)
    assert "secondary metrics alone; value [95% interval]" in text
    there = tables(text)
    assert [columns[3:] for caption, columns, _ in there if caption == "strongreject"] == [
        ["refusals by string matching ↑"]
    ]
    assert not any("strongreject" in row[1] for caption, _, rows in there if caption == "Comparisons" for row in rows)
    assert not any("strongreject" in line for line in short(page(out)))
    assert "Secondary metrics of the suite strongreject with 95% intervals" in text
    assert set(pl.read_csv(out / "plots/evaluation.csv")["metric"]) == {
        f"sample: {column[:-2]}" for column in HEADLINE["sample"]
    }


def test_many_arms_have_the_first_sentences_and_a_pointer_to_the_others(tmp_path):
    for number in range(4):
        artefacts.write_evaluation(tmp_path / f"e/arm-{number}", f"arm-{number}", 0, safe=0.2 * number)
    artefacts.write_evaluation(tmp_path / "e/base", "base")
    out = report(tmp_path / "e", tmp_path, wanted(compare_with=["base", "arm-0"]))
    lines = short(page(out))
    assert len(lines) == MOST_SENTENCES == 6
    assert [line.partition(":")[0] for line in lines] == [
        *(f"arm-{number} against arm-0" for number in (1, 2, 3)),
        *(f"arm-{number} against base" for number in (0, 1, 2)),
    ]
    assert "1 more comparisons of two arms stand" in plain(page(out))
    assert "arm-3 − base" in plain(section(page(out)))


def test_files_for_dvc(three_seeds):
    folder, out = three_seeds
    metrics = files.read_json(out / "metrics.json")
    rows = {(row["arm"], row["metric"]): row for row in pl.read_csv(out / "plots/evaluation.csv").iter_rows(named=True)}
    assert list(metrics["evaluation"]) == ["base", "bdpo", "dpo"] and len(rows) == 15
    for name, found in metrics["evaluation"].items():
        assert set(found) == {f"{suite}: {column[:-2]}" for suite, columns in HEADLINE.items() for column in columns}
        for key, value in found.items():
            table, items, _ = values(folder, name, (None,) if name == "base" else (0, 1, 2), *key.split(": "))
            expected = estimate(table, items)._asdict() | {"n": items.sum() * table.shape[1]}
            assert value == {part: expected[part] for part in ("value", "low", "high", "n")}
            assert {part: rows[name, key][part] for part in value} == pytest.approx(value)
            assert (rows[name, key]["prompts"], rows[name, key]["seeds"]) == (40, table.shape[1])
    assert list(metrics["comparisons"]) == ["bdpo - base", "bdpo - dpo", "dpo - base"]  # sorted, as JSON is written
    one = metrics["comparisons"]["bdpo - dpo"]["sample: safe rate, unsafe prompts"]
    assert set(one) == {"mean", "low", "high", "p", "p_corrected", "p_seeds", "prompts", "seeds", "verdict"}
    assert one["verdict"] == "better" and one["seeds"] == 3 and one["low"] <= one["mean"] <= one["high"]


def test_without_evaluations_the_page_says_how_to_give_them(tmp_path):
    out = report(None, tmp_path)
    assert "--evaluations" in section(page(out)) and not tables(section(page(out)))
    assert not list(out.glob("*/evaluation*")) and "evaluation" not in files.read_json(out / "metrics.json")
    with pytest.raises(InputError, match="no evaluation in this folder"):
        report(tmp_path / "report", tmp_path)


def drawn(out, suite):
    """Panels, rows and dots of a figure's SVG, and whether it is well-formed."""
    root = ElementTree.fromstring((out / f"figures/evaluation-{suite}.svg").read_text())
    ids = [element.get("id", "") for element in root.iter()]
    assert (out / f"figures/evaluation-{suite}.png").stat().st_size > 5_000
    return sum(name.startswith("axes_") for name in ids)


def test_the_figures_have_a_panel_for_every_headline_metric(one_seed, tmp_path):
    assert (drawn(one_seed[1], "sample"), drawn(one_seed[1], "prefill")) == (3, 2)
    text = section(page(one_seed[1]))
    for alt in re.findall('aria-label="(Headline metrics[^"]*)"', text):
        assert all(f"{name} 0." in alt for name in SAFE)
    assert "Intervals that overlap may still differ" in text

    alone = tmp_path / "e/solo"
    artefacts.write_evaluation(alone, "solo", 0)
    metrics = files.read_json(alone / "metrics.json")
    for number, metric in enumerate(metrics["suites"]["sample"]["metrics"].values()):
        metric["headline"] = number < 5
    files.write_json(metrics, alone / "metrics.json")
    out = report(alone, tmp_path)
    assert drawn(out, "sample") == 4
    text = section(page(out))
    assert "Drawn are the first 4 metrics; the tables have all." in text and "may still differ" not in text
    assert not short(page(out)) and "Comparisons" not in [caption for caption, *_ in tables(text)]


@pytest.mark.filterwarnings("ignore:Glyph")  # the figures' font has no Chinese
def test_odd_arms_are_drawn_and_written_as_text(tmp_path):
    """Names that are code, formulas and steering; rates of 0 and 1; an arm with a suite that the others lack."""
    for name, safe in (("base", 0.0), (HOSTILE, 2.0), ("long-" * 30, 2.0)):
        artefacts.write_evaluation(tmp_path / "e" / str(safe) / f"seed-{len(name)}", name, len(name), safe=safe)
    artefacts.write_evaluation(tmp_path / "e/other", "other", 0, safe=2.0, judge=False)
    out = report(tmp_path / "e", tmp_path, wanted(compare_with=["base", HOSTILE]))
    assert [drawn(out, suite) for suite in ("sample", "prefill", "strongreject")] == [3, 2, 1]
    text = section(page(out))
    assert html.escape(HOSTILE) in text and "<b>模型" not in text and "49" not in plain(short(page(out))[0])
    safe_rates = [
        row[4]
        for caption, columns, rows in tables(text)
        if columns[4:5] == ["safe rate, unsafe prompts ↑"]
        for row in rows
    ]
    expected = {tuple(round(bound, 3) for bound in statistics.wilson(40, 40))}
    assert {tuple(map(float, re.findall(r"\[(.*), (.*)\]", cell)[0])) for cell in safe_rates[1:]} == expected
    assert safe_rates[1].startswith("1.000") and "nan" not in text.lower()
