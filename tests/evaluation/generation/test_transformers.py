"""The transformers engine against transformers' own generation, against the softmax, and against itself."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tiny import break_weights, little_memory, save_model, small, told_of_memory

from curate.base.errors import InputError
from curate.evaluation.generation.base import Request
from curate.evaluation.generation.transformers import TransformersGeneration
from curate.models import rendering
from curate.models.resolve import resolve

DRAWS = 2500


@pytest.fixture(scope="module")
def model(reference_model):
    return resolve(reference_model)


@pytest.fixture(scope="module")
def stop(model):
    return rendering.stop_token_ids(rendering.load_tokenizer(model), model)


@pytest.fixture(scope="module")
def engine(model, stop):
    engine = TransformersGeneration(model, "float32", stop)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts(model, sample_pairs):
    ids = rendering.render_pairs(rendering.load_tokenizer(model), sample_pairs.head(24))
    # Mixed lengths: some go on with a part of the response.
    return [
        np.array(prompt + chosen[: 3 * (row % 5)], dtype=np.int32)
        for row, (prompt, chosen) in enumerate(ids.select("prompt_ids", "chosen_ids").iter_rows())
    ]


def greedy(prompt, max_tokens=40):
    return Request(prompt, max_tokens, 0.0, 1.0, 0)


def test_greedy_answers_are_those_of_transformers_own_generate(engine, prompts, stop):
    assert len({len(prompt) for prompt in prompts}) > 5
    answers = engine.generate([greedy(prompt, 12 if row % 3 else 40) for row, prompt in enumerate(prompts)])
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        expected = engine.model.generate(
            torch.from_numpy(prompt).long()[None],
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=12 if row % 3 else 40,
            eos_token_id=sorted(stop),
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        ended = expected[-1] in stop
        assert answer == (expected[:-1] if ended else expected, "stop" if ended else "length")
    assert {answer.finish for answer in answers} == {"stop", "length"}


def test_a_batch_that_does_not_fit_the_memory_is_halved(model, stop, prompts, monkeypatch, capsys):
    engine = TransformersGeneration(model, "float32", stop)
    requests = [greedy(prompt, 6) for prompt in prompts]
    expected = engine.generate(requests)
    longest = max(map(len, prompts))
    asked = little_memory(monkeypatch, engine.model, 7 * longest)
    told_of_memory(capsys)
    assert engine.generate(requests) == expected
    assert asked[:3] == [24 * longest, 12 * longest, 6 * longest] and max(asked[2:]) <= 6 * longest
    assert told_of_memory(capsys) == [
        f"evaluate: 24 requests of {longest + 6} tokens at once do not fit the device's memory; it goes on with 6"
    ]
    little_memory(monkeypatch, engine.model, 10)
    with pytest.raises(InputError, match="a batch does not fit the device's memory") as caught:
        engine.generate(requests)
    assert caught.value.details["file"] == str(model.path) and "at once: tried 6, 3, 1;" in str(caught.value)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.9, 0.8)])
def test_memory_that_runs_out_amid_the_answers_changes_none(model, stop, prompts, monkeypatch, temperature, top_p):
    """Keys and values grow from token to token: what was written is written again, by the same random numbers."""
    engine = TransformersGeneration(model, "float32", stop)
    requests = [Request(prompt, 20, temperature, top_p, 7 + row) for row, prompt in enumerate(prompts)]
    expected, inner, full = engine.generate(requests), engine.model.base_model.forward, []
    most = 6 * (max(map(len, prompts)) + 20)

    def forward(input_ids=None, past_key_values=None, **more):
        held = past_key_values.get_seq_length() if past_key_values else 0
        if held and len(input_ids) * (held + 1) > most:
            full.append(len(input_ids))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(input_ids=input_ids, past_key_values=past_key_values, **more)

    monkeypatch.setattr(engine.model.base_model, "forward", forward)
    assert engine.generate(requests) == expected and len(full) == 2
    assert engine.generate(requests) == expected and len(full) == 2


@pytest.mark.parametrize("kind", ["gemma2", "gpt2", "llama", "minimax", "roberta"])
def test_other_architectures(kind, tmp_path):
    """Soft-capped with a sliding window shorter than the sequence, learnt positions, grouped queries, a cache of its
    own, positions that are not counted from 0."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    more = {"gemma2": {"sliding_window": 8}, "roberta": {"is_decoder": True}}.get(kind, {})
    AutoModelForCausalLM.from_config(small(kind, **more)).save_pretrained(tmp_path)
    engine = TransformersGeneration(resolve(tmp_path), "float32", {3, 4})
    draw = np.random.default_rng(0)
    prompts = [draw.integers(5, 250, length, dtype=np.int32) for length in (3, 30, 11, 11, 25)]
    for prompt, answer in zip(prompts, engine.generate([greedy(prompt, 20) for prompt in prompts]), strict=True):
        ids = torch.from_numpy(prompt).long()[None]
        for token in answer.ids:  # without a cache, without company
            logits = engine.model(ids, use_cache=False).logits[0, -1]
            assert logits[token] >= logits.max() - 1e-4
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)


