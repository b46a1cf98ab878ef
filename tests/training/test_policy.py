"""The policy's log-probabilities and gradients are the plain model's, however it runs its sequences."""

import copy
import json

import numpy as np
import pytest
import torch
from tiny import VOCABULARY, forest, ids, small
from torch.utils._python_dispatch import TorchDispatchMode

from curate.base.errors import UsageError
from curate.models.products import head
from curate.models.rendering import TokenSequence
from curate.scoring.packing import attention
from curate.training import work
from curate.training.policy import as_plain, make_policy, token_logps_of
from curate.training.work import Work

CPU = torch.device("cpu")
SLIDING = {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}
PACKED = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},  # biases, one matrix for both ends
    "mistral": {"sliding_window": 7},
    "gemma3_text": SLIDING,
    "gemma2": SLIDING | {"attn_logit_softcapping": None, "final_logit_softcapping": 3.0},
    "phi3": {},  # one product for queries, keys and values
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
}
PADDED = {
    "gemma2": {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "granite": {"logits_scaling": 8.0, "attention_multiplier": 0.25},
    "mamba": {},
    "rwkv": {"context_length": 128},  # which padding disturbs
    "phi3": {
        "original_max_position_embeddings": 32,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 8,
            "long_factor": [2.0 + i for i in range(8)],
            "factor": 4.0,
        },
    },
}


def model_of(kind, more):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(small(kind, **more)).eval()


def plain(model, sequences):
    """Token log-probs and alignments of each sequence, one at a time through the model's own forward pass."""
    for prompt, response in sequences:
        both = torch.from_numpy(np.concatenate([prompt, response]).astype(np.int64))[None]
        logps = model(both, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        found = logps.gather(1, both[0, len(prompt) :, None])[:, 0]
        yield found, (found - logps.exp().square().sum(-1).log()).detach()


def work_of(sequences, alignment=False):
    """With weights on the tokens of every other sequence."""
    draw = np.random.default_rng(3)
    weights = [draw.uniform(0.1, 10, len(s.response_ids)).astype(np.float32) for s in sequences]
    return Work(sequences, [w if number % 2 else None for number, w in enumerate(weights)], alignment)


def expected(model, step, slope):
    """(log-probs, alignments, gradients of their sum with `slope`): plainly, in float64."""
    twin = copy.deepcopy(model).double()
    if hasattr(model.config, "num_experts"):
        twin.set_experts_implementation("eager")  # torch's grouped product has no float64
    sums, alignments = [], []
    for number, (logps, aligned) in enumerate(plain(twin, step.sequences)):
        weights = step.weights(number, CPU)
        sums.append((logps if weights is None else logps * weights).sum())
        alignments.append(aligned.mean())
    (torch.stack(sums) * slope).sum().backward()
    gradients = {name: parameter.grad for name, parameter in twin.named_parameters()}
    return torch.stack(sums).detach(), torch.stack(alignments), gradients


def gradients_of(policy, step, slope):
    policy.zero_grad(set_to_none=True)
    found = policy(work=step)
    (found["logps"] * slope).sum().backward()
    return found, {name: parameter.grad for name, parameter in policy.named_parameters()}


def assert_same(ours, theirs, tolerance=1e-5):
    """Of each weight's gradient the difference's norm, against the norm; of all together too."""
    assert ours.keys() == theirs.keys()
    whole = torch.stack([gradient.norm() for gradient in theirs.values() if gradient is not None]).norm()
    for name, other in theirs.items():
        if other is None:
            assert ours[name] is None, name
            continue
        # Biases of keys have none but for rounding: the whole's size is the floor.
        assert (ours[name] - other).norm() <= tolerance * max(other.norm(), 1e-2 * whole), name


def check(policy, model, step):
    slope = torch.from_numpy(np.random.default_rng(5).normal(size=len(step)))
    logps, alignments, gradients = expected(model, step, slope)
    found, ours = gradients_of(policy, step, slope)
    tokens = torch.tensor([len(sequence.response_ids) for sequence in step.sequences])
    assert ((found["logps"] - logps) / tokens).abs().max() < 1e-5 * (10 if step.token_weights else 1)
    assert ("alignment" in found) == step.alignment
    if step.alignment:
        assert (found["alignment"] - alignments).abs().max() < 1e-5
    assert_same(ours, gradients)
    return found, ours


@pytest.mark.parametrize("kind", PACKED)
def test_packs_give_plain_values_and_gradients(kind, monkeypatch, capsys):
    """In one pack, in several, in one a sequence; twice in a row; and padded."""
    model = model_of(kind, PACKED[kind])
    policy = make_policy(copy.deepcopy(model)).train()
    assert policy.curate_packs and "without packs" not in capsys.readouterr().err
    step = work_of(forest(), alignment=True)
    found, gradients = check(policy, model, step)
    again, same = gradients_of(policy, step, torch.from_numpy(np.random.default_rng(5).normal(size=len(step))))
    assert torch.equal(found["logps"], again["logps"])
    assert all(torch.equal(gradients[name], same[name]) for name in same if same[name] is not None)
    for budget in (45, 1):
        monkeypatch.setitem(work.PACK_TOKENS, "cpu", budget)
        monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 4 * VOCABULARY * 7)
        check(policy, model, step)
    policy.curate_packs = False
    policy.set_attn_implementation("sdpa")
    check(policy, model, step)


