"""How log-probs are asked of vLLM and read, with the installed version's own classes; on a CPU the real engine, too."""

import importlib.util
import types

import numpy as np
import pytest
import torch

from curate.base.errors import InputError
from curate.models import rendering
from curate.models.load import load_model
from curate.models.rendering import TokenSequence
from curate.models.resolve import resolve
from curate.scoring.engines import vllm_cpu
from curate.scoring.engines.transformers import TransformersEngine

missing = importlib.util.find_spec("vllm") is None  # its import takes seconds of every process that collects tests
pytestmark = [pytest.mark.vllm, pytest.mark.skipif(missing, reason="no vLLM")]


@pytest.fixture(scope="module")
def sequences(reference_model, sample_pairs):
    """Both responses of each pair after one prompt, of every third after the null prompt too."""
    tokenizer = rendering.load_tokenizer(resolve(reference_model))
    null = np.array(rendering.null_prompt_ids(tokenizer, "empty_user"), dtype=np.int32)
    rendered = rendering.render_pairs(tokenizer, sample_pairs.head(12)).drop("pair_id")
    found = []
    for row, (prompt, *responses) in enumerate(rendered.iter_rows()):
        for response in responses:
            ids = np.array(response, dtype=np.int32)
            found.append(TokenSequence(np.array(prompt, dtype=np.int32), ids))
            found += [TokenSequence(null, ids)] * (row % 3 == 0)
    return found


@pytest.fixture(scope="module")
def expected(reference_model, sequences):
    return TransformersEngine(resolve(reference_model), "float32").logps(sequences)


@pytest.fixture(scope="module")
def states(reference_model, sequences):
    """What a model runner has of each sequence: hidden states [tokens, width]; and its LM head."""
    net = load_model(resolve(reference_model), "float32").eval()
    with torch.inference_mode():
        each = [
            net.base_model(input_ids=torch.from_numpy(np.concatenate(s)).long()[None]).last_hidden_state[0]
            for s in sequences
        ]
    return each, net.get_output_embeddings()


def plain_logprobs(logits, ids):
    """What vLLM's Triton kernel computes, which needs a GPU."""
    return logits.float().log_softmax(-1).gather(-1, ids)


def scores_of(sequences, states, head, chunk, cached):
    """vLLM's own worker of its second model runner on these requests, step by step: scores by number, or nothing."""
    from vllm.v1.worker.gpu.sample.prompt_logprob import PromptLogprobsWorker

    from curate.scoring.engines.vllm_ways import ResponseRows

    worker = PromptLogprobsWorker(len(sequences), torch.device("cpu"))
    answers = {}
    for number, (sequence, state) in enumerate(zip(sequences, states, strict=True)):
        params = ResponseRows().params(sequence, cached=bool(cached))
        assert params.skip_reading_prefix_cache is not bool(cached)
        worker.add_request(str(number), 0, params)
        for start in range(cached, sequence.length, chunk):
            count = min(chunk, sequence.length - start)
            batch = types.SimpleNamespace(
                req_ids=[str(number)],
                idx_mapping_np=np.array([0]),
                num_computed_prefill_tokens_np=np.array([start]),
                num_scheduled_tokens=np.array([count]),
                prefill_len_np=np.array([sequence.length]),
                query_start_loc_np=np.array([0, count]),
            )
            answers |= worker.compute_prompt_token_id_logprobs(
                head, state[start : start + count], batch, np.array([sequence.length])
            )
    return answers


def output(scores):
    from vllm import RequestOutput

    return RequestOutput("0", None, [], None, [], finished=True, prompt_token_id_logprobs=scores)


@pytest.mark.parametrize("chunk", [10_000, 7])
def test_rows_of_responses_by_vllms_own_worker(sequences, states, expected, monkeypatch, chunk):
    from vllm.v1.worker.gpu.sample import prompt_logprob

    from curate.scoring.engines.vllm_ways import ResponseRows

    monkeypatch.setattr(prompt_logprob, "compute_token_logprobs", plain_logprobs)
    hidden, head = states
    with torch.inference_mode():
        answers = scores_of(sequences, hidden, head, chunk, cached=0)
    got = [
        ResponseRows().read(output(answers[str(n)].numpy()), sequence, cached=False)
        for n, sequence in enumerate(sequences)
    ]
    assert got == pytest.approx(expected, abs=2e-4)


