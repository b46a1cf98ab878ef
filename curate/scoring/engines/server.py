"""The server engine: prompt log-probs from vLLM servers, token ids in the request and no text.

One queue feeds every server, so that each takes what it can. A request that fails in passing goes back to the
queue and its server rests for a while; a server that only fails is dropped, and what it held is done by the rest.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.base.endpoint import (
    CONNECT_SECONDS,
    TELL_SECONDS,
    Endpoint,
    Fault,
    async_client,
    client,
    outcome,
    refusal,
    shown,
    status,
)
from curate.base.errors import InputError, UsageError
from curate.base.progress import say
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model

if TYPE_CHECKING:
    import httpx

PACK_TOKENS = 2048  # of one request, at most (or one sequence): short sequences share a request's cost
PACKS_A_SLOT = 4  # requests for each place in flight, at least: with fewer, servers end at different times
CLAMPED = -9999.0  # what vLLM writes for a log-probability of minus infinity
START_TRIES = 3  # of the questions asked before scoring
LOOK_SECONDS = 0.1  # between two looks for work of a worker that has none


class _Server(Endpoint):
    """One server: what it calls the model, and how it has been doing."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.model = ""
        self.dropped = False
        self.longest = math.inf  # the longest answer of this call, seconds; infinite before the first


class _Pack:
    """Sequences of one request."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows
        self.done = False
        self.out: dict[_Server, float] = {}  # who works on it, since when (loop seconds)
        self.faults: Counter[_Server] = Counter()


class _Call:
    """The work of one call of `logps`."""

    def __init__(self, sequences: Sequence[TokenSequence], slots: int) -> None:
        self.sequences = sequences
        self.logps = np.full(len(sequences), np.nan)
        self.queue = deque(_packs(sequences, slots))
        self.packs = list(self.queue)
        self.left = len(self.packs)
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, server: _Server) -> _Pack | None:
        """The next pack; when none is queued, one that another server holds much longer than this one would."""
        if self.queue:
            return self.queue.popleft()
        since = asyncio.get_running_loop().time() - (1.0 + 2.0 * server.longest)
        held = (p for p in self.packs if not p.done and len(p.out) == 1 and server not in p.out)
        return next((pack for pack in held if min(pack.out.values()) < since), None)

    def fail(self, error: Exception) -> None:
        if not self.finished.done():
            self.finished.set_exception(error)

    def finish(self, pack: _Pack, logps: list[float]) -> None:
        pack.done = True
        self.logps[pack.rows] = logps
        self.left -= 1
        if not self.left and not self.finished.done():
            self.finished.set_result(None)


class ServerEngine:
    """Scores with one or more vLLM servers (`vllm serve`, any API in front that passes vLLM's fields through).

    The API does not tell a server's dtype or weights: that each serves `model` in the dtype that the scores are
    kept under is the caller's word.
    """

    def __init__(
        self,
        model: Model,
        urls: Sequence[str],
        *,
        served_name: str | None = None,
        concurrency: int = 16,
        retries: int = 6,
        timeout: float = 600.0,
        backoff: float = 1.0,
    ) -> None:
        """Ask each server what it serves.

        Args:
            urls: like http://host:8000/v1; `/v1` may be left out. The key is read from CURATE_SERVER_KEY, else
                OPENAI_API_KEY.
            served_name: the model's name there; None takes the only one, or the one with the model's name or path.
            concurrency: requests in flight at each server.
            retries: failures in a row, after the first, until a server is dropped, or a request given up.
            timeout: seconds for one answer.
            backoff: seconds of the first rest after a failure, about; each further one is twice as long.

        Raises:
            UsageError: no URL, or one that is none; a key with characters that no key has.
            InputError: a server that cannot be reached, refuses the key, does not serve the model, or serves
                it with a shorter context than `model.context`.
        """
        self.servers = _servers(urls)
        self.concurrency, self.retries, self.timeout, self.backoff = concurrency, retries, timeout, backoff
        with client(min(timeout, CONNECT_SECONDS)) as asking:
            for server in self.servers:
                server.model = _served(asking, server, model, served_name)
        # A thread of its own, so that `logps` also works where an event loop is running, as in a notebook.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="curate-server", daemon=True)
        self._thread.start()
        self._client = async_client(timeout)

    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        """log p(response | prompt) of each, nats, summed over the response's tokens: float64, [sequences].

        Raises:
            InputError: no server is left; a request that is refused, or fails again and again; an answer without
                log-probs, with those of other tokens, or with one that is no finite number.
        """
        if not len(sequences):
            return np.empty(0)
        return outcome(asyncio.run_coroutine_threadsafe(self._score(sequences), self._loop))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _score(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        servers = self._left()
        call = _Call(sequences, self.concurrency * len(servers))
        for server in servers:
            server.longest = math.inf
        # The first of every server, then the second of every server, ...: few requests are spread evenly too.
        workers = [asyncio.create_task(self._work(s, call)) for _ in range(self.concurrency) for s in servers]
        try:
            await call.finished
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return call.logps

    async def _work(self, server: _Server, call: _Call) -> None:
        """Ask `server` until the call is over or the server dropped."""
        loop = asyncio.get_running_loop()
        try:
            while not server.dropped and not call.finished.done():
                rest = server.resumes - loop.time()
                pack = call.take(server) if rest <= 0 else None
                if pack is None:
                    await asyncio.sleep(rest if rest > 0 else LOOK_SECONDS)
                    continue
                started = pack.out[server] = loop.time()
                try:
                    logps = await self._ask(server, [call.sequences[row] for row in pack.rows])
                except Fault as fault:
                    del pack.out[server]
                    if not pack.done and not pack.out:
                        call.queue.appendleft(pack)
                    self._strike(server, str(fault), started, fault.rest)
                    pack.faults[server] += not fault.busy
                    if pack.faults[server] > self.retries and not server.dropped:
                        raise _given_up(server, pack, self.retries) from None
                    continue
                del pack.out[server]
                server.strikes = 0
                took = loop.time() - started
                server.longest = took if math.isinf(server.longest) else max(took, server.longest)
                if not pack.done:
                    call.finish(pack, logps)
                    for other, since in pack.out.items():
                        self._strike(other, f"slower than another: none in {loop.time() - since:.1f} s", since)
        except Exception as error:
            call.fail(error)

    def _strike(self, server: _Server, reason: str, started: float, rest: float = 0.0) -> None:
        """Note a failure of a request sent at `started`, rest the server, and drop it when it has had its tries.

        Raises:
            InputError: it was the last.
        """
        now = self._loop.time()
        rest = min(rest, self.timeout)
        if not server.strike(reason, started=started, now=now, rest=rest, backoff=self.backoff) or server.dropped:
            return
        if server.strikes > self.retries:
            server.dropped = True
            left = len(self._left())
            say(f"score: {server} is dropped after {server.strikes} failures in a row ({reason}); {left} left")
        elif server.resumes - now > TELL_SECONDS:
            say(f"score: {server} is asked again in {server.resumes - now:.0f} s ({reason})")

    def _left(self) -> list[_Server]:
        left = [server for server in self.servers if not server.dropped]
        if not left:
            raise InputError(
                "no scoring server is left",
                found="; ".join(f"{server.label}: {server.fault}" for server in self.servers),
                expected=f"an answer within {self.retries + 1} tries",
                remedy="start a server and run the same command again: what the score store holds is kept",
            )
        return left

    async def _ask(self, server: _Server, sequences: Sequence[TokenSequence]) -> list[float]:
        """One request: the log-probability of each of its sequences, nats.

        Raises:
            Fault: a failure that may pass.
            InputError: one that will not.
        """
        body = {
            "model": server.model,
            "prompt": [np.concatenate(sequence).tolist() for sequence in sequences],
            "max_tokens": 1,  # the least that vLLM takes; thrown away
            "temperature": 0,
            "prompt_logprobs": 0,  # the prompt's own tokens, no alternatives
        }
        response = await server.post(self._client, "/v1/completions", body, self.timeout)
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
        for server in _servers(urls):
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


def _servers(urls: Sequence[str]) -> list[_Server]:
    """Each server once, in the order given."""
    servers = {server.root: server for server in map(_Server, urls)}
    if not servers:
        raise UsageError("no server is given", expected="one address or more, like http://host:8000/v1")
    return list(servers.values())


def _packs(sequences: Sequence[TokenSequence], slots: int) -> list[_Pack]:
    """The sequences, in their order, as requests for `slots` places in flight."""
    budget = min(PACK_TOKENS, sum(s.length for s in sequences) // (PACKS_A_SLOT * slots))
    packs: list[_Pack] = []
    tokens = math.inf
    for row, sequence in enumerate(sequences):
        if tokens + sequence.length > budget:
            packs.append(_Pack([]))
            tokens = 0
        packs[-1].rows.append(row)
        tokens += sequence.length
    return packs


def _response_sum(server: _Server, answer: Any, sequence: TokenSequence) -> float:
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


def _given_up(server: _Server, pack: _Pack, retries: int) -> InputError:
    return InputError(
        "a server answers other requests and fails on this one again and again",
        field=f"{server}, sequences {pack.rows[0] + 1} to {pack.rows[-1] + 1} of the batch",
        found=server.fault,
        expected=f"an answer within {retries + 1} tries",
        remedy="see the server's log; what the score store holds is kept",
    )


def _get(asking: httpx.Client, server: _Server, path: str) -> httpx.Response:
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


def _cards(asking: httpx.Client, server: _Server) -> list[dict[str, Any]]:
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


def _served(asking: httpx.Client, server: _Server, model: Model, wanted: str | None) -> str:
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


def _refusal(server: _Server, response: httpx.Response) -> InputError:
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
