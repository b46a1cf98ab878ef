"""A batch in shares, two at a time: the losses and gradients of the whole, the same bytes each time."""

import copy

import numpy as np
import pytest
import torch
from tiny import ids, small
from transformers import AutoModelForCausalLM

from curate.models.products.cores import TOGETHER, Cores, adding, rounds
from curate.models.rendering import TokenSequence
from curate.objectives.registry import OBJECTIVES, TENSORS
from curate.training.pairs import NUMBERS, Collator, Pair
from curate.training.policy import make_policy
from curate.training.shares import Cost, cost_of, large, shares, tokens_of

TOKENS_ALONE = Cost(head=0.0, attended=0.0)


def pairs(count=9):
    """Made-up pairs of different lengths; the second and the fifth have one prompt."""
    lengths = np.random.default_rng(0).integers(2, 30, (count, 3))
    made = []
    for number, (prompt, chosen, rejected) in enumerate(lengths.tolist()):
        (asked,) = ids(9, seed=77) if number in (1, 4) else ids(prompt, seed=number)
        answers = ids(chosen, rejected, seed=100 + number)
        made.append(
            Pair(
                *(TokenSequence(asked, answer) for answer in answers),
                None,
                None,
                tuple(float(number + place / 100) for place in range(len(NUMBERS))),
            )
        )
    return made


@pytest.fixture
def _two_threads(monkeypatch):
    """Not by torch.set_num_threads, which does nothing more where vLLM has been in this process."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_every_pair_is_in_one_share_with_its_own_sequences_and_numbers(budget):
    every = pairs()
    batch = Collator()(every)
    found = shares(batch, budget, TOKENS_ALONE)
    assert sorted(row for share in found for row in share["rows"]) == list(range(9))
    assert len(found) == min(8, {1: 8, 40: 8, 10_000: 2}[budget])  # eight prompts
    for share in found:
        assert share["counted"] == len(share["rows"])
        for at, row in enumerate(share["rows"]):
            for role in ("chosen", "rejected"):
                sequence = share["work"].sequences[share[f"{role}_at"][at]]
                assert sequence is getattr(every[row], role)
            assert [float(share[name][at]) for name in NUMBERS] == pytest.approx(every[row].numbers)
    (together,) = [share for share in found if 1 in share["rows"]]
    assert 4 in together["rows"]


@pytest.mark.usefixtures("_two_threads")
def test_shares_are_of_like_size():
    sizes = [
        sum(sequence.length for sequence in share["work"].sequences)
        for share in shares(Collator()(pairs(40)), 10_000, TOKENS_ALONE)
    ]
    assert len(sizes) == TOGETHER and max(sizes) < 1.05 * min(sizes)


def test_a_models_cost_counts_its_head_and_attention():
    model = AutoModelForCausalLM.from_config(small("llama"))
    config = model.config
    inside = sum(weight.numel() for weight in model.model.parameters()) - config.vocab_size * config.hidden_size
    assert cost_of(model) == Cost(config.vocab_size * config.hidden_size / inside, 1 / (4 * config.hidden_size))


@pytest.mark.usefixtures("_two_threads")
def test_shares_are_of_like_cost_whatever_the_tokens():
    """A long prompt and a short one have short answers; a dear head sets the two with long answers apart."""
    numbers = (0.0,) * len(NUMBERS)
    made = [
        Pair(*(TokenSequence(prompt, answer) for answer in ids(long, long, seed=9)), None, None, numbers)
        for prompt, long in zip(ids(200, 60, 30, 10, seed=3), (10, 50, 50, 10), strict=True)
    ]
    by_tokens, by_cost = (
        shares(Collator()(made), 10_000, cost) for cost in (TOKENS_ALONE, Cost(head=20.0, attended=0.0))
    )
    assert [share["rows"] for share in by_tokens] == [[0, 3], [1, 2]]
    assert sorted(share["rows"] for share in by_cost) == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("hidden", "inner", "layers", "dtype", "tokens"),
    [
        (384, 1536, 8, torch.float32, 1024),  # small: no more than is of use
        (576, 1536, 30, torch.float32, 514),  # SmolLM2-135M
        (576, 1536, 30, torch.bfloat16, 2048),
        (1536, 8960, 28, torch.float32, 512),  # large: no fewer than products take well
    ],
)
def test_a_share_of_a_model_that_keeps_more_a_token_has_fewer_tokens(hidden, inner, layers, dtype, tokens):
    config = small("llama", hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers)
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = hidden // 64, hidden // 192, 64
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert tokens_of(model, dtype) == tokens and large(model) == (hidden > 384)


def test_one_core_has_one_share_until_it_is_too_large(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    batch = Collator()(pairs(40))
    numbers = [len(shares(batch, budget, TOKENS_ALONE)) for budget in (10_000, 700)]
    assert numbers[0] == 1 < numbers[1]


def gradients(model, batches, cores):
    model.zero_grad()

    def backward(share):
        loss = (model(work=share["work"])["logps"] ** 2).sum() / 100
        loss.backward()
        return loss.detach()

    losses = []
    for together in rounds(batches):
        with adding(model.parameters()):
            losses += cores.each(backward, together)
    return float(torch.stack(losses).sum()), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("budget", [40, 10_000])
def test_gradients_are_those_of_the_whole_and_the_same_bytes_each_time(budget):
    torch.manual_seed(0)
    model = make_policy(AutoModelForCausalLM.from_config(small("llama")))
    batch = Collator()(pairs())
    cores = Cores()
    whole = gradients(copy.deepcopy(model), [batch], cores)
    first, *others = (gradients(model, shares(batch, budget, TOKENS_ALONE), cores) for _ in range(6))
    assert first[0] == pytest.approx(whole[0], rel=1e-5)
    for one, other in zip(first[1], whole[1], strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()
    for loss, found in others:
        assert loss == first[0] and all(map(torch.equal, found, first[1]))


@pytest.mark.usefixtures("_two_threads")
def test_a_weight_that_only_one_share_comes_to_gets_its_gradient():
    """An expert of a mixture, say."""
    weights = [torch.nn.Parameter(torch.ones(())) for _ in range(3)]
    cores = Cores()
    for together in ((1.0, 2.0), (3.0, -4.0), (5.0,)):
        with adding(weights):
            cores.each(lambda x: (x * (weights[0] + (weights[1] if x > 0 else weights[2]))).backward(), together)
    assert [weight.grad.item() for weight in weights] == [7.0, 11.0, -4.0]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_an_objective_of_the_batch_weighs_a_pair_by_its_neighbours(name):
    objective = OBJECTIVES[name]
    torch.manual_seed(0)
    batch = {tensor: torch.rand(6) for tensor in TENSORS}
    settings = {"beta": 0.5} if objective.settings.get("beta", 0) is None else {}
    whole = objective.loss(batch, settings)
    halves = [
        objective.loss({key: part[at] for key, part in batch.items()}, settings) for at in (slice(3), slice(3, 6))
    ]
    assert torch.allclose(whole, torch.cat(halves)) is not objective.of_batch
