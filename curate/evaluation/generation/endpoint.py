"""Answers from an OpenAI-compatible endpoint: conversations in, text out, each answer kept as soon as it is there.

An answer is kept under what was asked (the model's served name, the messages, how it is drawn) and not under the
address: an evaluation that was interrupted goes on wherever the same model is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.base.endpoint import TELL_SECONDS, Endpoint, Fault, async_client, message, outcome, refusal
from curate.base.errors import InputError, UsageError
from curate.base.progress import Advance, progress, say
from curate.evaluation.generation.base import Ask, Sampling
from curate.evaluation.generation.cache import TextCache, key
from curate.evaluation.items import Response
from curate.pairs.identity import digest

if TYPE_CHECKING:
    import httpx

FORMAT = "chat 1"  # of the cache's keys and texts
GRACE_SECONDS = 30.0  # for answers on their way when one request has failed for good
END_SECONDS = 5.0  # for connections to close, at the end
NO_TEXT = {"content_filter", "refusal"}  # finish reasons of an answer that the endpoint holds back

Body = dict[str, Any]


class EndpointChat:
    """A model behind `/v1/chat/completions`: a hosted one, `vllm serve`, or whatever speaks its language.

    The key is read from CURATE_SERVER_KEY, else OPENAI_API_KEY. What the endpoint runs under that name is its word.
    """

    def __init__(
        self,
        url: str,
        model_name: str,
        state: Path,
        *,
        concurrency: int = 16,
        retries: int = 6,
        timeout: float = 600.0,
        backoff: float = 1.0,
    ) -> None:
        """Nothing is asked yet: what the cache holds needs no endpoint.

        Args:
            url: like http://host:8000/v1; `/v1` may be left out.
            model_name: what the endpoint calls the model.
            state: folder of caches; this model's lies in it.
            concurrency: requests in flight.
            retries: failures in a row, after the first, until the endpoint, or a request, is given up.
            timeout: seconds for one answer.
            backoff: seconds of the first rest after a failure, about; each further one is twice as long.

        Raises:
            UsageError: `url` is no address.
        """
        self.endpoint, self.model_name = Endpoint(url), model_name
        self.concurrency, self.retries, self.timeout, self.backoff = concurrency, retries, timeout, backoff
        self._cache = TextCache(state / "endpoint" / digest(model_name))
        self._loop: asyncio.AbstractEventLoop | None = None

    def record(self) -> dict[str, Any]:
        return {"name": self.model_name, "through": "an OpenAI-compatible endpoint"}

    def chat(self, asks: Sequence[Ask], sampling: Sampling, what: str = "generate") -> list[Response]:
        """An answer to each; see `ChatModel`. At temperature 0 equal conversations are asked once, whatever their
        number. An answer without text, or one that the endpoint held back, is `Response(None, "error")`.

        Raises:
            UsageError: an ask with a prefill, which this API has no place for; or a key that no header can hold.
            InputError: the endpoint wants another key, refuses a request, answers what is no answer, or has failed
                `retries` times on end. What had been answered is kept.
        """
        if any(ask.prefill and ask.prefill_tokens for ask in asks):
            raise UsageError(
                "an endpoint cannot be made to begin its answer with given words",
                field=str(self.endpoint),
                remedy="evaluate a model on this machine for prefilling attacks",
            )
        bodies = [self._body(ask, sampling) for ask in asks]
        keys = [key(FORMAT, body) for body in bodies]
        wanted = dict(zip(keys, bodies, strict=True))
        texts = zip(wanted, self._cache.lookup(list(wanted)), strict=True)
        found = {each: Response(**json.loads(text)) for each, text in texts if text is not None}
        missing = {each: body for each, body in wanted.items() if each not in found}
        if missing:
            with progress(what, len(missing), "answers") as advance:
                found |= outcome(asyncio.run_coroutine_threadsafe(self._ask_all(missing, advance), self._opened()))
        return [found[each] for each in keys]

    def close(self) -> None:
        """End the thread; a further call of `chat` starts another."""
        if self._loop is not None:
            # An interrupted call still closes its connections.
            asyncio.run_coroutine_threadsafe(_others_end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = None

    def _opened(self) -> asyncio.AbstractEventLoop:
        """An event loop in a thread of its own, so that `chat` also works where one is running, as in a notebook."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="curate-endpoint", daemon=True)
            self._thread.start()
        return self._loop

    def _body(self, ask: Ask, sampling: Sampling) -> Body:
        drawn = sampling.temperature > 0
        return {
            "model": self.model_name,
            "messages": [{"role": turn["role"], "content": turn["content"]} for turn in ask.messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p if drawn else 1.0,
            # 31 bits: what every server takes.
            "seed": int(digest([sampling.seed, ask.sample])[:8], 16) >> 1 if drawn else 0,
        }

    async def _ask_all(self, wanted: Mapping[bytes, Body], advance: Advance) -> dict[bytes, Response]:
        call = _Call(wanted, advance)
        async with async_client(self.timeout) as client:
            workers = [asyncio.create_task(self._work(client, call)) for _ in range(min(self.concurrency, len(wanted)))]
            try:
                await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                if not call.over.is_set() and len(call.answers) == len(wanted):
                    return call.answers
                call.over.set()
                # What has been asked is paid for: it is waited for a little, and kept.
                await asyncio.wait(workers, timeout=GRACE_SECONDS)
            finally:
                for worker in workers:
                    worker.cancel()
                ended = await asyncio.gather(*workers, return_exceptions=True)
        error = next(error for error in ended if isinstance(error, Exception))
        if isinstance(error, InputError):
            kept = sum(_kept(response) for response in call.answers.values())
            kept_words = f"{kept:,} of {len(wanted):,} new answers are kept: run the same command again for the rest"
            error.details["remedy"] = "; ".join(filter(None, (error.details.get("remedy"), kept_words)))
        raise error

    async def _work(self, client: httpx.AsyncClient, call: _Call) -> None:
        """Ask until nothing is left to ask, or somebody's request has failed for good."""
        loop = asyncio.get_running_loop()
        while call.queue and not call.over.is_set():
            rest = self.endpoint.resumes - loop.time()
            if rest > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(call.over.wait(), rest)
                continue
            each, body = call.queue.popleft()
            started = loop.time()
            try:
                response = await self._ask(client, body)
            except Fault as fault:
                call.queue.appendleft((each, body))
                self._strike(fault, started, call.fault(each, fault))
                continue
            self.endpoint.strikes = 0
            if _kept(response):
                self._cache.add([each], [json.dumps({k: v for k, v in response._asdict().items() if k != "prefill"})])
            call.answers[each] = response
            call.advance(1)

    def _strike(self, fault: Fault, started: float, faults: int) -> None:
        """Let the endpoint rest after a failure. Raises `InputError` where it, or the request, has had its tries."""
        now = asyncio.get_running_loop().time()
        rest = min(fault.rest, self.timeout)
        new = self.endpoint.strike(str(fault), started=started, now=now, rest=rest, backoff=self.backoff)
        if self.endpoint.strikes > self.retries or faults > self.retries:
            dead = self.endpoint.strikes > self.retries
            self.endpoint.strikes = 0  # a further call tries anew
            raise InputError(
                "the endpoint does not answer" if dead else "the endpoint fails on one request again and again",
                field=str(self.endpoint),
                found=str(fault),
                expected=f"an answer within {self.retries + 1} tries",
                remedy="see that it runs",
            )
        if new and self.endpoint.resumes - now > TELL_SECONDS:
            say(f"{self.endpoint} is asked again in {self.endpoint.resumes - now:.0f} s ({fault})")

    async def _ask(self, client: httpx.AsyncClient, body: Body) -> Response:
        """One request.

        Raises:
            Fault: a failure that may pass.
            InputError: one that will not.
        """
        answer = await self.endpoint.post(client, "/v1/chat/completions", body, self.timeout)
        if answer.status_code != 200:
            if answer.status_code == 400 and _no_room(answer):
                return Response(None, "too_long")
            raise refusal(self.endpoint, answer, "check that the endpoint takes such requests for this model")
        try:
            return _read(answer.json())
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise InputError(
                "the endpoint's answer is no chat completion",
                field=str(self.endpoint),
                found=f"{len(answer.content)} bytes ({type(error).__name__})",
                expected="choices[0].message.content",
                remedy="check the address",
            ) from None


class _Call:
    """The work of one call of `chat`."""

    def __init__(self, wanted: Mapping[bytes, Body], advance: Advance) -> None:
        self.queue = deque(wanted.items())
        self.advance = advance
        self.answers: dict[bytes, Response] = {}
        self.over = asyncio.Event()  # a request has failed for good: nothing more is asked
        self._faults: Counter[bytes] = Counter()
        self._answered: dict[bytes, int] = {}  # how many others were, when the request failed last

    def fault(self, each: bytes, fault: Fault) -> int:
        """How often the request has failed by itself: while others were answered, and not for want of room."""
        if not fault.busy and len(self.answers) > self._answered.get(each, -1):
            self._faults[each] += 1
            self._answered[each] = len(self.answers)
        return self._faults[each]


async def _others_end() -> None:
    """Wait for what else goes on in this event loop, a little."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=END_SECONDS)


def _read(body: Any) -> Response:
    """The answer of an endpoint that answers as it should; raises whatever comes where it does not."""
    choice = body["choices"][0]
    text = choice["message"].get("content")
    if text is not None and not isinstance(text, str):
        raise TypeError
    tokens = (body.get("usage") or {}).get("completion_tokens")
    count = tokens if isinstance(tokens, int) else 0
    reason = choice.get("finish_reason")
    if not text or reason in NO_TEXT:
        return Response(None, "error", count)
    # Half of a surrogate pair can be said in JSON and in no file.
    text = text.encode(errors="replace").decode()
    return Response(text, "length" if reason == "length" else "stop", count)


def _kept(response: Response) -> bool:
    """Whether the cache has it. Room in a context is the server's matter: another may have it."""
    return response.finish != "too_long"


def _no_room(answer: httpx.Response) -> bool:
    """Whether the request is longer than the model's context, as OpenAI (by its code) and vLLM (in words) say it."""
    return "context_length_exceeded" in answer.text or "maximum context length" in message(answer)
