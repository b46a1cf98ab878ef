"""params.yaml: complete, commented, and refused at once when a key or a value is wrong."""

from pathlib import Path

import pytest
import yaml

from curate.base.errors import InputError, UsageError
from curate.project import params
from curate.project.params import Params, check, load

ROOT = Path(__file__).resolve().parents[2]


def test_shipped_file_states_every_default():
    assert (ROOT / "params.yaml").read_text() == params.to_yaml(params.Params())


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))], ids=lambda p: p.name
)
def test_every_key_has_a_comment_above_it_and_every_preset_is_complete(path):
    loaded = params.load(path)
    lines = path.read_text().splitlines()
    keys = [i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    for i in keys:
        assert lines[i - 1].lstrip().startswith("#"), f"{path.name}:{i + 1}: no comment above {lines[i]!r}"
    assert yaml.safe_load(path.read_text()).keys() == params.Params.model_fields.keys()
    for name, section in yaml.safe_load(path.read_text()).items():
        if name != "arms":
            assert section.keys() == type(getattr(loaded, name)).model_fields.keys()


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("weigh: {alhpa: 1.5}", "weigh.alhpa", "alpha?"),
        ("wiegh: {}", "wiegh", "weigh?"),
        ("weigh: {scheme: tan}", "weigh.scheme", "'tanh', 'power', 'geometric' or 'none'"),
        ("weigh: {alpha: -1}", "weigh.alpha", "greater than or equal to 0"),
        ("split: {fraction: 0.7}", "split.fraction", "less than or equal to 0.5"),
        ("train: {epochs: two}", "train.epochs", "valid integer"),
        ("arms: {mine: {subst: all}}", "arms.mine.subst", "subset?"),
        ("arms: {train: {objective: dpo, subst: all}}", "arms.train.subst", "subset?"),
        ("arms: {weigh: {subst: all}}", "arms.weigh.subst", "subset?"),
        ("arms: {pairs: {objective: dpo}}", "", "an arm cannot be named pairs"),
        ("train: {seeds: [true]}", "train.seeds", "valid integer"),
        ('train: {seeds: ["3"]}', "train.seeds", "valid integer"),
        ("train: {epochs: 1.0}", "train.epochs", "valid integer"),
        ("evaluate: {max_tokens: true}", "evaluate.max_tokens", "valid integer"),
        ("train: {beta: true}", "train.beta", "valid number"),
        ("arms: {mine: {settings: {beta: true}}}", "arms.mine.settings", "valid number"),
        ("train: {gradient_checkpointing: 1}", "train.gradient_checkpointing", "true or false"),
        ("arms: {mine: {train: {epochs: true}}}", "arms.mine", "train.epochs: "),
        ("train: {arms: [mine]}", "", "train.arms names 'mine'"),
        ("train: {arms: [dpo, dpo]}", "train", "train.arms names one twice"),
        ("train: {seeds: [3, 3]}", "train", "train.seeds names one twice"),
        ("train: {seeds: []}", "train.seeds", "at least 1 item"),
        ("train: {seeds: [-1]}", "train.seeds.0", "greater than or equal to 0"),
        ("train: {more_arms: [ipo], more_seeds: [1]}", "train", "more_arms names ipo, not in train.arms"),
        ("train: {more_arms: [dpo], more_seeds: [0, 1]}", "train", "more_seeds names 0, which train.seeds has"),
        ("train: {more_seeds: [1]}", "train", "go together"),
        ("arms: {mine: {train: {more_seeds: [1]}}}", "arms.mine", "train has no key more_seeds that an arm may set"),
        ("train: {lora_targets: []}", "train.lora_targets", "at least 1 item"),
        ("arms: {mine: {objective: ppo}}", "arms.mine.objective", "'bdpo', 'dpo'"),
        ("arms: {a.b: {}}", "arms.a.b.[key]", "match pattern"),
        ("arms: {mine: {objective: dpo, balance_weight: false}}", "arms.mine", "scaling_factor and weigh are bdpo's"),
        ("arms: {mine: {objective: ipo, weigh: {alpha: 2}}}", "arms.mine", "scaling_factor and weigh are bdpo's"),
        (
            "arms: {mine: {objective: bdpo, weigh: {alhpa: 2}}}",
            "arms.mine",
            "weigh has no key alhpa that an arm may set",
        ),
        ("arms: {mine: {objective: bdpo, weigh: {alpha: -2}}}", "arms.mine", "weigh.alpha: Input should be greater"),
        ("arms: {mine: {train: {arms: [dpo]}}}", "arms.mine", "train has no key arms that an arm may set"),
        ("arms: {mine: {train: {seeds: [1]}}}", "arms.mine", "train has no key seeds that an arm may set"),
        ("arms: {mine: {train: {epochs: 0}}}", "arms.mine", "train.epochs: Input should be greater than or equal to 1"),
        ("arms: {mine: {settings: {beta: high}}}", "arms.mine.settings.beta", "valid number"),
        ("reference: {hidden_size: 100}", "reference", "must be 32, 64, 96 or 128"),
        ("data: {source: mine.jsonl}", "", "data.watch must be mine.jsonl"),
        ("data: {source: mine/a.json, format: dataset_info, watch: mine/a.json}", "", "data.watch must be mine,"),
        *(
            (
                f"data: {{source: {folder}a.json, format: dataset_info, watch: {folder or '.'}}}",
                "",
                "folder of their own",
            )
            for folder in ("", "../", "../../", "data/", "mine/../")
        ),
        ("model: {name: ../not/there}", "", "model.watch must be ../not/there,"),
        ("train: {accelerate: configs/ddp.yaml, watch: mine}", "", "train.watch must be configs/ddp.yaml or a folder"),
        ("arms: {dpo: {train: {accelerate: a/b.yaml}}}\ntrain: {arms: [dpo], watch: b}", "", "must be a/b.yaml or a"),
        ("evaluate: {attacker_model: curate, attacker_watch: configs}", "", "evaluate.attacker_watch must be curate,"),
        ("evaluate: {judge: rubric, judge_model: stages, judge_watch: a}", "", "evaluate.judge_watch must be stages,"),
        ("evaluate: {suites: [sample, a=x/y, b=x/z], watch: x/y}", "", "evaluate.watch must be x/z or a folder above"),
        (
            "evaluate: {suites: [a=x/y, b=z/y, c=w], watch: x/y, watch_also: z}",
            "",
            "evaluate.watch must be w or a",
        ),
        ("evaluate: {suites: [gcg], options: {gcg: {suffixes: x/s}}}", "", "evaluate.watch must be x/s or a folder"),
        ("weigh: 3", "weigh", "valid dictionary"),
    ],
)
def test_a_fault_names_the_key_what_was_found_and_what_is_allowed(tmp_path, text, field, says):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        params.load(file)
    assert caught.value.details.get("field", "") == field
    assert says in caught.value.details["expected"]
    assert caught.value.details["file"] == str(file)
    assert caught.value.exit_code == 2


