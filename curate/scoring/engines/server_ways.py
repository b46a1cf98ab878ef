"""The two ways of asking a vLLM server for log-probs of responses, and which of them a server has.

Its token-in, token-out endpoint, with vLLM's second model runner, scores given ids at given rows: one number a response
token comes back, in base64. Else the completions' endpoint gives log-probs of whole prompts, as JSON.
"""

from __future__ import annotations

import asyncio
import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from curate.base.endpoint import Fault, message, shown
from curate.base.errors import InputError
from curate.models.rendering import TokenSequence
from curate.pairs.artefact import HIGHEST_LOGP
from curate.scoring.engines.server_answers import Server, refused

if TYPE_CHECKING:
    import httpx

CLAMPED = -9999.0  # what vLLM writes for a log-probability of minus infinity
GENERATE = "/inference/v1/generate"
TOO_LARGE = (400, 413, 422)  # statuses of a refusal that may be of a request's size


class Way(Protocol):
    """One way."""

    told: str  # of what it gives log-probs, and why no better

    async def logps(
        self, client: httpx.AsyncClient, server: Server, sequences: Sequence[TokenSequence], timeout: float
    ) -> list[float]:
        """log p(response | prompt) of each sequence, nats.

        Raises:
            Fault: a failure that may pass.
            InputError: a refusal, or an answer without log-probs, with those of other tokens, or no finite number.
        """
        ...


def way_of(asking: httpx.Client, server: Server) -> Way:
    """The best way that the server has: what it says of itself is tried on two tokens."""
    import httpx

    try:
        pages = server.get(asking, "/openapi.json")
        if pages.status_code != 200 or GENERATE not in pages.json()["paths"]:
            return WholePrompts("no token-in, token-out endpoint, which vLLM has with --enable-scale-out")
        two = TokenSequence(np.array([1], dtype=np.int32), np.array([2], dtype=np.int32))
        answer = asking.post(server.root + GENERATE, json=ResponseRows.request(server.model, two, cached=False))
        if answer.status_code == 200 and ResponseRows.scores(answer.json()) is not None:
            return ResponseRows()
        return WholePrompts(message(answer) if answer.status_code != 200 else "it gives no scores of ids")
    except (Fault, httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        return WholePrompts(f"it does not say what else it can ({type(error).__name__})")


class ResponseRows:
    """Ids of the response, one a row, from the row that predicts its first token on; a request a sequence."""

    told = "of responses alone"

    async def logps(
        self, client: httpx.AsyncClient, server: Server, sequences: Sequence[TokenSequence], timeout: float
    ) -> list[float]:
        return list(await asyncio.gather(*(self._logp(client, server, one, timeout) for one in sequences)))

    async def _logp(self, client: httpx.AsyncClient, server: Server, sequence: TokenSequence, timeout: float) -> float:
        """What the server has in its prefix cache has no scores: asked again without, should it reach so far."""
        for cached in (True, False):
            body = self.request(server.model, sequence, cached)
            response = await server.post(client, GENERATE, body, timeout)
            if response.status_code != 200:
                raise refused(server, response)
            try:
                scores = self.scores(response.json())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _no_scores(server, type(error).__name__) from None
            if scores is not None:
                break
        else:
            raise _no_scores(server, "none")
        if scores.shape != (len(sequence.response_ids), 1):
            raise _no_scores(server, f"of shape {list(scores.shape)}")
        return _summed(server, [float(score) for score in scores[:, 0]])

    @staticmethod
    def request(model: str, sequence: TokenSequence, cached: bool) -> dict[str, Any]:
        """The body of a request; `cached`: what the prefix cache holds need not be computed."""
        return {
            "model": model,
            "token_ids": np.concatenate(sequence).tolist(),
            "sampling_params": {
                "max_tokens": 1,  # the least that vLLM takes; thrown away
                "temperature": 0.0,
                "top_p": 1.0,
                "detokenize": False,
                "prompt_logprob_token_ids": [[token] for token in sequence.response_ids.tolist()],
                "prompt_logprob_start": len(sequence.prompt_ids) - 1,
                "skip_reading_prefix_cache": not cached,
            },
        }

    @staticmethod
    def scores(body: dict[str, Any]) -> np.ndarray | None:
        """float32 [response tokens, 1] of an answer, or none. Raises as base64 and `np.load` do."""
        text = body["prompt_token_id_logprobs"]
        return None if text is None else np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)


def _no_scores(server: Server, found: str) -> InputError:
    return InputError(
        "the server returns no scores of the tokens that it was given",
        field=str(server),
        found=found,
        expected="prompt_token_id_logprobs, a row a response token",
        remedy="serve the model with vLLM, with nothing in front that changes requests or answers",
    )


