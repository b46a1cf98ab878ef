"""Every file of the third-party data and of the inputs that once went wrong: its format, counts and labels, pinned."""

import os
from pathlib import Path

import polars as pl
import pytest
from command import curate
from tiny import save_model

from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams, load

SHARED = Path(os.environ.get("CURATE_REALDATA") or Path(__file__).parents[3] / "shared" / "data").parent
EXPECTED = {
    # file: format, read, kept, query types, whether a prompt has a system turn
    "cases/helpful_only.jsonl": ("ranked_pair", 4, 4, {"unknown"}, False),
    "cases/images_content.jsonl": ("trl", 4, 4, {"unknown"}, False),
    "cases/orca_common_prefix.jsonl": ("orca", 4, 4, {"unknown"}, True),
    "cases/orca_mixed.jsonl": ("orca", 40, 40, {"unknown"}, True),
    "cases/system_column.jsonl": ("trl", 4, 4, {"unknown"}, True),
    "cases/trl_unlabelled_24.jsonl": ("trl", 24, 24, {"unknown"}, False),
    "cases/wrapped.json": ("trl", 4, 4, {"unknown"}, False),
    "data/pref/dpo_en_demo.json": ("sharegpt", 300, 295, {"unknown"}, True),
    "data/pref/hh_harmless_base_test_dev.jsonl.gz": ("hh", 1382, 1376, {"unknown"}, False),
    "data/pref/pku_saferlhf_native_2rows.jsonl": ("pku", 2, 2, {"safe"}, False),
    "data/pref/pku_saferlhf_test_safeunsafe_dev.json": ("ranked_pair", 3033, 1944, {"unknown"}, False),
}


@pytest.mark.realdata
def test_no_file_is_without_its_line():
    folders = (SHARED / "cases", SHARED / "data" / "pref")
    there = [path for folder in folders for path in folder.glob("*.*") if path.suffix != ".md"]
    if not there:
        pytest.skip(f"no files under {SHARED}")
    assert {path.relative_to(SHARED).as_posix() for path in there} == set(EXPECTED)


@pytest.mark.realdata
@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_read_as_what_it_is(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no {path}")
    pairs, _, summary = prepare(DataParams(source=str(path)), CleaningParams())
    told = pairs["prompt"].list.first().struct.field("role").eq("system").any()
    found = (summary["format"], summary["read"], summary["kept"], set(pairs["query_type"]), told)
    assert found == EXPECTED[name]
    labelled = EXPECTED[name][3] != {"unknown"}
    assert (pairs["chosen_safe"].count() == pairs.height) is labelled
    assert bool(summary["labels"]) is labelled
    asked = pairs["prompt"].list.last().struct.field("content").to_list()
    if "orca" in name:
        assert all(text.endswith("?") for text in asked)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"), context=8192)


@pytest.mark.realdata
@pytest.mark.parametrize("name", EXPECTED)
def test_the_road_of_the_readme_on_it(name, model, tmp_path, monkeypatch):
    """To the weights, the answers of a model to what is held out, and a project; no text is printed."""
    if not (SHARED / name).exists():
        pytest.skip(f"no {SHARED / name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURATE_STATE", str(tmp_path / "state"))
    said = [
        curate("prepare", SHARED / name, "--limit", "6"),
        curate("score", "pairs.parquet", "--model", model, "--engine", "transformers", "--too-long", "reject"),
        curate("weigh", "scores.parquet"),
        curate("show", "weights.parquet"),
        curate("evaluate", model, "--suite", "heldout=weights.parquet", "--limit", "1", "--max-tokens", "1"),
        curate("init", "project", "--data", SHARED / name, "--model", model),
    ]
    weights = pl.read_parquet("weights.parquet")
    assert weights.height and weights["chosen_weight"].is_finite().all()
    assert f"is read as {EXPECTED[name][0]}\n" in said[-1].stderr
    told = "nothing is said of their safety" in said[4].stderr
    assert told is (EXPECTED[name][3] == {"unknown"})
    monkeypatch.chdir("project")
    assert Path(load().data.source).samefile(SHARED / name)
    texts = [turns[-1]["content"] for turns in (*weights["chosen"], *weights["rejected"])]
    everything = "".join(done.output + done.stderr for done in said)
    assert not [text for text in texts if len(text) > 20 and text in everything]