@pytest.mark.parametrize("kind", PADDED)
def test_a_model_that_packs_do_not_suit_gives_them_too(kind, capsys):
    model = model_of(kind, PADDED[kind])
    # Of like length, on both sides of where phi3's rotary embedding begins to stretch.
    edge = [TokenSequence(*ids(10, total - 10)) for total in (31, 32, 33, 34)]
    policy = make_policy(copy.deepcopy(model)).train()
    assert not policy.curate_packs and "without packs" in capsys.readouterr().err
    check(policy, model, work_of([*forest(), *forest(seed=7), *edge], alignment=True))


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "granite"])
def test_gradient_checkpointing_changes_nothing(kind):
    model = model_of(kind, (PACKED | PADDED)[kind])
    step, slope = work_of(forest()), torch.linspace(-1, 1, len(forest()))
    kept, expected = gradients_of(make_policy(copy.deepcopy(model)).train(), step, slope)
    policy = make_policy(copy.deepcopy(model), gradient_checkpointing=True).train()
    runs = []
    policy.model.layers[0].mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    found, gradients = gradients_of(policy, step, slope)
    assert len(runs) == 2 * (1 if policy.curate_packs else len(list(step.buckets())))  # and again for the gradient
    assert torch.allclose(found["logps"], kept["logps"], rtol=0, atol=1e-5)
    assert_same(gradients, expected, 1e-6)


def test_a_batch_without_weights_or_alignment_gives_log_probs_only():
    policy = make_policy(model_of("llama", {}))
    found = policy(work=Work(forest()))
    assert found.keys() == {"logps"} and found["logps"].dtype == torch.float32
    assert torch.equal(found["logps"], policy(work=Work(forest(), [None] * len(forest())))["logps"])


@pytest.mark.parametrize("kind", ["llama", "granite"])
def test_token_log_probs_come_in_the_order_asked(kind):
    model = model_of(kind, (PACKED | PADDED)[kind])
    found = token_logps_of(make_policy(copy.deepcopy(model)), forest())
    with torch.no_grad():
        for ours, (theirs, _) in zip(found, plain(model, forest()), strict=True):
            assert ours.dtype == np.float32 and ours.shape == theirs.shape
            assert np.abs(ours - theirs.numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "more", "packs"),
    [
        ("llama", {"attention_dropout": 0.5}, True),
        ("granite", {"attention_dropout": 0.5, **PADDED["granite"]}, False),
        ("opt", {"layerdrop": 0.5, "ffn_dim": 96, "word_embed_proj_dim": 64}, True),
        ("phimoe", {"num_local_experts": 4, "num_experts_per_tok": 2}, True),  # its router draws while it trains
    ],
)
def test_there_is_no_dropout(kind, more, packs):
    model = model_of(kind, more)
    with torch.no_grad():
        expected = torch.stack([logps.sum() for logps, _ in plain(model, forest())])
    policy = make_policy(model).train()
    assert policy.curate_packs == packs and policy.training
    for _ in range(2):
        assert torch.allclose(policy(work=Work(forest()))["logps"], expected, atol=1e-3)


