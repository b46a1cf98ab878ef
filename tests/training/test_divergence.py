"""KL to the reference: the estimator against an exact enumeration, its sampling, and what a run makes of it."""

import itertools
import math

import numpy as np
import polars as pl
import pytest
import torch
from tiny import VOCABULARY, ids, small

from curate.base.errors import InputError
from curate.models.load import load_model
from curate.models.rendering import load_tokenizer
from curate.project import params
from curate.training import divergence
from curate.training.divergence import Divergence, divergence_from
from curate.training.policy import add_lora, as_plain, make_policy, own_attention
from curate.training.train import train

OPTIONS = params.TrainParams(
    epochs=1, batch_pairs=8, evaluations=2, eval_pairs=8, checkpoints=1, check_pairs=2, kl_prompts=4, kl_tokens=8
)
DPO = params.DEFAULT_ARMS["dpo"]


def policy_of(kind="qwen2", seed=0, **more):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return make_policy(AutoModelForCausalLM.from_config(small(kind, **more))).eval()


def own(policy):
    """For good, as a reference has it."""
    policy.set_attn_implementation(policy.curate_attention)
    return policy.requires_grad_(False)


def estimator(prompts, tokens, reference=None, ends=(1,), context=128, seed=0):
    return Divergence(prompts, list(ends), tokens, context, seed, False, reference and (lambda: reference))


def sampled(estimate, policy):
    return [response for part in estimate._responses(policy) for response in part]


def exact(policy, reference, prompt, vocabulary, tokens, end):
    """sum_y pi(y|x) (log pi(y|x) - log pi_ref(y|x)) over every y that ends at `end` or after `tokens` tokens."""
    every = np.array(list(itertools.product(range(vocabulary), repeat=tokens)))
    batch = torch.from_numpy(np.hstack([np.tile(prompt, (len(every), 1)), every]))
    targets = batch[:, -tokens:, None]
    found = []
    for model in (policy, reference):
        with torch.no_grad():
            logps = model(input_ids=batch).logits[:, -tokens - 1 : -1].double().log_softmax(-1)
        found.append(logps.gather(-1, targets).squeeze(-1).numpy())
    # Up to the first end; of the rows that are alike up to there, one.
    kept = np.hstack([np.ones((len(every), 1), bool), np.logical_and.accumulate(every != end, axis=1)[:, :-1]])
    _, first = np.unique(np.where(kept, every, -1), axis=0, return_index=True)
    own_logps, reference_logps = ((logps * kept).sum(1)[first] for logps in found)
    assert math.isclose(np.exp(own_logps).sum(), 1, abs_tol=1e-6)
    return float((np.exp(own_logps) * (own_logps - reference_logps)).sum())


def test_it_is_the_divergence_of_responses():
    """Five tokens, three of them a response, two prompts 800 times each. The error allowed is four standard errors of
    the mean, 3% and 7% of the values: a response's end, its third token or a prompt's padding would be seen."""
    policy, reference = (policy_of(seed=seed, vocab_size=5) for seed in (0, 1))
    prompts = [np.array(prompt, dtype=np.int32) for prompt in ([2, 3, 4, 0, 2, 2, 4, 3], [4])]
    with own_attention(policy):
        wanted = [exact(policy, own(reference), prompt, 5, 3, 1) for prompt in prompts]
        first = [exact(policy, reference, prompt, 5, 1, 1) for prompt in prompts]
    times = 800
    estimate = estimator(prompts * times, 3, reference)
    with torch.no_grad(), own_attention(policy):
        responses = sampled(estimate, policy)
        each = np.array(list(estimate._each(policy, reference, responses)))
    assert estimate(policy) == pytest.approx(each.mean(), abs=1e-6) and each.min() > 0
    by_prompt = each.reshape(2, times)  # longest prompt first
    errors = by_prompt.std(1, ddof=1) / math.sqrt(times)
    assert (np.abs(by_prompt.mean(1) - wanted) < 4 * errors).all()
    assert (4 * errors < 0.25 * (np.array(wanted) - first)).all(), "the second token and the third would be seen"
    for prompt, response in responses:
        assert 1 <= len(response) <= 3 and 1 not in response[:-1]
        assert response[-1] == 1 or len(response) == 3
        assert prompt.tolist() in [one.tolist() for one in prompts]
    assert {len(response) for _, response in responses} == {1, 2, 3}