def test_what_describes_a_file_is_watched_with_it(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("data: {source: ../mine/a.json, format: dataset_info, watch: ../mine}\n")
    assert params.load(file).data.watch == "../mine"


def test_some_arms_run_with_more_seeds():
    train = params.TrainParams(arms=["dpo", "bdpo", "sf"], seeds=[1, 0], more_arms=["bdpo"], more_seeds=[7])
    assert [train.seeds_of(arm) for arm in train.arms] == [[1, 0], [1, 0, 7], [1, 0]]


def test_a_folder_that_is_not_made_yet_is_watched_where_it_is_written_as_one(tmp_path):
    file = tmp_path / "params.yaml"
    judge = "judge: classifier, judge_model: ./not-yet, judge_watch: ./not-yet"
    file.write_text(f"model: {{name: ../not/there, watch: ../not/there}}\nevaluate: {{{judge}}}\n")
    assert params.load(file).evaluate.judge_watch == "./not-yet"


def test_an_arm_has_the_last_word_on_what_it_names():
    """A value that is the default is one that was named."""
    arm = params.ArmParams(objective="bdpo", weigh={"alpha": 1.5}, train={"beta": 0.1, "lora_rank": 4})
    shared = params.TrainParams(beta=0.5, epochs=7, seeds=[1, 2])
    assert arm.training(shared) == params.TrainParams(beta=0.1, epochs=7, seeds=[1, 2], lora_rank=4)
    assert arm.weighing(params.WeighParams(alpha=9, scheme="power")) == params.WeighParams(alpha=1.5, scheme="power")
    assert params.ArmParams().training(shared) == shared
    assert params.ArmParams().record() == {"objective": "dpo"}
    assert params.ArmParams.model_validate(arm.record()) == arm


def test_a_file_of_before_has_no_keys_for_what_is_watched(tmp_path):
    """Its dvc.yaml watches neither a judge's folder nor a launch configuration, and it runs as it did."""
    file = tmp_path / "params.yaml"
    file.write_text("evaluate: {judge: rubric, judge_model: /}\ntrain: {accelerate: mine/ddp.yaml}\n")
    assert params.load(file).train.accelerate == "mine/ddp.yaml"


@pytest.mark.parametrize("written", ["010", "-010", "00", "0_7", "1:30", "1:30:00", "1:30.5"])
def test_a_number_that_dvc_reads_otherwise_is_refused(tmp_path, written):
    file = tmp_path / "params.yaml"
    file.write_text(f"weigh:\n  # a comment\n  alpha: {written}\n")
    with pytest.raises(UsageError, match="take for different ones") as caught:
        params.load(file)
    assert str(caught.value.details["found"]) == f"{written} in line 3" and caught.value.details["file"] == str(file)


@pytest.mark.parametrize(("written", "value"), [("0", 0), ("1e-3", 1e-3), ("0.5", 0.5), ("1_0", 10), ("10", 10)])
def test_a_number_that_both_read_alike_stays(tmp_path, written, value):
    (tmp_path / "params.yaml").write_text(f"weigh: {{alpha: {written}}}\n")
    assert params.load(tmp_path / "params.yaml").weigh.alpha == value


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["bdpo", "3"], "an arm (bdpo) and one of its seeds (0, 1)"),
        (["bdpo", "00"], "one of its seeds (0, 1)"),
        (["ppo", "0"], "base, or an arm (dpo, bdpo, "),
        (["bdpo"], "and one of its seeds"),
    ],
)
def test_a_stage_is_called_with_an_arm_and_a_seed_of_params(monkeypatch, given, says):
    from stages.run import arm_and_seed

    chosen = Params(train=params.TrainParams(arms=["dpo", "bdpo"], seeds=[0], more_arms=["bdpo"], more_seeds=[1]))
    monkeypatch.setattr("sys.argv", ["stages/evaluate.py", *given])
    with pytest.raises(UsageError) as caught:
        arm_and_seed(chosen, "base")
    assert says in caught.value.details["expected"]
    monkeypatch.setattr("sys.argv", ["stages/evaluate.py", "bdpo", "1"])
    assert arm_and_seed(chosen) == ("bdpo", 1)


