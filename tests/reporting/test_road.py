"""The road of a project, from its dvc.yaml and params.yaml."""

import shutil
from pathlib import Path

import pytest
import yaml

from curate.base.errors import InputError, UsageError
from curate.project import create, params, presets
from curate.project.params import DataParams
from curate.reporting.road import road

ROOT = Path(__file__).resolve().parents[2]
AFTER = {
    "reference": None,
    "prepare": None,
    "score": "reference, prepare",
    "split": "score",
    "weigh": "split",
    "train": "reference, weigh",
    "evaluate-base": "reference",
    "evaluate": "train",
    "report": "reference, prepare, score, weigh, train, evaluate-base, evaluate",
}


def test_the_repository_s_own(tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    found = road(tmp_path)
    assert {name: after for name, after, _ in found.rows} == AFTER  # nothing is published by default
    arms = len(params.Params().train.arms) * len(params.Params().train.seeds)
    assert {name: runs for name, _, runs in found.rows if runs != 1} == {"train": arms, "evaluate": arms}


def test_a_project_s_held_out_prompts_come_from_its_pairs(tmp_path):
    text = create.parameters(presets.preset("default"), DataParams(source="../mine.jsonl"), None, is_folder=False)
    for name, content in create.contents(text).items():
        if name in ("dvc.yaml", "params.yaml"):
            (tmp_path / name).write_text(content)
    rows = {name: after for name, after, _ in road(tmp_path).rows}
    assert rows == AFTER | {"evaluate-base": "reference, prepare", "evaluate": "prepare, train"}


def test_files_of_somebody_else_s(tmp_path):
    (tmp_path / "params.yaml").write_text("")
    (tmp_path / "dvc.yaml").write_text("")
    assert road(tmp_path) is None
    stages = {"a": {"cmd": "x", "outs": [{"a.csv": {"cache": False}}]}, "b": {"cmd": "y", "deps": ["a.csv"]}, "c": 1}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert road(tmp_path).rows == [["a", None, 1], ["b", "a", 1]]
    for odd in ("a: {deps: 5}", "a: {deps: [{}]}", "a: {outs: [[1]], matrix: 3, deps: true}"):
        (tmp_path / "dvc.yaml").write_text(f"stages: {{{odd}}}")
        with pytest.raises(InputError, match="not in DVC's form"):
            road(tmp_path)
    (tmp_path / "dvc.yaml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        road(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: [")
    with pytest.raises(UsageError, match="not a YAML file"):
        road(tmp_path)
