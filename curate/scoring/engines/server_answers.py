"""What vLLM servers are asked, and what their answers mean: their version, the models they serve, prompt log-probs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.base.endpoint import CONNECT_SECONDS, Endpoint, Fault, client, refusal, shown, status
from curate.base.errors import InputError, UsageError
from curate.base.progress import say
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model

if TYPE_CHECKING:
    import httpx

CLAMPED = -9999.0  # what vLLM writes for a log-probability of minus infinity
START_TRIES = 3  # of the questions asked before scoring


class Server(Endpoint):
    """One server, and what it calls the model."""

    model = ""


def server_version(urls: Sequence[str], *, timeout: float = CONNECT_SECONDS) -> str:
    """What the servers run, as the score store's key and provenance have it: "vllm 0.32.0 (server)".

    "openai-compatible server" when they do not tell. No URL is in it.

    Args:
        timeout: seconds for one answer.

    Raises:
        UsageError: no URL, or one that is none.
        InputError: a server that cannot be reached or refuses the key, or servers that differ.
    """
    versions = {}
    with client(timeout) as asking:
        for server in servers_of(urls):
            versions[server.label] = "openai-compatible server"
            response = _get(asking, server, "/version")
            if response.status_code == 200:
                try:
                    versions[server.label] = f"vllm {response.json()['version']} (server)"
                    continue
                except (ValueError, KeyError, TypeError):
                    pass  # a gateway's own page
            _cards(asking, server)  # it must at least be a server of models
    if len(set(versions.values())) > 1:
        raise InputError(
            "the servers run different versions, whose numbers may differ",
            found="; ".join(f"{label}: {version}" for label, version in versions.items()),
            expected="one version",
            remedy="score with servers of one version",
        )
    return next(iter(versions.values()))


def servers_of(urls: Sequence[str]) -> list[Server]:
    """Each server once, in the order given."""
    servers = {server.root: server for server in map(Server, urls)}
    if not servers:
        raise UsageError("no server is given", expected="one address or more, like http://host:8000/v1")
    return list(servers.values())


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
        raise _refusal(server, response)
    try:
        choices = {choice["index"]: choice for choice in response.json()["choices"]}
        answers = [choices[i].get("prompt_logprobs") for i in range(len(sequences))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the server's answer is no completion of each prompt",
            field=str(server),
            found=f"{type(error).__name__}: {shown(str(error))}",
            remedy="check that the address is that of a vLLM server",
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
    logps = [entry.get("logprob") if isinstance(entry, dict) else entry for entry in entries]
    for position, logp in enumerate(logps):
        if not isinstance(logp, int | float) or not CLAMPED < logp <= 1e-3:
            positive = isinstance(logp, int | float) and math.isfinite(logp) and logp > 0
            raise InputError(
                "the server gives a number that is no log-probability"
                if positive
                else "the model gives a log-probability that is no finite number",
                field=f"{server}, response token {position + 1} of {len(logps)}",
                found="minus infinity" if logp == CLAMPED else logp if logp is not None else "null",
                remedy="start the server with --logprobs-mode raw_logprobs"
                if positive
                else "serve the model in float32 or bfloat16, and check its weights",
            )
    return float(np.sum(np.array(logps, dtype=np.float64)))


def _get(asking: httpx.Client, server: Server, path: str) -> httpx.Response:
    """The server's answer, whatever its status.

    Raises:
        InputError: there is none, or one that may pass and did not within START_TRIES.
    """
    for attempt in range(START_TRIES):
        if attempt:
            time.sleep(0.5 * attempt)
        try:
            return server.get(asking, path)
        except Fault as passing:
            fault = str(passing)
    raise InputError(
        "the scoring server cannot be reached",
        field=str(server),
        found=fault,
        remedy="check the address; a server that is still loading its model answers when it is ready",
    )


def _cards(asking: httpx.Client, server: Server) -> list[dict[str, Any]]:
    """What the server serves.

    Raises:
        InputError: it cannot be reached, refuses, or is no server of models.
    """
    response = _get(asking, server, "/v1/models")
    if response.status_code != 200:
        raise _refusal(server, response)
    try:
        return [{"id": str(card["id"]), **card} for card in response.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            "this is no OpenAI-compatible server",
            field=str(server),
            found=f"an answer of {len(response.content)} bytes from /v1/models ({type(error).__name__})",
            expected="a list of models",
            remedy="check the address",
        ) from None


def served_name_of(asking: httpx.Client, server: Server, model: Model, wanted: str | None) -> str:
    """What the server calls the model.

    Raises:
        InputError: it does not serve it, or with too short a context.
    """
    cards = _cards(asking, server)
    own = {model.name, str(model.path), str(model.path.resolve())}
    if wanted is not None:
        matches = [card for card in cards if card["id"] == wanted]
    else:
        matches = [card for card in cards if own & {card["id"], card.get("root")}]
        if not matches and len(cards) == 1:
            matches = cards
            say(f"score: {server} serves {cards[0]['id']!r}, which is taken to be {model.name}")
    if not matches:
        raise InputError(
            "the server does not serve this model",
            field=str(server),
            found=", ".join(card["id"] for card in cards) or "no model",
            expected=wanted or model.name,
            remedy="give one of the served names, or start the server with this model",
        )
    longest = matches[0].get("max_model_len")
    if isinstance(longest, int) and longest < model.context:
        raise InputError(
            "the server's context is shorter than the sequences may be",
            field=f"{server}, max_model_len",
            found=f"{longest} tokens",
            expected=f"at least {model.context} tokens",
            remedy=f"start it with --max-model-len {model.context}, or set score.max_length to {longest} or less",
        )
    return str(matches[0]["id"])


def _refusal(server: Server, response: httpx.Response) -> InputError:
    """The error for an answer that another try would not change."""
    found = status(response)
    if "JSON compliant" in found:  # vLLM, when it would have to write NaN
        return InputError(
            "the model gives a log-probability that is no finite number",
            field=str(server),
            found=found,
            remedy="serve the model in float32 or bfloat16, and check its weights",
        )
    return refusal(server, response, "check that the server serves this very model, with its whole context")
