"""Projects that `curate init` of version 0.1.0 made run with this one: its dvc.yaml and params.yaml are kept here."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
import yaml
from command import environment

from curate.project import installed, params

HERE = Path(__file__).parent
PIPELINE = yaml.safe_load((HERE / "dvc-0.1.0.yaml").read_text())
PARAMS = HERE / "params-0.1.0.yaml"


def test_every_command_is_there():
    commands = [stage["cmd"].split() for stage in PIPELINE["stages"].values()]
    assert all(command[:2] == ["python", "-m"] and find_spec(command[2]) for command in commands)


def test_its_params_are_read_and_mean_what_they_meant():
    loaded, now = params.load(PARAMS), params.Params()
    then = yaml.safe_load(PARAMS.read_text())
    for section, keys in then.items():
        if section != "arms":
            read = getattr(loaded, section).model_dump(mode="json")
            assert {key: read[key] for key in keys} == keys, section
    assert loaded.arms == now.arms


def test_its_reference_is_trained_as_then():
    """Its learning rate is AdamW's: that was the only optimizer."""
    then = yaml.safe_load(PARAMS.read_text())["reference"]
    assert "optimizer" not in then and params.load(PARAMS).reference.optimizer == "adamw"
    assert params.ReferenceParams(hidden_size=256, steps=9).optimizer == params.ReferenceParams().optimizer == "muon"


@pytest.mark.parametrize("name", PIPELINE["stages"])
def test_every_parameter_that_its_stages_name_is_in_its_file(name):
    """DVC stops at a key that is not there."""
    values = yaml.safe_load(PARAMS.read_text())
    for key in PIPELINE["stages"][name].get("params", []):
        section, _, rest = key.partition(".")
        assert section in values and (not rest or rest.startswith("${") or rest in values[section]), key
    for template in re.findall(r"\$\{(\w+)\.(\w+)\}", str(PIPELINE["stages"][name])):
        if template[0] != "item":
            assert template[1] in values[template[0]]


def test_the_digests_that_its_stages_depend_on_are_written(tmp_path):
    installed.write(tmp_path / "curate")
    for stage in PIPELINE["stages"].values():
        for dependency in stage.get("deps", []):
            if dependency.startswith("curate/code/"):
                assert (tmp_path / dependency).is_file(), dependency


@pytest.mark.slow
def test_its_first_stages_run(tmp_path):
    shutil.copy(HERE / "dvc-0.1.0.yaml", tmp_path / "dvc.yaml")
    text = PARAMS.read_text()
    (tmp_path / "params.yaml").write_text(text.replace("sample_pairs: 1600", "sample_pairs: 60"))
    for line in ("git init -q", "dvc init -q", "dvc repro prepare", "dvc status --json"):
        done = subprocess.run(
            line.split(), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert 40 < pl.read_parquet(tmp_path / "data" / "pairs.parquet").height <= 60
    assert '"prepare"' not in done.stdout and '"score"' in done.stdout
