"""vLLM beside transformers, on the embedded model."""

from concurrent.futures import Future

import pytest

from curate.base.errors import InputError
from curate.evaluation.generation.base import Ask, Sampling
from curate.evaluation.generation.local import LocalChat
from curate.evaluation.items import Response
from curate.models.resolve import resolve


@pytest.mark.vllm
@pytest.mark.slow
def test_greedy_answers_are_those_of_transformers(reference_model, sample_pairs, tmp_path, monkeypatch, capfd):
    """But where two tokens are as good as tied. Drawn ones differ, for the engines draw in their own ways; each is
    the same in any order on a CPU."""
    pytest.importorskip("vllm")
    monkeypatch.setenv("CURATE_STATE", str(tmp_path / "state"))
    prompts, rejected = (sample_pairs.head(60)[column].to_list() for column in ("prompt", "rejected"))
    asks = [Ask(p, r[0]["content"], 6 * (row % 2)) for row, (p, r) in enumerate(zip(prompts, rejected, strict=True))]
    long = [{"role": "user", "content": "bread " * 600}]  # no room
    # More tokens of prompts than a step holds: one of them would end within a prompt.
    asks += [Ask([{"role": "user", "content": f"bread {n} " * 60}]) for n in range(24)]
    asks += [Ask(long), Ask([{"role": "user", "content": "bread " * 100}])]
    runs = [Sampling(40), Sampling(40, 1.0, 0.9, 7)]
    model = resolve(reference_model)

    here = LocalChat(model, "float32", "transformers", tmp_path)
    ours = here.chat(asks, runs[0])
    there = LocalChat(model, "float32", "vllm", tmp_path)
    vllms, drawn = (there.chat(asks, run) for run in runs)
    backwards = LocalChat(model, "float32", "vllm", tmp_path / "backwards")
    backwards._opened = there._opened  # its start takes seconds
    for forwards, run in ((vllms, runs[0]), (drawn, runs[1])):
        assert backwards.chat(asks[::-1], run) == forwards[::-1]
    assert ours[-2] == vllms[-2] == Response(None, "too_long", 0, "")
    assert {answer.finish for answer in vllms[:-2]} >= {"stop"} and len({answer.text for answer in vllms}) > 10
    assert [answer.prefill for answer in ours] == [answer.prefill for answer in vllms]
    assert all(bool(answer.prefill) == row % 2 for row, answer in enumerate(ours[:60]))
    same = [mine == theirs for mine, theirs in zip(ours, vllms, strict=True)]
    assert sum(same) >= 0.95 * len(same), f"{sum(same)} of {len(same)}"

    step = Future()
    step.set_exception(RuntimeError("broken on purpose"))
    core = there._opened.engine.llm_engine.engine_core.engine_core
    core.model_executor.execute_model = lambda *_, **__: step
    with pytest.raises(InputError) as caught:
        there.chat([Ask(prompts[0], sample=9)], Sampling(5, 1.0))
    there.close()
    assert caught.value.details["found"] == "broken on purpose"
    log = tmp_path / "state/logs/vllm.log"
    assert str(log) in caught.value.details["remedy"] and "Dumping" in log.read_text()
    printed = capfd.readouterr()
    assert "dump" not in (printed.out + printed.err).lower() and "ERROR" not in printed.out + printed.err
