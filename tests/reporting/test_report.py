"""The report folder: its files, the same bytes twice, and a page that is safe to open."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import artefacts
import polars as pl
import pytest

from curate.base import files, times
from curate.base.errors import InputError, OutputError
from curate.project import params
from curate.reporting.inputs import Material, read_material
from curate.reporting.made import Made, now
from curate.reporting.write import write_report

FIGURES = {
    "glance",
    "mutual-information",
    "gap",
    "weights",
    "margins",
    "accuracies",
    "rewards",
    "divergence",
    "objectives",
}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, and the text inside each element with an id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], {}, []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, attributes.get("id")))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for _, name in self._open:
            if name:
                self.texts[name] = self.texts.get(name, "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def material(root, arms=("dpo", "bdpo"), seeds=(0,)):
    documents = {name: root / f"data/{name}.json" for name in ("prepare", "score", "weigh")}
    documents["reference"] = root / "data/reference/reference.json"
    return read_material(root / "data/weights.parquet", documents, root / "runs", arms, seeds)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = artefacts.write_all(tmp_path_factory.mktemp("report"))
    write_report(material(root), root / "report", params.Params())
    return root


@pytest.fixture(scope="module")
def text(root):
    return (root / "report/index.html").read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_a_system_turn_that_the_template_puts_in_is_told(root):
    page = (root / "report" / "index.html").read_text()
    assert "system turn that the template puts in by itself" in page and "system Be of help." in page


def test_every_output_is_there(root):
    report = root / "report"
    assert {path.name for path in (report / "figures").iterdir()} == {
        f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")
    }
    assert {path.name for path in (report / "plots").iterdir()} == {
        "pmi.csv",
        "gap_histogram.csv",
        "weights_histogram.csv",
        "curves.csv",
        "arms.csv",
        "kl.csv",
    }
    assert {path.name for path in report.iterdir()} == {"index.html", "metrics.json", "metrics", "figures", "plots"}


def test_the_same_input_gives_the_same_bytes(root, tmp_path):
    write_report(material(root), tmp_path / "again", params.Params())
    for path in sorted((root / "report").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(root / "report")).read_bytes(), path


def test_figures_carry_no_date_and_no_version(root):
    for path in (root / "report/figures").iterdir():
        content = path.read_bytes()
        assert b"Software" not in content and b"dc:date" not in content


def test_the_page_needs_nothing_else(text, page):
    assert "http://" not in text and "https://" not in text
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png"))
    assert not page.all("link") and not page.all("iframe") and "@import" not in text


def test_no_text_of_a_pair_is_in_the_source(text, page):
    """Not even escaped: what a pair says cannot be searched for in the file."""
    for row in artefacts.frame().select("prompt", "chosen", "rejected").rows():
        for turns in row:
            assert turns[0]["content"] not in text and html.escape(turns[0]["content"]) not in text
    assert "&lt;b&gt;a repeat" in text and "<b>a repeat" not in text  # what the summaries say is escaped
    assert [script.get("type") for script in page.all("script")] == ["application/json", None]


def test_every_example_has_a_button_and_a_masked_box_for_each_text(page):
    buttons = [attributes for attributes in page.all("button") if "data-text" in attributes]
    boxes = [attributes["id"] for attributes in page.all("div") if attributes.get("id", "").startswith("text-")]
    assert [button["aria-controls"] for button in buttons] == boxes
    assert len(boxes) == 3 * params.Params().report.examples and {page.texts[box] for box in boxes} == {"masked"}
    assert all(button["type"] == "button" and button["aria-expanded"] == "false" for button in buttons)


def test_the_policy_allows_the_page_s_own_style_and_script_alone(text, page):
    (policy,) = [found["content"] for found in page.all("meta") if found.get("http-equiv") == "Content-Security-Policy"]
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and "default-src 'none'" in policy
    assert not any(name == "style" or name.startswith("on") for _, found in page.tags for name in found)


def test_ids_are_unique_and_every_reference_has_its_id(text, page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {attributes["href"][1:] for _, attributes in page.tags if attributes.get("href", "").startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted <= set(ids)


def test_figures_have_a_text_alternative_and_headings_are_in_order(page):
    figures = [attributes for attributes in page.all("svg") if attributes.get("role") == "img"]
    assert len(figures) == len(FIGURES) and all(len(attributes["aria-label"]) > 40 for attributes in figures)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_says_what_it_should(text):
    for words in (
        "Content warning",
        "403 rows read = 400 kept + 3 rejected",
        "One seed.",
        "d" * 64,
        "empty_user",
        "dvc repro",
        "D_balanced and D_imbalanced",
        "margin gap",
        "is our formalisation",
        "scatter_points: 4000",
    ):
        assert words in text
    assert "/somewhere" not in text and "Made " not in text.partition("<main>")[0]


def test_date_and_run_time_stand_on_the_page_alone(root, tmp_path):
    made = Made("1 May 2026, 10:00 UTC", 254.0, ("train dpo 0", 61.2))
    write_report(material(root), tmp_path / "dated", params.Params(), made)
    for path in sorted((root / "report").rglob("*.*")):
        other = tmp_path / "dated" / path.relative_to(root / "report")
        assert (path.read_bytes() == other.read_bytes()) == (path.name != "index.html"), path
    text = (tmp_path / "dated/index.html").read_text()
    assert "Made 1 May 2026, 10:00 UTC · run time 4 min 14 s, longest: train dpo 0 1 min 1 s" in text


def test_stages_times_are_those_of_their_last_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURATE_STATE", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert now(["score"]).took == "not recorded"
    for stage, seconds in (("score", 50.0), ("train dpo 0", 4000.0), ("score", 10.0), ("train old 0", 9.0)):
        times.record(stage, seconds)
    with times.file().open("a") as file:
        file.write('{"stage": "torn')
    found = now(["score", "split", "train dpo 0"])
    assert found.seconds == 4010 and found.took == "1 h 6 min, longest: train dpo 0 1 h 6 min"


def test_times_lie_in_the_state_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable, state in (("DVC_ROOT", "project/.curate"), ("CURATE_STATE", "deep/state")):
        monkeypatch.setenv(variable, str(tmp_path / (state.removesuffix("/.curate"))))
        assert not times.read()
        times.record("score", 1.0)
        assert times.read() == {"score": 1.0} and (tmp_path / state / "times.jsonl").is_file()
    assert not (tmp_path / ".curate").exists()


def test_no_folder_and_no_password_is_on_the_page(root, tmp_path):
    loaded = params.Params()
    source = "/home/somebody/secret-project/pairs.jsonl"
    data = loaded.data.model_copy(update={"source": source, "watch": source})
    evaluate = loaded.evaluate.model_copy(
        update={"judge": "rubric", "judge_model": "m", "judge_url": "http://me:hunter2@judge.example:8000/v1"}
    )
    write_report(material(root), tmp_path, loaded.model_copy(update={"data": data, "evaluate": evaluate}))
    text = (tmp_path / "index.html").read_text()
    assert "hunter2" not in text and "somebody" not in text and "…/pairs.jsonl" in text


def test_figures_have_the_page_s_colours(text):
    """Every colour of an inline figure is a variable that the page sets for light and for dark screens."""
    shapes = re.sub(r'href="data:[^"]*"', "", "".join(re.findall("<svg.*?</svg>", text, re.DOTALL)))
    assert not re.findall(r'(?:fill|stroke)="#[0-9a-f]{3,6}"', shapes)
    used = set(re.findall(r"var\(--([\w-]+)\)", shapes))
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    for scheme in (style.partition("@media")[0], style.partition("@media")[2].partition("* {")[0]):
        assert {"ink", "series-0"} <= used <= set(re.findall(r"--([\w-]+):", scheme))


def test_pairs_that_were_not_split_have_a_report_without_subsets(tmp_path):
    frame = artefacts.frame(40).drop("balanced", "imbalanced", "random")
    files.write_parquet(frame, tmp_path / "weights.parquet", {})
    write_report(read_material(tmp_path / "weights.parquet", {}, None), tmp_path / "out", None)
    text = (tmp_path / "out/index.html").read_text()
    information = re.search('<section id="information".*?</section>', text, re.DOTALL)[0]
    assert 'id="splits"' not in text and "D_imbalanced" not in information


def test_metrics(root):
    metrics = files.read_json(root / "report/metrics.json")
    frame = artefacts.frame()
    unsafe = frame.filter(pl.col("query_type") == "unsafe")
    assert metrics["pairs"] == 400 and list(metrics["arms"]) == ["bdpo", "dpo"]
    assert metrics["positive_gap"]["unsafe"] == pytest.approx((unsafe["pmi_gap"] > 0).mean())
    dpo, run = metrics["arms"]["dpo"], files.read_json(root / "runs/dpo/seed-0/metrics.json")
    gap = run["train"]["rewards/margins"] - run["heldout"]["rewards/margins"]
    assert dpo["margin_gap"] == {"mean": pytest.approx(gap), "sd": None, "n": 1}
    assert dpo["heldout_accuracy"]["mean"] == run["heldout"]["rewards/accuracies"]
    assert dpo["subset"] == "all" and dpo["seeds"] == 1 and metrics["arms"]["bdpo"]["alpha"] == 1.5


def test_metrics_for_a_screen_are_few_and_those_of_the_report(root):
    full = files.read_json(root / "report/metrics.json")
    short = {path.stem: files.read_json(path) for path in (root / "report/metrics").iterdir()}
    assert set(short) == {"pairs", "dpo", "bdpo"} and short["pairs"]["pairs"] == 400
    for name, arm in full["arms"].items():
        assert list(short[name]) == ["accuracy", "kl", "margin", "margin_gap"]
        assert short[name]["margin_gap"] == arm["margin_gap"]["mean"]


def test_plots_count_every_pair(root):
    plots = root / "report/plots"
    assert pl.read_csv(plots / "pmi.csv").columns == ["rejected_pmi", "chosen_pmi", "query_type"]
    assert pl.read_csv(plots / "gap_histogram.csv")["pairs"].sum() == 400
    assert pl.read_csv(plots / "weights_histogram.csv")["pairs"].sum() == 3 * 400
    assert pl.read_csv(plots / "curves.csv")["arm"].unique().sort().to_list() == ["bdpo", "dpo"]


def test_what_is_not_given_is_left_out_and_said(root, tmp_path):
    bare = read_material(root / "data/weights.parquet", {}, None)
    write_report(bare, tmp_path / "out", None)
    text = (tmp_path / "out/index.html").read_text()
    for option in ("--prepare", "--runs", "--params"):
        assert option in text
    assert not (tmp_path / "out/figures/margins.svg").exists() and not (tmp_path / "out/plots/curves.csv").exists()
    assert "tiny" in text  # the model is known from the file's own record
    assert "Standardised mean differences" in text  # of the pairs themselves


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("prepare", {"source": "other.jsonl"}, "of other.jsonl"),
        ("prepare", {"kept": 399}, "399 pairs kept"),
        ("prepare", {"pair_ids": "0" * 64}, "400 pairs with other ids"),
        ("score", {"pairs": 401}, "401"),
        ("weigh", {"pairs": 80}, "80"),
    ],
)
def test_a_summary_of_other_pairs_is_refused(root, tmp_path, name, change, found):
    summary = json.loads((root / f"data/{name}.json").read_text()) | change
    (tmp_path / f"{name}.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match="the summary is of other pairs") as caught:
        read_material(root / "data/weights.parquet", {name: tmp_path / f"{name}.json"}, None)
    assert caught.value.details["found"] == found
    assert caught.value.details["file"] == str(tmp_path / f"{name}.json")


def test_pairs_that_were_kept_and_not_scored_are_told_of(root, tmp_path):
    documents = {"prepare": tmp_path / "prepare.json"}
    for kept in (400, 1554):
        summary = json.loads((root / "data/prepare.json").read_text())
        documents["prepare"].write_text(json.dumps({**summary, "read": kept + 3, "kept": kept}))
        write_report(read_material(root / "data/weights.parquet", documents, None), tmp_path / "out", None)
        said = "Of the pairs kept 400 were scored." in (tmp_path / "out/index.html").read_text()
        assert said is (kept > 400)


def test_a_run_of_other_pairs_is_refused(root, tmp_path):
    artefacts.write_run(tmp_path / "runs/dpo/seed-0", "dpo")
    frame = artefacts.frame()
    rewards = frame.select("pair_id", side=pl.col("split").cast(pl.String), margin=pl.lit(0.5))
    for ids, fault in ((pl.col("pair_id"), None), (pl.col("pair_id").replace({frame["pair_id"][7]: "of before"}), 1)):
        files.write_parquet(rewards.with_columns(pair_id=ids), tmp_path / "runs/dpo/seed-0/rewards.parquet", {})
        if fault is None:
            assert len(read_material(root / "data/weights.parquet", {}, tmp_path / "runs").runs) == 1
    with pytest.raises(InputError, match="the run is of other pairs") as caught:
        read_material(root / "data/weights.parquet", {}, tmp_path / "runs")
    assert caught.value.details["field"] == "dpo, seed 0"
    assert caught.value.details["found"] == "1 of the 400 pairs that it was measured on"


def test_the_page_goes_by_the_gap_that_was_used_and_warns_of_what_it_was_made_of(tmp_path):
    """Subsets by the root form, weights by the total one, of scores with the own prompt in the contrastive mean."""
    frame = artefacts.frame(60).with_columns(subset_gap=pl.col("pmi_gap") * 3, balance_gap=pl.col("pmi_gap") * 7)
    scored = {"stage": "score", "params": {"null_prompt": "contrastive"}}
    split = {"stage": "split", "params": {"normalisation": "sqrt"}, "from": scored}
    write_report(
        Material(frame, {"stage": "weigh", "params": {"normalisation": "total"}, "from": split}), tmp_path, None
    )
    text = (tmp_path / "index.html").read_text()
    for words in (
        "own prompt in the mean",
        "in total, scaled",
        "d = MI(x, y_w)·√|y_w| − MI(x, y_l)·√|y_l|, on the scale of the gap per token",
        "d = MI(x, y_w)·|y_w| − MI(x, y_l)·|y_l|, on the scale of the gap per token",
    ):
        assert words in text, words
    bounds = frame.filter("imbalanced").group_by("query_type").agg(pl.col("subset_gap").abs().min())
    for query_type, bound in bounds.iter_rows():
        assert f"{query_type} D_imbalanced from |gap| {bound:.3f}" in text
    assert f"{frame.filter('balanced')['subset_gap'].abs().max():.3f}" in text  # the table of subsets


def test_odd_data_is_drawn(tmp_path):
    """A third query type, one pair alone, constant weights, a MI that is no number."""
    frame = artefacts.frame(40).with_columns(
        pl.lit(1.0).alias("chosen_weight"), pl.lit(1.0).alias("rejected_weight"), pl.lit(1.0).alias("pair_scale")
    )
    odd = frame.with_row_index().with_columns(
        pl.when(pl.col("index") == 0).then(float("nan")).otherwise(pl.col("pmi_gap")).alias("pmi_gap"),
        pl.when(pl.col("index") == 1)
        .then(pl.lit("unknown"))
        .otherwise(pl.col("query_type").cast(pl.String))
        .cast(frame.schema["query_type"])
        .alias("query_type"),
    )
    for name, part in (("odd", odd.drop("index")), ("single", frame.head(1))):
        write_report(Material(part, {}), tmp_path / name, None)
        assert (tmp_path / name / "figures/mutual-information.png").stat().st_size > 10_000
    assert "1 pairs have no finite MI" in (tmp_path / "odd/index.html").read_text()


def test_no_pair_is_an_error_and_leaves_nothing(tmp_path):
    files.write_parquet(artefacts.frame(4).head(0), tmp_path / "none.parquet", {})
    with pytest.raises(InputError, match="no pair to report on"):
        write_report(read_material(tmp_path / "none.parquet", {}, None), tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_ours_is_not_replaced(root, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="would lose what it holds"):
        write_report(material(root), tmp_path, params.Params())
    assert [path.name for path in tmp_path.rglob("*")] == ["figures", "mine.txt"]