class WholePrompts:
    """Log-probs of every token of the prompts; several sequences share a request."""

    def __init__(self, why: str) -> None:
        self.told = f"of whole prompts: {why}"

    async def logps(
        self, client: httpx.AsyncClient, server: Server, sequences: Sequence[TokenSequence], timeout: float
    ) -> list[float]:
        """A refused request is cut, and one whose answer comes in part: it may be too large for the server's memory or
        what stands in front of it, or one sequence of it be at fault."""
        try:
            response = await server.post(client, "/v1/completions", request(server.model, sequences), timeout)
            if len(sequences) == 1 or not (response.status_code in TOO_LARGE or _in_part(response)):
                return logps_of(server, response, sequences)
        except Fault as fault:
            if "out of memory" not in str(fault).lower() or len(sequences) == 1:
                raise
        half = len(sequences) // 2
        first = await self.logps(client, server, sequences[:half], timeout)
        return first + await self.logps(client, server, sequences[half:], timeout)


def _in_part(response: httpx.Response) -> bool:
    """Whether an answer is no JSON, as one that was cut short is not."""
    try:
        response.json()
    except ValueError:
        return bool(response.status_code == 200)
    return False


def request(model: str, sequences: Sequence[TokenSequence]) -> dict[str, Any]:
    """The body of a request for the log-probs of `sequences`."""
    return {
        "model": model,
        "prompt": [np.concatenate(sequence).tolist() for sequence in sequences],
        "max_tokens": 1,  # the least that vLLM takes; thrown away
        "temperature": 0,
        "prompt_logprobs": 0,  # the prompt's own tokens, no alternatives
    }


def logps_of(server: Server, response: httpx.Response, sequences: Sequence[TokenSequence]) -> list[float]:
    """log p(response | prompt) of each sequence, nats, from the server's answer to `request`.

    Raises:
        InputError: a refusal, no completion of each prompt, no log-probs, those of other tokens, or no finite number.
    """
    if response.status_code != 200:
        raise refused(server, response)
    try:
        choices = {choice["index"]: choice for choice in response.json()["choices"]}
        answers = [choices[i].get("prompt_logprobs") for i in range(len(sequences))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the server's answer is no completion of each prompt",
            field=str(server),
            found=f"{type(error).__name__}: {shown(str(error))}",
            remedy="check that the address is that of a vLLM server, and that nothing in front cuts answers short",
        ) from None
    return [_response_sum(server, answer, s) for answer, s in zip(answers, sequences, strict=True)]


def _response_sum(server: Server, answer: Any, sequence: TokenSequence) -> float:
    """Sum of the response tokens' log-probs, in float64; `answer` holds {token id: {logprob: nats}} a position.

    Raises:
        InputError: there is none, it speaks of other tokens, or a number in it is no log-probability.
    """
    if not isinstance(answer, list):
        raise InputError(
            "the server returns no prompt log-probs",
            field=str(server),
            expected="choices[].prompt_logprobs in the answer of /v1/completions",
            remedy="serve the model with vLLM; what stands in front of it must pass prompt_logprobs both ways",
        )
    ids = [str(token) for token in np.concatenate(sequence).tolist()]
    # The first token follows nothing and has no log-probability.
    if len(answer) != len(ids) or any(token not in (at or ()) for token, at in zip(ids[1:], answer[1:], strict=True)):
        raise InputError(
            "the server returns log-probs of other tokens than it was given",
            field=str(server),
            found=f"{len(answer)} positions",
            expected=f"the {len(ids)} tokens of the request",
            remedy="serve the model with vLLM, with nothing in front that changes the prompt",
        )
    start = len(sequence.prompt_ids)
    entries = [at[token] for token, at in zip(ids[start:], answer[start:], strict=True)]
    return _summed(server, [entry.get("logprob") if isinstance(entry, dict) else entry for entry in entries])


def _summed(server: Server, logps: Sequence[Any]) -> float:
    """Of a response's tokens, in float64. Raises `InputError` where one is no log-probability."""
    for position, logp in enumerate(logps):
        check_logp(server, logp, position, len(logps))
    return float(np.sum(np.array(logps, dtype=np.float64)))


def check_logp(server: Server, logp: Any, position: int, tokens: int) -> None:
    """Raise `InputError` where the number of a response token, at `position` of `tokens`, is no log-probability."""
    if isinstance(logp, int | float) and CLAMPED < logp <= HIGHEST_LOGP:
        return
    positive = isinstance(logp, int | float) and math.isfinite(logp) and logp > 0
    raise InputError(
        "the server gives a number that is no log-probability"
        if positive
        else "the model gives a log-probability that is no finite number",
        field=f"{server}, response token {position + 1} of {tokens}",
        found="minus infinity" if logp == CLAMPED else logp if logp is not None else "null",
        remedy="start the server with --logprobs-mode raw_logprobs"
        if positive
        else "serve the model in float32 or bfloat16, and check its weights",
    )