def test_a_key_written_twice_is_refused(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("weigh:\n  alpha: 1\n  alpha: 2\n")
    with pytest.raises(UsageError, match="'alpha' stands twice"):
        params.load(file)


def test_missing_file_and_broken_yaml(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        params.load(tmp_path / "none.yaml")
    (tmp_path / "p.yaml").write_text("weigh: [")
    with pytest.raises(UsageError, match="not a YAML file"):
        params.load(tmp_path / "p.yaml")


def test_the_dump_is_read_back_as_it_was():
    changed = params.check(
        params.Params, {"weigh": {"alpha": 2.5}, "train": {"arms": ["bw"]}, "data": {"hub_config": "x"}}
    )
    assert params.check(params.Params, yaml.safe_load(params.to_yaml(changed))) == changed


def test_dvc_tracks_every_parameter():
    """A key that no stage names would change a result without running anything."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    tracked = {key for stage in stages.values() for key in stage["params"] if stage is not stages["report"]}
    for section, field in params.Params.model_fields.items():
        if section in ("arms", "report") or section in tracked:
            continue
        for key in field.annotation.model_fields:
            # The matrix makes a stage of each arm and seed.
            assert f"{section}.{key}" in tracked or key in params.PIPELINE_KEYS, f"{section}.{key}"


ODD = {
    "a date that is none": "model: {revision: 2024-13-45}",
    "hexadecimal without digits": "data: {seed: 0x_}",
    "5,000 digits": f"data: {{seed: {'1' * 5000}}}",
    "nested": "a: " + "[" * 5000,
    "nested in a value": "evaluate: {options: {x: " + "[" * 60 + "]" * 60 + "}}",
    "aliases that grow": "a0: &a0 [1, 1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40)),
    "an alias of itself": "data: &a {seed: *a}",
    "base 60": "data: {seed: 1:99999999999999999999:00}",
    "binary": "data: {source: !!binary '*'}",
    "a tag": "data: !!python/object:os.system {}",
    "a number for a key": "1: 2",
    "null for a key": "null: 2",
    "a list": "- 1",
    "a long name": f"model: {{name: {'x' * 300}}}",
    "infinity": "weigh: {alpha: .inf}",
    "no number": "train: {learning_rate: .nan}",
    "a setting that is infinite": "arms: {dpo: {settings: {beta: .inf}}}",
    "more pairs than anyone has": "data: {sample_pairs: 1000000000000}",
    "not UTF-8": "data: {source: \udcff}",
}


@pytest.mark.parametrize("what", ODD)
def test_odd_yaml_is_one_message(tmp_path, what):
    (tmp_path / "params.yaml").write_bytes(ODD[what].encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "params.yaml")
    assert caught.value.details["file"] == str(tmp_path / "params.yaml") and len(str(caught.value)) < 2500


def test_to_never_clip_is_a_number():
    assert Params.model_validate({"train": {"max_grad_norm": float("inf")}}).train.max_grad_norm == float("inf")


def _numbers(section):
    """(section.key, bounded above) of every number in a section, those in lists too."""
    from typing import get_args

    for name, field in section.model_fields.items():
        kind, bounds = field.annotation, field.metadata
        if get_args(kind) and kind not in (int, float):
            inner = get_args(kind)[0]
            kind, bounds = getattr(inner, "__origin__", inner), [*bounds, *getattr(inner, "__metadata__", ())]
            bounds = [part for bound in bounds for part in getattr(bound, "metadata", [bound])]
        if kind in (int, float):
            yield f"{section.__name__}.{name}", any(hasattr(bound, "le") or hasattr(bound, "lt") for bound in bounds)


def test_every_number_has_an_upper_bound():
    from curate.evaluation.suites import SUITES

    sections = [field.annotation for field in Params.model_fields.values() if hasattr(field.annotation, "model_fields")]
    found = {
        name: bound for s in [*sections, *(suite.options for suite in SUITES.values())] for name, bound in _numbers(s)
    }
    assert len(found) > 50 and {name for name, bound in found.items() if not bound} == {"TrainParams.max_grad_norm"}


@pytest.mark.parametrize(
    "given",
    [
        {"evaluate": {"judge": "rubric", "judge_url": "http://me:pl4nted@h/v1"}},
        {"evaluate": {"judge_url": ["http://me:pl4nted@h/v1"]}},
        {"evaluate": {"attacker_ur": "http://me:pl4nted@h/v1"}},
        {"evaluate": {"attacker_url": {"a": "me:pl4nted@h/v1"}}},
        {"score": {"engine": "none", "server_urls": ["me:pl4nted@h"]}},
        {"score": {"server_urls": "me:pl4nted@h"}},
        {"score": {"server_key": "pl4nted"}},
        {"publish": {"token": {"token": "hf_pl4ntedpl4ntedpl4nted"}}},
    ],
)
def test_a_wrong_parameter_is_told_without_its_password(given):
    with pytest.raises(UsageError) as caught:
        check(Params, given)
    assert "pl4nted" not in str(caught.value)