def test_tokens_that_a_model_rules_out_itself_count_nothing():
    """Some give places of the vocabulary that are no token the logit -inf: 0 (log 0 - log 0) is 0."""
    policy, reference = (policy_of(seed=seed, vocab_size=5) for seed in (0, 1))
    prompts = [np.array([2, 3, 0], dtype=np.int32)] * 8
    estimate = estimator(prompts, 3, own(reference))
    for model in (policy, reference):
        ruled_out = torch.tensor([0.0, 0.0, 0.0, 0.0, -math.inf])
        model.lm_head.register_forward_hook(lambda _, __, logits, ruled_out=ruled_out: logits + ruled_out)
    wanted = []
    with own_attention(policy):
        with torch.no_grad():
            responses = sampled(estimate, policy)
        for prompt, response in responses:
            batch = torch.from_numpy(np.concatenate([prompt, response])[None].astype(np.int64))
            own_logps, reference_logps = (
                model(input_ids=batch).logits[0, len(prompt) - 1 : -1, :4].double().log_softmax(-1).detach()
                for model in (policy, reference)
            )
            wanted.append((own_logps.exp() * (own_logps - reference_logps)).sum().item())
    assert estimate(policy) == pytest.approx(np.mean(wanted), rel=1e-4) and np.mean(wanted) > 0


