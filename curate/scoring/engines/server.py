"""The server engine: prompt log-probs from vLLM servers, token ids in the request and no text.

One queue feeds every server, so that each takes what it can; `curate.base.client` tries again what fails in passing,
and a server that only fails is dropped, and what it held is done by the rest.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from curate.base.client import Client
from curate.base.endpoint import CONNECT_SECONDS, Endpoint, client
from curate.base.errors import InputError
from curate.base.progress import say
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model
from curate.scoring.engines.server_answers import Server, served_name_of, servers_of
from curate.scoring.engines.server_ways import Way, way_of

if TYPE_CHECKING:
    import httpx

PACK_TOKENS = 2048  # of one request, at most (or one sequence): short sequences share a request's cost
PACKS_A_SLOT = 4  # requests for each place in flight, at least: with fewer, servers end at different times


class _Pack:
    """Sequences of one request."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows
        self.done = False
        self.out: dict[Endpoint, float] = {}  # who works on it, since when


class _Scoring:
    """The work of one call of `logps` (`curate.base.client.Work`)."""

    name = "score"

    def __init__(
        self, sequences: Sequence[TokenSequence], slots: int, timeout: float, ways: dict[Endpoint, Way]
    ) -> None:
        self.sequences, self.timeout, self.ways = sequences, timeout, ways
        self.logps = np.full(len(sequences), np.nan)
        self.queue = deque(_packs(sequences, slots))
        self.packs = list(self.queue)
        self.left = len(self.packs)
        self.longest: dict[Endpoint, float] = {}  # answer of each server, seconds

    def take(self, endpoint: Endpoint, now: float) -> _Pack | None:
        """The next pack; when none is queued, one that another server holds much longer than this one would."""
        pack = self.queue.popleft() if self.queue else None
        if pack is None:
            since = now - (1.0 + 2.0 * self.longest.get(endpoint, math.inf))
            held = (p for p in self.packs if not p.done and len(p.out) == 1 and endpoint not in p.out)
            pack = next((each for each in held if min(each.out.values()) < since), None)
        if pack is not None:
            pack.out[endpoint] = now
        return pack

    def put_back(self, job: _Pack, endpoint: Endpoint) -> None:
        del job.out[endpoint]
        if not job.done and not job.out:
            self.queue.appendleft(job)

    async def ask(self, client: httpx.AsyncClient, endpoint: Server, job: _Pack) -> list[float]:
        sequences = [self.sequences[row] for row in job.rows]
        return await self.ways[endpoint].logps(client, endpoint, sequences, self.timeout)

    def keep(
        self, job: _Pack, endpoint: Endpoint, answer: list[float], seconds: float
    ) -> Iterable[tuple[Endpoint, float]]:
        del job.out[endpoint]
        self.longest[endpoint] = max(seconds, self.longest.get(endpoint, 0.0))
        if job.done:
            return []
        job.done = True
        self.logps[job.rows] = answer
        self.left -= 1
        return job.out.items()

    def none_left(self, endpoints: Sequence[Endpoint], tries: int) -> InputError:
        return InputError(
            "no scoring server is left",
            found="; ".join(f"{server.label}: {server.fault}" for server in endpoints),
            expected=f"an answer within {tries} tries",
            remedy="start a server and run the same command again: what the score store holds is kept",
        )

    def given_up(self, job: _Pack, endpoint: Endpoint, tries: int) -> InputError:
        return InputError(
            "a server answers other requests and fails on this one again and again",
            field=f"{endpoint}, sequences {job.rows[0] + 1} to {job.rows[-1] + 1} of the batch",
            found=endpoint.fault,
            expected=f"an answer within {tries} tries",
            remedy="see the server's log; what the score store holds is kept",
        )


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
        self.servers = servers_of(urls)
        self._client = Client(self.servers, concurrency=concurrency, retries=retries, timeout=timeout, backoff=backoff)
        with client(min(timeout, CONNECT_SECONDS)) as asking:
            for server in self.servers:
                server.model = served_name_of(asking, server, model, served_name)
            self.ways: dict[Endpoint, Way] = {server: way_of(asking, server) for server in self.servers}
        for told, number in Counter(way.told for way in self.ways.values()).items():
            say(f"score: {number} of {len(self.servers)} servers give log-probs {told}")

    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        """log p(response | prompt) of each, nats, summed over the response's tokens: float64, [sequences].

        Raises:
            InputError: no server is left; a request that is refused, or fails again and again; an answer without
                log-probs, with those of other tokens, or with one that is no finite number.
        """
        slots = self._client.concurrency * max(1, len(self._client.remaining()))
        work = _Scoring(sequences, slots, self._client.timeout, self.ways)
        self._client.run(work)
        return work.logps

    def close(self) -> None:
        self._client.close()


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
