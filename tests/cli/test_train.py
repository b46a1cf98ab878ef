"""`curate train` and `curate objectives`: what of a call reaches the training, and what is refused."""

import pytest
from typer.testing import CliRunner

from curate import cli
from curate.base import files
from curate.base.errors import UsageError
from curate.models import resolve as models
from curate.objectives.registry import OBJECTIVES
from curate.project import params
from curate.training import train as training
from curate.training.arms import DATA_SETTINGS


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run `curate train` with these arguments; gives what the training would be called with."""
    from artefacts import frame

    files.write_parquet(frame(40), tmp_path / "weights.parquet", {"stage": "weigh"})
    given = []

    def train(*arguments):
        given.append(arguments)
        return {"heldout": {"rewards/accuracies": 0.5, "rewards/margins": 0.1}}

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(models, "resolve_given", lambda *arguments, **_: arguments)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        command = ["train", "weights.parquet", "--model", "owner/name", "--out", "run", *arguments]
        return CliRunner().invoke(cli.app, command), given

    return run


def test_settings_subset_seed_and_params_arrive(call):
    done, given = call(
        *("--arm", "w-door", "--subset", "random", "--setting", "tau=2", "--setting", "a=0.3", "--seed", "7"),
        *("--epochs", "2", "--lora-rank", "8", "--lora-targets", "q_proj", "--lora-targets", "v_proj"),
    )
    assert done.exit_code == 0, done.output
    ((_, model, shared, arm, name, out, state, provenance, seed),) = given
    assert model == ("owner/name", None) and (name, str(out), seed) == ("w-door", "run", 7)
    assert arm == params.ArmParams(objective="w-door", subset="random", settings={"tau": 2.0, "a": 0.3})
    assert shared == params.TrainParams(epochs=2, lora_rank=8, lora_targets=["q_proj", "v_proj"])
    assert state.name == ".curate" and provenance == {"stage": "weigh"}


@pytest.mark.parametrize("arm", params.DEFAULT_ARMS)
def test_every_arm_is_there_by_name(call, arm):
    done, given = call("--arm", arm)
    assert done.exit_code == 0 and given[0][3] == params.DEFAULT_ARMS[arm] and given[0][4] == arm


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--setting", "beta"], "cannot read a setting"),
        (["--setting", "=1"], "cannot read a setting"),
        (["--setting", "beta=1", "--setting", "beta=2"], "a setting is named twice"),
        (["--setting", "beta=high"], "settings.beta"),
        (["--arm", "ppo"], "no such arm"),
        (["--seed", "-1"], "seed"),
        (["--subset", "half"], "subset"),
        (["--accelerate", "none.yaml"], "no such accelerate configuration"),
        (["--seeds", "1"], "No such option"),
    ],
)
def test_a_call_that_makes_no_sense(call, arguments, says):
    done, given = call(*arguments)
    assert done.exit_code != 0 and not given
    assert says in done.output + str(done.exception)


def test_objectives_lists_each_with_its_settings():
    done = CliRunner().invoke(cli.app, ["objectives"])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert len(lines) == 2 * len(OBJECTIVES)
    for (name, objective), head, settings in zip(OBJECTIVES.items(), lines[::2], lines[1::2], strict=True):
        assert head == f"{name}: {objective.about}"
        names = [part.partition("=")[0] for part in settings.strip().split(", ")]
        assert names == [*objective.settings, *DATA_SETTINGS.get(name, {})]
    assert "beta=train.beta" in done.output and "gamma_beta_ratio=0.5" in done.output


@pytest.mark.parametrize("given", [[], ["a.parquet", "--data", "b.parquet"]])
def test_the_pairs_are_named_once(tmp_path, given):
    done = CliRunner().invoke(cli.app, ["train", *given, "--model", "m", "--out", str(tmp_path / "run")])
    assert isinstance(done.exception, UsageError) and "once" in done.exception.what