KINDS = {
    "qwen2": {},
    "mistral": {"sliding_window": 8},
    "gemma2": {"attn_logit_softcapping": None, "final_logit_softcapping": 3.0, "sliding_window": 8},
    "granite": {"logits_scaling": 8.0},
    "gpt2": {"n_positions": 128},  # learned positions
    "openai-gpt": {"n_positions": 128},  # no cache
    "mamba": {},  # a cache of another kind
    "roberta": {"is_decoder": True},  # positions that are not counted from 0
    "rwkv": {"context_length": 128},  # and padding that its state reads
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "attention_window_size": 16},
}
ALONE = {"roberta", "rwkv", "recurrent_gemma"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_is_the_policys_whatever_the_padding_and_the_cache(kind):
    """The same draws from every row's own distribution, each computed anew, alone and from the beginning."""
    policy = policy_of(kind, **KINDS[kind])
    prompts = ids(12, 5, 1)
    with torch.no_grad(), own_attention(policy):
        found = sampled(estimator(prompts, 10, ends=[VOCABULARY]), policy)
        generator = torch.Generator().manual_seed(0)
        expected = []
        for part in [[prompt] for prompt in prompts] if kind in ALONE else [prompts]:
            rows = [prompt.tolist() for prompt in part]
            for _ in range(10):
                logits = [policy(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1] for row in rows]
                drawn = torch.multinomial(torch.stack(logits).softmax(-1), 1, generator=generator)
                rows = [[*row, int(token)] for row, token in zip(rows, drawn, strict=True)]
            expected += rows
    assert [np.concatenate(sequence).tolist() for sequence in found] == expected
    assert (policy.curate_unpadded_beyond == 0) == (kind in ALONE)
    estimate = estimator(prompts, 5, own(policy_of(kind, seed=1, **KINDS[kind])))
    assert estimate(policy) > 0.01 and estimate(policy) == estimate(policy)
    assert policy.curate_packs == (policy.config._attn_implementation == "curate_tree")


def test_a_sequence_is_no_longer_than_the_context():
    policy, prompts = policy_of(), ids(12, 5)
    with torch.no_grad(), own_attention(policy):
        found = sampled(estimator(prompts, 10, ends=[VOCABULARY], context=15), policy)
    assert [len(response) for _, response in found] == [3, 10]


def test_adapters_switched_off_are_the_reference():
    """And on, the divergence is the merged model's from a copy of the model before."""
    policy, before = policy_of(), own(policy_of())
    adapted = add_lora(policy, 4, 8.0, ["all-linear"]).eval()
    prompts = ids(9, 4, 7, 2)
    assert estimator(prompts, 12)(adapted) == 0
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    found = estimator(prompts, 12)(adapted)
    assert {name for name, weight in adapted.named_parameters() if weight.requires_grad} == trained
    assert found == estimator(prompts, 12)(adapted) > 0.1
    assert estimator(prompts, 12, before)(as_plain(adapted)) == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize("held", [True, False], ids=["held", "loaded"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_before_the_first_step_it_is_zero(weights, model, dtype, held, monkeypatch):
    """In bfloat16 the copy's layers are held so, and compute the same numbers under autocast."""
    monkeypatch.setattr(divergence, "HELD_BYTES", 2**28 if held else 0)
    options = OPTIONS.model_copy(update={"dtype": dtype})
    policy = make_policy(load_model(model, "float32"))
    heldout = weights.filter(pl.col("split") == "heldout")
    estimate = divergence_from(policy, load_tokenizer(model), heldout, options, model, 0)
    assert (estimate.reference() is estimate.reference()) is held
    assert estimate.reference().model.layers[0].mlp.up_proj.weight.dtype == getattr(torch, dtype)
    assert estimate(policy) == 0 and policy.curate_packs
    with torch.no_grad():
        policy.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    assert estimate(policy) > 0.01
    with torch.no_grad():
        policy.model.norm.weight.fill_(math.nan)
    with pytest.raises(InputError, match="diverged"):
        estimate(policy)


def test_prompts_are_distinct_and_the_same_draw_for_every_order(weights, model):
    heldout = weights.filter(pl.col("split") == "heldout")
    again = heldout.with_columns(pair_id=pl.col("pair_id").str.reverse())  # other pairs of the same prompts
    policy, tokenizer = make_policy(load_model(model, "float32")), load_tokenizer(model)

    def drawn(frame, count, **more):
        options = OPTIONS.model_copy(update={"kl_prompts": count, **more})
        return divergence_from(policy, tokenizer, frame, options, model, 0)

    both = pl.concat([heldout, again])
    every = drawn(both, 99)
    texts = [tuple(prompt.tolist()) for prompt in every.prompts]
    assert len(set(texts)) == len(texts) == heldout["prompt_key"].n_unique() == 12
    assert [tuple(prompt.tolist()) for prompt in drawn(both.reverse(), 5).prompts] == texts[:5]
    assert every.ends == [tokenizer.eos_token_id] and every.tokens == 8 and every.context == model.context
    assert drawn(both, 5, lora_rank=2).reference is None and drawn(both, 0) is None


def test_sharded_weights_have_none_and_it_is_said(weights, model, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    heldout = weights.filter(pl.col("split") == "heldout")
    policy = make_policy(load_model(model, "float32"))
    assert divergence_from(policy, load_tokenizer(model), heldout, OPTIONS, model, 0) is None
    assert capsys.readouterr().err == "train: no KL to the reference is estimated under FSDP\n"


@pytest.mark.parametrize("rank", [0, 4])
def test_a_run_has_it_at_every_evaluation_and_is_the_same_without(weights, model, tmp_path, rank):
    """Adapters or all weights; another seed trains otherwise and answers the same prompts."""
    options = OPTIONS.model_copy(update={"lora_rank": rank, "learning_rate": 1e-2 if rank else 1e-3})
    on = train(weights, model, options, DPO, "dpo", tmp_path / "on", tmp_path / "state")
    curve = pl.read_csv(tmp_path / "on" / "curve.csv").filter(pl.col("side") == "heldout")
    assert curve["step"].to_list() == [0, 3, 6] and curve["kl"].null_count() == 0
    assert on["start"]["kl"] == curve["kl"][0] == 0
    assert on["heldout"]["kl"] == curve["kl"][-1] > 1e-3 and "kl" not in on["train"]
    assert f"reference on held-out prompts: {curve['kl'][-1]:.4f} nats" in (tmp_path / "on/model/README.md").read_text()
    without = options.model_copy(update={"kl_prompts": 0})
    off = train(weights, model, without, DPO, "dpo", tmp_path / "off", tmp_path / "state")
    assert off["heldout"].pop("kl") is None is off["start"].pop("kl")
    assert off["train"] == on["train"] and off["heldout"].items() <= on["heldout"].items()
    saved = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("on", "off")]
    assert saved[0] == saved[1]
