"""Answers from an OpenAI-compatible endpoint: conversations in, text out, each answer kept as soon as it is there.

An answer is kept under what was asked (the model's served name, the messages, how it is drawn) and not under the
address: an evaluation that was interrupted goes on wherever the same model is served.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from curate.base.client import Client
from curate.base.endpoint import Endpoint, message, refusal
from curate.base.errors import InputError, UsageError
from curate.base.progress import Advance, progress
from curate.evaluation.generation.base import Ask, Sampling
from curate.evaluation.generation.cache import TextCache, key, parsed
from curate.evaluation.items import Response
from curate.pairs.identity import digest

if TYPE_CHECKING:
    import httpx

FORMAT = "chat 1"  # of the cache's keys and texts
GRACE_SECONDS = 30.0  # for answers on their way when one request has failed for good
NO_TEXT = {"content_filter", "refusal"}  # finish reasons of an answer that the endpoint holds back
MOST_TOKENS = 2**31  # of an answer: what a column of them can say

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
        self._client = Client(
            [self.endpoint],
            concurrency=concurrency,
            retries=retries,
            timeout=timeout,
            backoff=backoff,
            grace=GRACE_SECONDS,
        )
        self._cache = TextCache(state / "endpoint" / digest(model_name), _stored)

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
        stored = zip(wanted, self._cache.lookup(list(wanted)), strict=True)
        found = {each: response for each, response in stored if response is not None}
        # An answer without a text, which earlier versions kept, is asked for again.
        missing = {each: body for each, body in wanted.items() if each not in found or not _kept(found[each])}
        if missing:
            found |= self._asked(missing, what)
        return [found[each] for each in keys]

    def _asked(self, missing: Mapping[bytes, Body], what: str) -> dict[bytes, Response]:
        self.endpoint.strikes, self.endpoint.dropped = 0, False  # a further call tries anew
        with progress(what, len(missing), "answers") as advance:
            work = _Asking(what, missing, self._cache, self._client.timeout, advance)
            try:
                self._client.run(work)
            except InputError as error:
                kept = sum(map(_kept, work.answers.values()))
                words = f"{kept:,} of {len(missing):,} new answers are kept: run the same command again for the rest"
                error.details["remedy"] = "; ".join(filter(None, (error.details.get("remedy"), words)))
                raise
        return work.answers

    def close(self) -> None:
        """End the thread; a further call of `chat` starts another."""
        self._client.close()

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


class _Asking:
    """The work of one call of `chat` (`curate.base.client.Work`). A job is a key; what is answered is kept at once."""

    def __init__(
        self, what: str, wanted: Mapping[bytes, Body], cache: TextCache[Response], timeout: float, advance: Advance
    ):
        self.name = what
        self.wanted, self.cache, self.timeout, self.advance = wanted, cache, timeout, advance
        self.queue = deque(wanted)
        self.answers: dict[bytes, Response] = {}

    @property
    def left(self) -> int:
        return len(self.wanted) - len(self.answers)

    def take(self, endpoint: Endpoint, now: float) -> bytes | None:
        return self.queue.popleft() if self.queue else None

    def put_back(self, job: bytes, endpoint: Endpoint) -> None:
        self.queue.appendleft(job)

    async def ask(self, client: httpx.AsyncClient, endpoint: Endpoint, job: bytes) -> Response:
        answer = await endpoint.post(client, "/v1/chat/completions", self.wanted[job], self.timeout)
        return _answer(endpoint, answer)

    def keep(
        self, job: bytes, endpoint: Endpoint, answer: Response, seconds: float
    ) -> Iterable[tuple[Endpoint, float]]:
        if _kept(answer):
            said = {name: value for name, value in answer._asdict().items() if name != "prefill"}
            self.cache.add([job], [json.dumps(said)])
        self.answers[job] = answer
        self.advance(1)
        return ()

    def none_left(self, endpoints: Sequence[Endpoint], tries: int) -> InputError:
        return self._failure("the endpoint does not answer", endpoints[0], tries)

    def given_up(self, job: bytes, endpoint: Endpoint, tries: int) -> InputError:
        return self._failure("the endpoint fails on one request again and again", endpoint, tries)

    def _failure(self, what: str, endpoint: Endpoint, tries: int) -> InputError:
        return InputError(
            what,
            field=str(endpoint),
            found=endpoint.fault,
            expected=f"an answer within {tries} tries",
            remedy="see that it runs",
        )


def _answer(endpoint: Endpoint, answer: httpx.Response) -> Response:
    """What the endpoint answered.

    Raises:
        InputError: a refusal, or what is no answer.
    """
    if answer.status_code != 200:
        if answer.status_code == 400 and _no_room(answer):
            return Response(None, "too_long")
        raise refusal(endpoint, answer, "check that the endpoint takes such requests for this model")
    try:
        return _read(answer.json())
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            "the endpoint's answer is no chat completion",
            field=str(endpoint),
            found=f"{len(answer.content)} bytes ({type(error).__name__})",
            expected="choices[0].message.content",
            remedy="check the address",
        ) from None


def _read(body: Any) -> Response:
    """The answer of an endpoint that answers as it should; raises whatever comes where it does not."""
    choice = body["choices"][0]
    text = choice["message"].get("content")
    if text is not None and not isinstance(text, str):
        raise TypeError
    tokens = (body.get("usage") or {}).get("completion_tokens")
    count = tokens if _is_count(tokens) else 0
    reason = choice.get("finish_reason")
    if not text or reason in NO_TEXT:
        return Response(None, "error", count)
    # Half of a surrogate pair can be said in JSON and in no file.
    text = text.encode(errors="replace").decode()
    return Response(text, "length" if reason == "length" else "stop", count)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < MOST_TOKENS


def _stored(text: str) -> Response:
    """What `_Asking.keep` wrote. Raises `ValueError` for anything else."""
    said = parsed(text)
    if not isinstance(said, dict) or not {"text", "finish"} <= said.keys() <= set(Response._fields):
        raise ValueError("no answer")
    response = Response(**said)
    if (
        not isinstance(response.text, str | None)
        or response.finish not in ("stop", "length", "too_long", "error")
        or not _is_count(response.tokens)
        or response.prefill != ""
    ):
        raise ValueError("no answer")
    return response


def _kept(response: Response) -> bool:
    """Whether the cache has it. Without a text there is nothing to keep: an endpoint may have one the next time, and
    room in the context where the model is served elsewhere."""
    return response.text is not None


def _no_room(answer: httpx.Response) -> bool:
    """Whether the request is longer than the model's context, as OpenAI (by its code) and vLLM (in words) say it."""
    return "context_length_exceeded" in answer.text or "maximum context length" in message(answer)
