"""vLLM on a CPU, made to do only what scoring needs, where its insides are as we know them.

Its model runner computes log-softmax and ranks over the whole vocabulary for every token of a prompt. Put in the place
of that: our LM head in tiles (`curate.scoring.packing.head`), on the rows that predict a response; in this process
alone, and only where it gives vLLM's own numbers, which is tried once the model is loaded.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from curate.scoring.packing.head import Head

FIRST_ROW = "curate_first_row"
"""In a request's extra arguments: the row that predicts the response's first token."""

PROBE_ROWS = 8
AGREES = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}
"""Nats between our head's log-probs and vLLM's, at most, by the model's dtype."""


def score_responses_alone(engine: Any) -> str | None:
    """Have a `vllm.LLM` of this process compute prompt log-probs of the rows from FIRST_ROW on.

    Returns:
        Why not, in a few words, where it is left as it was.
    """
    try:
        (lacks,) = engine.collective_rpc(_take_the_place)
    except Exception as error:  # of whatever kind: vLLM's own way is there
        return f"this version's insides are others ({type(error).__name__})"
    return lacks  # type: ignore[no-any-return]


def _take_the_place(worker: Any) -> str | None:
    runner = worker.model_runner
    for name in ("_get_prompt_logprobs_dict", "num_prompt_logprobs", "requests", "input_batch", "query_start_loc"):
        if not hasattr(runner, name):
            return f"this version's model runner has no {name}"
    head = _head_of(runner.model)
    if isinstance(head, str):
        return head
    runner._get_prompt_logprobs_dict = _Rows(runner, head)
    return None


def _head_of(model: Any) -> Head | str:
    """Our LM head of a model of vLLM's; or why it has none."""
    linear, processor = getattr(model, "lm_head", None), getattr(model, "logits_processor", None)
    if linear is None or processor is None or processor.scale != 1.0:
        return "this model's LM head is of another kind"
    weight = linear.weight[: processor.org_vocab_size].detach()
    head = Head(cast(nn.Linear, SimpleNamespace(weight=weight, bias=None)), processor.soft_cap)
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(PROBE_ROWS, weight.shape[1], generator=draw).to(weight.dtype)
    ids = torch.randint(len(weight), (PROBE_ROWS,), generator=draw)
    with torch.inference_mode():
        theirs = model.compute_logits(states).double().log_softmax(-1).gather(1, ids[:, None])[:, 0]
        apart = float((head.logps(states, ids).double() - theirs).abs().max())
    return head if apart <= AGREES[weight.dtype] else f"our LM head gives other numbers, by {apart:.1e} nats"


class _Row(NamedTuple):
    """What a step has of a request."""

    states: slice  # of the step's hidden states
    targets: torch.Tensor  # int64: what they predict
    begins: bool
    ends: bool


class _Rows:
    """In the place of the runner's `_get_prompt_logprobs_dict`: the same for the rows of responses."""

    def __init__(self, runner: Any, head: Head) -> None:
        self.runner, self.head = runner, head
        self.begun: dict[str, list[torch.Tensor]] = {}  # log-probs so far, of requests whose prompt takes several steps

    @torch.inference_mode()
    def __call__(self, hidden_states: torch.Tensor, num_scheduled_tokens: dict[str, int]) -> dict[str, Any]:
        asked = [name for name in self.runner.num_prompt_logprobs if name in num_scheduled_tokens]
        rows = {name: self._rows(name, num_scheduled_tokens[name]) for name in asked}
        states = [hidden_states[row.states] for row in rows.values()]
        targets = [row.targets for row in rows.values()]
        done: dict[str, Any] = {}
        if not asked:
            return done
        logps = self.head.logps(torch.cat(states), torch.cat(targets)).split([len(ids) for ids in targets])
        for (name, row), new in zip(rows.items(), logps, strict=True):
            if row.begins:
                self.begun[name] = []
            self.begun[name].append(new)
            if row.ends:
                done[name] = self._answer(name)
        return done

    def _rows(self, name: str, tokens: int) -> _Row:
        """What this step has of the request's rows."""
        request = self.runner.requests[name]
        prompt, first = request.prompt_token_ids, request.sampling_params.extra_args[FIRST_ROW]
        at = request.num_computed_tokens
        start, end = max(at, first), min(at + tokens, len(prompt) - 1)
        end = max(start, end)
        offset = int(self.runner.query_start_loc.np[self.runner.input_batch.req_id_to_index[name]]) - at
        return _Row(
            slice(offset + start, offset + end),
            torch.tensor(prompt[start + 1 : end + 1], dtype=torch.int64),
            begins=at <= first or name not in self.begun,
            ends=at + tokens >= len(prompt),
        )

    def _answer(self, name: str) -> Any:
        """vLLM's own form of it, of the response's rows."""
        from vllm.v1.outputs import LogprobsTensors

        del self.runner.num_prompt_logprobs[name]
        logps = torch.cat(self.begun.pop(name))
        ids = self.runner.requests[name].prompt_token_ids[-len(logps) :] if len(logps) else []
        no_ranks = torch.zeros(len(logps), dtype=torch.int32)
        return LogprobsTensors(torch.tensor(ids, dtype=torch.int32)[:, None], logps[:, None], no_ranks)
