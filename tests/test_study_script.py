"""benchmarks/study.py: the study without DVC, some trainings at a time. Its stages are tested as DVC's are."""

import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from command import environment
from scripts import script

from curate.project import params

ROOT = Path(__file__).resolve().parents[1]
study = script("benchmarks/study.py")


def test_when_the_minutes_are_gone_nothing_begins_and_the_exit_code_says_so(tmp_path):
    (tmp_path / "params.yaml").write_text(params.to_yaml(params.Params()))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/study.py", "--minutes", "0", "--lanes", "2"],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and done.stderr.count("minutes are gone") == 1, done.stderr
    assert not (tmp_path / "data").exists()


def test_every_arm_and_seed_once_by_arm_or_by_seed():
    chosen = {"arms": ["dpo", "bdpo"], "seeds": [0, 1], "more_arms": ["bdpo"], "more_seeds": [2]}
    loaded = params.Params(train=params.TrainParams(**chosen))
    named = study.argparse.Namespace(arms=None, seeds_first=False, evaluation=True)
    assert study.runs(loaded, named) == [("dpo", 0), ("dpo", 1), ("bdpo", 0), ("bdpo", 1), ("bdpo", 2)]
    named.seeds_first = True
    assert study.runs(loaded, named) == [("dpo", 0), ("bdpo", 0), ("dpo", 1), ("bdpo", 1), ("bdpo", 2)]
    named.arms = ["dpo"]
    *before, train, evaluate = study.phases(loaded, named)
    assert [steps[0].stage for steps in before] == ["reference", "prepare", "score", "split", "weigh"]
    assert [step.arguments for step in train] == [("dpo", "0"), ("dpo", "1")]
    assert [step.arguments for step in evaluate] == [("base",), ("dpo", "0"), ("dpo", "1")]


@pytest.mark.parametrize("lanes", [1, 2])
def test_steps_in_lanes(lanes):
    assert sorted(study.outcomes([1, 2, 3], str, lanes)) == ["1", "2", "3"]


def test_a_lane_that_is_killed_ends_the_others_instead_of_being_waited_for():
    with pytest.raises(BrokenProcessPool):
        list(study.outcomes([9, 9, 9], os._exit, 2))