def test_what_the_prefix_cache_reached_into_has_no_scores_and_is_asked_again(sequences, states, monkeypatch):
    from vllm.v1.worker.gpu.sample import prompt_logprob

    from curate.scoring.engines.vllm_ways import ResponseRows

    monkeypatch.setattr(prompt_logprob, "compute_token_logprobs", plain_logprobs)
    hidden, head = states
    some = sequences[:3]
    prompt = len(some[0].prompt_ids)
    with torch.inference_mode():
        within = scores_of(some[:1], hidden[:1], head, 10_000, cached=prompt - 1)
        beyond = scores_of(some[:1], hidden[:1], head, 10_000, cached=prompt)
    assert within["0"].shape == (len(some[0].response_ids), 1) and not beyond
    way = ResponseRows()
    assert np.isnan(way.read(output(None), some[0], cached=True))
    with pytest.raises(AssertionError, match="other rows"):
        way.read(output(None), some[0], cached=False)
    with pytest.raises(AssertionError, match="other rows"):
        way.read(output(np.zeros((1 + len(some[0].response_ids), 1), dtype=np.float32)), some[0], cached=True)


def test_vllm_takes_the_request_where_it_has_the_second_runner_and_refuses_it_elsewhere(
    vllm_engine, sequences, monkeypatch
):
    import vllm
    from vllm import TokensPrompt, envs
    from vllm.exceptions import VLLMValidationError

    from curate.scoring.engines import vllm_ways

    llm = vllm_engine.engine.llm_engine
    prompt = TokensPrompt(prompt_token_ids=np.concatenate(sequences[0]).tolist())
    params = vllm_ways.ResponseRows().params(sequences[0], cached=True)
    assert vllm_ways.lacking(llm.vllm_config) == "its second model runner is not in use here"
    with pytest.raises(VLLMValidationError, match="V2 model runner"):
        llm.input_processor.process_inputs("0", prompt, params, ("generate",))
    monkeypatch.setattr(envs, "VLLM_USE_V2_MODEL_RUNNER", True)  # as on a GPU
    assert vllm_ways.lacking(llm.vllm_config) is None
    taken = llm.input_processor.process_inputs("0", prompt, params, ("generate",)).sampling_params
    assert taken.prompt_logprob_token_ids.ravel().tolist() == sequences[0].response_ids.tolist()
    assert (taken.max_tokens, taken.temperature, taken.top_p, taken.prompt_logprobs) == (1, 0.0, 1.0, None)
    monkeypatch.setattr(vllm, "SamplingParams", types.SimpleNamespace(__struct_fields__=("max_tokens",)))
    assert "takes no ids" in vllm_ways.lacking(llm.vllm_config)


def test_the_cpu_makes_log_probs_of_responses_alone_and_says_so(vllm_engine, sequences, expected):
    assert vllm_engine.way.told == "of responses alone"
    got = vllm_engine.logps(sequences)
    assert got == pytest.approx(expected, abs=2e-4)
    whole = vllm_engine.logps(sequences[::-1])[::-1]
    assert np.array_equal(got, whole)


def test_other_insides_leave_vllm_as_it_is():
    runner = types.SimpleNamespace(requests={}, num_prompt_logprobs={})
    worker = types.SimpleNamespace(model_runner=runner)
    assert "has no _get_prompt_logprobs_dict" in vllm_cpu._take_the_place(worker)
    gone = types.SimpleNamespace(collective_rpc=lambda *_: [][0])
    assert "others (IndexError)" in vllm_cpu.score_responses_alone(gone)
    scaled = types.SimpleNamespace(lm_head=1, logits_processor=types.SimpleNamespace(scale=0.5))
    assert "another kind" in vllm_cpu._head_of(scaled)


def test_a_step_that_does_not_fit_the_memory_is_cut(vllm_engine, sequences, expected, monkeypatch, capsys):
    generate, opened = vllm_engine.engine.generate, []

    def full(*arguments, **options):
        if vllm_engine.step_tokens > 700:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return generate(*arguments, **options)

    monkeypatch.setattr(vllm_engine.engine, "generate", full)
    monkeypatch.setattr(vllm_engine, "close", lambda: None)
    monkeypatch.setattr(vllm_engine, "_open", lambda: opened.append(vllm_engine.step_tokens))
    monkeypatch.setattr(vllm_engine, "step_tokens", 2048)
    assert vllm_engine.logps(sequences) == pytest.approx(expected, abs=2e-4)
    assert opened == [1024, 512] and "goes on with 512 tokens a step" in capsys.readouterr().err
    monkeypatch.setattr(vllm_engine.engine, "generate", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(InputError, match="however small vLLM's steps"):
        vllm_engine.logps(sequences[:1])