def test_finished_rows_stay_within_the_positions_a_model_has_learnt(tmp_path):
    """The first prompt leaves room for 2 tokens of 32; it stands among others that go on for 12."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = small("gpt2", n_positions=32, max_position_embeddings=32)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    engine = TransformersGeneration(resolve(tmp_path), "float32", set())
    draw = np.random.default_rng(0)
    prompts = [draw.integers(5, 250, length, dtype=np.int32) for length in (30, *[20] * 5)]
    answers = engine.generate([greedy(prompt, min(12, 32 - len(prompt))) for prompt in prompts])
    assert [len(answer.ids) for answer in answers] == [2, *[12] * 5]
    assert answers[0] == engine.generate([greedy(prompts[0], 2)])[0]


def first_tokens(engine, prompt, temperature, top_p):
    requests = [Request(prompt, 1, temperature, top_p, seed) for seed in range(DRAWS)]
    answers = engine.generate(requests)
    # A stop token is the answer without one.
    return np.array([answer.ids[0] if answer.ids else -1 for answer in answers])


def expected_distribution(engine, prompt, temperature, top_p, stop):
    """By hand, in numpy: tempered softmax, then the fewest tokens that reach top_p, then scaled to one."""
    with torch.inference_mode():
        logits = engine.model(torch.from_numpy(prompt).long()[None]).logits[0, -1].double().numpy() / temperature
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    kept, total = {}, 0.0
    for token in np.argsort(-probabilities, kind="stable"):
        if total >= top_p:
            break
        kept[-1 if int(token) in stop else int(token)] = probabilities[token]
        total += probabilities[token]
    return {token: probability / total for token, probability in kept.items()}


def fits(drawn, distribution):
    """p-value of a chi-square test; tokens expected fewer than ten times count as one."""
    common = [token for token, probability in distribution.items() if probability * len(drawn) >= 10]
    observed = np.array([(drawn == token).sum() for token in common])
    expected = np.array([distribution[token] * len(drawn) for token in common])
    rest = np.array([len(drawn) - observed.sum()]), np.array([len(drawn) - expected.sum()])
    if rest[1] > 1e-6:
        observed, expected = np.append(observed, rest[0]), np.append(expected, rest[1])
    assert len(observed) > 5
    return chisquare(observed, expected * observed.sum() / expected.sum()).pvalue


@pytest.mark.parametrize(("temperature", "top_p"), [(1.5, 1.0), (1.5, 0.8)])
def test_sampled_tokens_follow_the_softmax(engine, prompts, stop, temperature, top_p):
    prompt = prompts[0]
    drawn = first_tokens(engine, prompt, temperature, top_p)
    distribution = expected_distribution(engine, prompt, temperature, top_p, stop)
    assert set(drawn.tolist()) <= distribution.keys()
    assert fits(drawn, distribution) > 1e-3
    # The test would notice another temperature.
    assert fits(drawn, expected_distribution(engine, prompt, temperature * 0.8, 1.0, stop)) < 1e-6


def test_an_answer_depends_on_neither_company_nor_order(engine, prompts):
    requests = [
        Request(prompt, 30, temperature, top_p, 2**62 + row)
        for row, prompt in enumerate(prompts)
        for temperature, top_p in ((0.0, 1.0), (1.0, 1.0), (1.2, 0.9))
    ]
    together = engine.generate(requests)
    order = np.random.default_rng(0).permutation(len(requests))
    assert [together[number] for number in order] == engine.generate([requests[number] for number in order])
    alone = [engine.generate([request])[0] for request in requests[:18]]
    assert together[:18] == alone
    assert len({tuple(answer.ids) for answer in together}) > len(prompts)  # they are drawn
    other = engine.generate([request._replace(seed=request.seed + 100) for request in requests])
    assert sum(a == b for a, b in zip(together, other, strict=True)) < 0.8 * len(requests)


def test_a_small_budget_changes_no_answer(engine, prompts, monkeypatch):
    requests = [greedy(prompt) for prompt in prompts]
    whole = engine.generate(requests)
    monkeypatch.setattr(engine.budget, "tokens", 200)
    assert engine.generate(requests) == whole
    monkeypatch.setattr(engine, "rows", 1)
    assert engine.generate(requests) == whole
    assert engine.generate([]) == []


def test_logits_that_are_no_numbers(tmp_path):
    engine = TransformersGeneration(resolve(break_weights(save_model(tmp_path))), "float32", {2})
    with pytest.raises(InputError, match="no finite numbers"):
        engine.generate([greedy(np.array([5, 6], dtype=np.int32))])
