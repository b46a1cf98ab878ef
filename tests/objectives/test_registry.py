"""What the registry reads off the signatures, and what it refuses."""

import ast
from pathlib import Path

import pytest
import torch

import curate.objectives
from curate.objectives.registry import OBJECTIVES, TENSORS, declare
from curate.project.params import WEIGHTED

LOGPS = ("policy_chosen_logps", "policy_rejected_logps")
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
TOKENS = ("chosen_tokens", "rejected_tokens")
DOOR = ((*LOGPS, "ref_rejected_logps", "refusal_logps", "harmful"), {"a": 0.2, "b": 0.5})
DPO = ((*LOGPS, *REFERENCE), {"beta": None})


def test_each_objective_declares_what_it_needs():
    assert {name: (one.tensors, one.settings) for name, one in OBJECTIVES.items()} == {
        "bdpo": ((*LOGPS, *REFERENCE, "chosen_weight", "rejected_weight", "pair_scale"), {"beta": None}),
        "dpo": DPO,
        "ipo": ((*LOGPS, *REFERENCE, *TOKENS), {"beta": None}),
        "cpo": ((*LOGPS, "chosen_tokens"), {"beta": None, "alpha": 1.0}),
        "simpo": ((*LOGPS, *TOKENS), {"beta": 2.0, "gamma_beta_ratio": 0.5}),
        "safedpo": ((*LOGPS, *REFERENCE, "chosen_unsafe", "rejected_unsafe"), {"beta": None, "delta": 10.0}),
        "wpo": ((*LOGPS, *REFERENCE, "chosen_alignment", "rejected_alignment"), {"beta": None}),
        "kldpo": ((*LOGPS, *REFERENCE), {"beta": None, "tau": 1.0}),
        "cdpo": DPO,
        "door": DOOR,
        "w-door": DOOR,
    }
    assert all(name == one.name and one.about for name, one in OBJECTIVES.items())


def test_params_know_which_losses_take_weights():
    taking = {"chosen_weight", "rejected_weight", "pair_scale"}
    assert [name for name, one in OBJECTIVES.items() if taking & {*one.tensors}] == [*WEIGHTED]


def test_every_tensor_of_the_vocabulary_is_used():
    assert {tensor for one in OBJECTIVES.values() for tensor in one.tensors} == set(TENSORS)


def test_the_loss_picks_its_tensors_by_name_and_takes_settings_over_defaults():
    """simpo of |y_w| = 4, |y_l| = 3: log(1 + e^-4) by default, ln 2 at beta 1 and gamma 2.5."""
    values = {"harmful": 7.0, "rejected_tokens": 3.0, "chosen_tokens": 4.0}
    values |= {"policy_rejected_logps": -15.0, "policy_chosen_logps": -10.0}
    batch = {name: torch.tensor([value]) for name, value in values.items()}
    simpo = OBJECTIVES["simpo"]
    assert simpo.loss(batch, {}).tolist() == pytest.approx([0.0181499], abs=1e-7)
    assert simpo.loss(batch, {"beta": 1.0, "gamma_beta_ratio": 2.5}).tolist() == pytest.approx([0.6931472])


def batch_of(objective, **other):
    return {name: torch.zeros(3) for name in objective.tensors} | other


def test_the_loss_refuses_what_does_not_fit():
    dpo = OBJECTIVES["dpo"]
    assert dpo.loss(batch_of(dpo), {"beta": 0.1}).shape == (3,)
    with pytest.raises(KeyError, match="ref_chosen_logps"):
        dpo.loss({name: torch.zeros(3) for name in LOGPS}, {"beta": 0.1})
    for shape in ((3, 1), (1,), ()):  # each would broadcast
        with pytest.raises(ValueError, match=r"dpo needs tensors of one shape \[pairs\].*ref_chosen_logps"):
            dpo.loss(batch_of(dpo, ref_chosen_logps=torch.zeros(shape)), {"beta": 0.1})
    with pytest.raises(ValueError, match="one shape"):
        dpo.loss({name: torch.zeros(3, 1) for name in dpo.tensors}, {"beta": 0.1})
    with pytest.raises(TypeError, match="beta"):
        dpo.loss(batch_of(dpo), {})
    with pytest.raises(TypeError, match="gamma"):
        dpo.loss(batch_of(dpo), {"beta": 0.1, "gamma": 1.0})


def unknown_tensor(policy_chosen_logps, policy_chosen_logprobs): ...
def defaulted_tensor(policy_chosen_logps, harmful=None): ...
def setting_without_default(policy_chosen_logps, *, gamma): ...
def whole_number(policy_chosen_logps, *, gamma=1): ...
def positional_beta(policy_chosen_logps, beta): ...
def any_tensors(*policy_chosen_logps): ...
def any_settings(policy_chosen_logps, **beta): ...


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (unknown_tensor, "policy_chosen_logprobs"),
        (defaulted_tensor, "harmful=None"),
        (setting_without_default, "gamma"),
        (whole_number, "gamma=1"),
        (positional_beta, "beta"),
        (any_tensors, r"\*policy_chosen_logps"),
        (any_settings, r"\*\*beta"),
    ],
)
def test_a_signature_out_of_the_convention_is_refused(function, named):
    with pytest.raises(ValueError, match=f"objective new: `{named}` is neither"):
        declare("new", function, "about")


def test_objectives_import_torch_the_standard_library_and_one_another():
    files = sorted(Path(curate.objectives.__file__).parent.glob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.startswith("curate.objectives.") or name.partition(".")[0] in {
                    *("__future__", "collections", "dataclasses", "hashlib", "inspect", "torch"),
                }, (file.name, name)
