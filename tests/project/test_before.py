"""Projects that `curate init` of version 0.1.0 made run with this one: its dvc.yaml and params.yaml are kept here."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

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