def test_gradient_checkpointing_of_a_model_that_has_none():
    more = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "dff": 96}
    with pytest.raises(UsageError, match="compute this model's layers again") as caught:
        make_policy(model_of("ctrl", more), gradient_checkpointing=True)
    assert caught.value.details["field"] == "train.gradient_checkpointing"


def test_nor_of_layers():
    from transformers import AutoModelForCausalLM, GPT2Config

    torch.manual_seed(0)
    rates = {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=128, **rates)
    policy = make_policy(AutoModelForCausalLM.from_config(config)).train()
    first, second = (policy(work=Work(forest()))["logps"] for _ in range(2))
    assert torch.equal(first, second)


def test_the_plain_call_is_still_the_models_own():
    model = model_of("llama", {})
    tokens = torch.from_numpy(np.concatenate(ids(9)).astype(np.int64))[None]
    with torch.no_grad():
        before = model(tokens).logits
        policy = make_policy(model)
        policy.set_attn_implementation("sdpa")
        assert torch.allclose(policy(tokens).logits, before, atol=1e-5)
        assert torch.equal(policy(input_ids=tokens).logits, policy(tokens).logits)


class Largest(TorchDispatchMode):
    """The most elements that any tensor has that is made in the block."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for value in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return made


def test_tokens_by_vocabulary_is_never_held(monkeypatch):
    """Nothing is larger than the LM head's own gradient, though the batch's logits would be several times that."""
    sequences = [TokenSequence(*ids(20, 40, seed=seed)) for seed in range(12)]
    step, vocabulary = Work(sequences, alignment=True), 4000
    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 4 * vocabulary * 16)
    policy = make_policy(model_of("llama", {"vocab_size": vocabulary})).train()
    scored = sum(len(sequence.response_ids) for sequence in sequences)
    weights = policy.lm_head.weight.numel()
    assert scored * vocabulary > 7 * weights
    with Largest() as largest:
        policy(work=step)["logps"].sum().backward()
    assert largest.elements == weights
    # What would be seen of a head that takes the batch whole.
    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 2**30)
    with Largest() as whole:
        policy(work=step)["logps"].sum().backward()
    assert whole.elements == scored * vocabulary


@pytest.mark.parametrize("kind", ["llama", "granite"])
def test_what_is_saved_is_a_plain_model(kind, tmp_path):
    from transformers import AutoModelForCausalLM

    options = {"attention_dropout": 0.25}
    policy = make_policy(model_of(kind, {**(PACKED | PADDED)[kind], **options}), gradient_checkpointing=True)
    found = policy(work=Work(forest()))["logps"].detach()
    as_plain(policy).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert attention.TREE not in text and "curate" not in text
    config = json.loads(text)
    assert config["use_cache"] is True and config["attention_dropout"] == 0.25
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded).__name__ == type(policy).__name__
    with torch.no_grad():
        theirs = torch.stack([logps.sum() for logps, _ in plain(loaded.eval(), forest())])
    assert (found - theirs).abs().max() < 1e-4


def test_weights_are_those_that_are_measured_whether_it_trains_or_evaluates():
    model = model_of("rwkv", {"context_length": 128, "rescale_every": 1})
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = torch.stack([logps.sum() for logps, _ in plain(model, forest())])  # it has divided them by now
        policy = make_policy(model)
        for training in (True, False):
            found = policy.train(training)(work=Work(forest()))["logps"]
            assert torch.allclose(found, expected, atol=1e-3)
            assert all(torch.equal(weight, before[name]) for name, weight in policy.state_dict().items())
    assert policy.config.rescale_every == 1
