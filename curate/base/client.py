"""The client under scoring's servers and evaluation's endpoints: many requests out at once, and what fails tried again.

A request that fails in passing goes back to its queue and its endpoint rests, as long as it asks for (Retry-After) or
longer from time to time. Libraries retry each request by itself: of a server that is busy, or down, every request in
flight would count, and go on asking. Here an outage is one failure, however many requests it hit.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from curate.base.endpoint import TELL_SECONDS, Endpoint, Fault, async_client, outcome
from curate.base.errors import InputError
from curate.base.progress import say

if TYPE_CHECKING:
    import httpx

LOOK_SECONDS = 0.1  # between two looks for work of a worker that has none
END_SECONDS = 5.0  # for connections to close, at the end


class Work(Protocol):
    """What one call asks; all of it is called on the client's own thread. A job is what one request is about."""

    name: str  # of the work, for people: "score"

    @property
    def left(self) -> int:
        """Jobs without an answer."""
        ...

    def take(self, endpoint: Endpoint, now: float) -> Hashable | None:
        """A job for the endpoint, from now on; None where there is none at the moment."""
        ...

    def put_back(self, job: Any, endpoint: Endpoint) -> None:
        """The endpoint failed on the job, which is to be taken again."""
        ...

    async def ask(self, client: httpx.AsyncClient, endpoint: Any, job: Any) -> Any:
        """The endpoint's answer. Raises `Fault` for a failure that may pass, any other error for one that will not."""
        ...

    def keep(self, job: Any, endpoint: Endpoint, answer: Any, seconds: float) -> Iterable[tuple[Endpoint, float]]:
        """Keep an answer that took so long. Returns who else is still at the job, and since when: each was slower."""
        ...

    def none_left(self, endpoints: Sequence[Endpoint], tries: int) -> InputError:
        """The error where every endpoint is dropped."""
        ...

    def given_up(self, job: Any, endpoint: Endpoint, tries: int) -> InputError:
        """The error where an endpoint answers other jobs and never this one."""
        ...


class Client:
    """Asks one or more endpoints, each with several requests in flight, on a thread of its own: so it also works where
    an event loop is running, as in a notebook.

    Args:
        concurrency: requests in flight at each endpoint.
        retries: failures in a row, after the first, until an endpoint is dropped, or a job given up.
        timeout: seconds for one answer.
        backoff: seconds of the first rest after a failure, about; each further one is twice as long.
        grace: seconds for answers on their way when something has failed for good.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        concurrency: int,
        retries: int,
        timeout: float,
        backoff: float,
        grace: float = 0.0,
    ) -> None:
        self.endpoints, self.concurrency, self.retries = list(endpoints), concurrency, retries
        self.timeout, self.backoff, self.grace = timeout, backoff, grace
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Work) -> None:
        """Ask until nothing is left.

        Raises:
            InputError: no endpoint is left, a job is given up, or what `ask` raises. What was kept before is kept.
        """
        if work.left:
            outcome(asyncio.run_coroutine_threadsafe(_Run(self, work).all(), self._opened()))

    def remaining(self) -> list[Endpoint]:
        """Those that are not dropped."""
        return [endpoint for endpoint in self.endpoints if not endpoint.dropped]

    def close(self) -> None:
        """End the thread; a further `run` starts another."""
        if self._loop is not None:
            # An interrupted call still closes its connections.
            asyncio.run_coroutine_threadsafe(_others_end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = None

    def _opened(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="curate-client", daemon=True)
            self._thread.start()
        return self._loop


class _Run:
    """One call of `Client.run`."""

    def __init__(self, client: Client, work: Work) -> None:
        self.client, self.work = client, work
        self.over = asyncio.Event()  # nothing more is asked: all is done, or something has failed for good
        self.error: Exception | None = None
        self._faults: Counter[tuple[Endpoint, Hashable]] = Counter()
        self._answered: dict[tuple[Endpoint, Hashable], int] = {}  # what the endpoint had answered when it failed last

    async def all(self) -> None:
        endpoints = self.client.remaining()
        if not endpoints:
            raise self._none_left()
        async with async_client(self.client.timeout) as http:
            # The first of every endpoint, then the second of every one: few requests are spread evenly too.
            workers = [
                asyncio.create_task(self._ask(http, endpoint))
                for _ in range(self.client.concurrency)
                for endpoint in endpoints
            ]
            try:
                await self.over.wait()
                if self.error is not None and self.client.grace:
                    await asyncio.wait(workers, timeout=self.client.grace)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if self.error is not None:
            raise self.error

    async def _ask(self, http: httpx.AsyncClient, endpoint: Endpoint) -> None:
        """Ask the endpoint until it is over or the endpoint dropped."""
        loop = asyncio.get_running_loop()
        try:
            while not self.over.is_set() and not endpoint.dropped:
                started = loop.time()
                rest = endpoint.resumes - started
                job = self.work.take(endpoint, started) if rest <= 0 else None
                if job is None:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.over.wait(), rest if rest > 0 else LOOK_SECONDS)
                    continue
                try:
                    answer = await self.work.ask(http, endpoint, job)
                except Fault as fault:
                    self.work.put_back(job, endpoint)
                    self._failed(endpoint, job, fault, started)
                    continue
                endpoint.strikes = 0
                endpoint.answered += 1
                now = loop.time()
                for other, since in self.work.keep(job, endpoint, answer, now - started):
                    self._strike(other, f"slower than another: none in {now - since:.1f} s", since)
                if not self.work.left:
                    self.over.set()
        except Exception as error:
            self.error = self.error or error
            self.over.set()

    def _failed(self, endpoint: Endpoint, job: Hashable, fault: Fault, started: float) -> None:
        """Note the failure. It is the job's own where the endpoint has answered others since, and had room for it.

        Raises:
            InputError: the job, or the last endpoint, has had its tries.
        """
        self._strike(endpoint, str(fault), started, fault.rest)
        each = (endpoint, job)
        if not fault.busy and endpoint.answered > self._answered.get(each, -1):
            self._faults[each] += 1
            self._answered[each] = endpoint.answered
        if self._faults[each] > self.client.retries and not endpoint.dropped:
            raise self.work.given_up(job, endpoint, self.client.retries + 1)

    def _strike(self, endpoint: Endpoint, reason: str, started: float, rest: float = 0.0) -> None:
        """Let the endpoint rest after a failure of a request sent at `started`, and drop it when it has had its tries.

        Raises:
            InputError: it was the last.
        """
        now, rest = asyncio.get_running_loop().time(), min(rest, self.client.timeout)
        new = endpoint.strike(reason, started=started, now=now, rest=rest, backoff=self.client.backoff)
        if not new or endpoint.dropped:
            return
        if endpoint.strikes > self.client.retries:
            endpoint.dropped = True
            left = len(self.client.remaining())
            if not left:
                raise self._none_left()
            tried = f"{endpoint.strikes} failures in a row"
            say(f"{self.work.name}: {endpoint} is dropped after {tried} ({reason}); {left} left")
        elif endpoint.resumes - now > TELL_SECONDS:
            say(f"{self.work.name}: {endpoint} is asked again in {endpoint.resumes - now:.0f} s ({reason})")

    def _none_left(self) -> InputError:
        return self.work.none_left(self.client.endpoints, self.client.retries + 1)


async def _others_end() -> None:
    """Wait for what else goes on in this event loop, a little."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=END_SECONDS)
