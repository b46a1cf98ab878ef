"""One gradient for the embedding and the LM head is the sum of the two."""

import copy

import pytest
import torch
from tiny import small
from transformers import AutoModelForCausalLM

from curate.models.products.head import token_logps
from curate.models.products.layers import lighten
from curate.models.products.tied import one_gradient, tie

IDS = torch.tensor([[3, 5, 3, 7, 0, 9, 5, 0], [1, 2, 3, 4, 5, 6, 7, 8]])  # with repeats, and with padding's


def model(**options):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(small("llama", **{"tie_word_embeddings": True, **options}))


def loss(one, head=True):
    states = one.model(input_ids=IDS, use_cache=False).last_hidden_state
    if not head:
        return (states * torch.linspace(-1, 1, states.shape[-1])).sum()
    return token_logps(states[:, :-1].flatten(0, 1), one.lm_head.weight, None, IDS[:, 1:].flatten())[0].sum()


def gradients(one, head=True, passes=1):
    one.zero_grad()
    for _ in range(passes):
        with one_gradient():
            found = loss(one, head)
        found.backward()
    return {name: each.grad for name, each in one.named_parameters()}


@pytest.mark.parametrize("head", [True, False], ids=["through the head", "without the head"])
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": False}, {"pad_token_id": 0}], ids=str)
def test_it_is_what_autograd_sums(options, passes, head):
    ours = model(**options)
    theirs = copy.deepcopy(ours)
    lighten(ours)
    tie(ours)
    expected, found = gradients(theirs, head, passes), gradients(ours, head, passes)
    assert expected.keys() == found.keys()
    for name, one in found.items():
        other = expected[name]
        assert (one is None) == (other is None), name
        assert one is None or (one - other).norm() <= 1e-5 * other.norm(), name


def test_the_head_makes_none_of_its_own():
    one = model()
    lighten(one)
    tie(one)
    weight = one.lm_head.weight
    with one_gradient():
        found = loss(one)
    makers = []

    def note(node, made):
        if any(each is not None and each.shape == weight.shape for each in made):
            makers.append(node.name())

    nodes, seen = [found.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            node.register_hook(lambda made, _, node=node: note(node, made))
            nodes += [before for before, _ in node.next_functions]
    found.backward()
    assert makers == ["_EmbeddingBackward"]


def test_outside_a_pass_autograd_sums():
    ours = model()
    theirs = copy.deepcopy(ours)
    lighten(ours)
    tie(ours)
    for one in (ours, theirs):
        loss(one).backward()
    assert (ours.lm_head.weight.grad - theirs.lm_head.weight.grad).norm() <= 1e-5 * theirs.lm_head.weight.grad.norm()


def test_a_pass_that_ends_in_an_error_leaves_nothing_behind():
    one = model()
    lighten(one)
    tie(one)
    with pytest.raises(ValueError, match="stop"), one_gradient():
        loss(one)
        raise ValueError("stop")
    test_outside_a_pass_autograd_sums()


def test_a_frozen_weight_has_no_gradient():
    one = model()
    lighten(one)
    tie(one)
    one.lm_head.weight.requires_grad_(False)
    found = gradients(one)
    assert found["model.embed_tokens.weight"] is None
    assert all(each is not None for name, each in found.items() if "embed" not in name)
