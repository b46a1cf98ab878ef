"""A model on this machine that answers conversations; what it answered before comes from the cache."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np

from curate.base import files
from curate.base.device import device_type
from curate.base.errors import InputError
from curate.base.progress import progress, say
from curate.evaluation.generation.base import Ask, Generated, GenerationEngine, Request, Sampling
from curate.evaluation.generation.batches import batches
from curate.evaluation.generation.cache import TextCache, parsed
from curate.evaluation.generation.cache import key as key_of
from curate.evaluation.items import Response
from curate.models.rendering import load_tokenizer, prefill_token_ids, prompt_token_ids, stop_token_ids
from curate.models.resolve import Model
from curate.scoring.engines import installed
from curate.scoring.engines.choice import choose_engine, say_choice

REVISION = 1
"""Of our own part of the answers (rendering, seeds, draws): a change that may move one counts it up, and the cache's
keys with it."""

BATCH_TOKENS = {"cpu": 32_768, "cuda": 1_048_576}
"""Tokens of prompts and longest answers between two writes of the cache. Batches are cut from all requests, not from
the missing ones, so that an interrupted run goes on with the very batches of an uninterrupted one."""


class Rendered(NamedTuple):
    """A conversation as token ids."""

    prompt: list[int]
    prefill: list[int]


_CHATS: WeakSet[LocalChat] = WeakSet()
"""All there are: on a GPU one of them at a time is open."""


def close_all() -> None:
    """Close every chat of this process, for a model that wants their memory; each opens again when it is asked."""
    for chat in list(_CHATS):
        chat.close()


class LocalChat:
    """A `ChatModel`. The engine is opened when the first answer is missing, and again after `close`.

    Args:
        engine: auto, vllm or transformers.
        state: folder of caches; this one's is `generations/DIGEST` in it, by model, dtype and engine.

    Attributes:
        generated: answers that no cache had, so far.

    Raises:
        InputError: the engine is not installed.
    """

    def __init__(self, model: Model, dtype: str, engine: str, state: Path) -> None:
        self.model, self.dtype, self.state, self._asked = model, dtype, state, engine
        if engine != "auto":
            _version(engine)
        self.generated = 0
        self._opened: GenerationEngine | None = None
        _CHATS.add(self)

    @cached_property
    def engine(self) -> str:
        """vllm or transformers. `auto` is decided when it is first wanted: transformers on a CPU, where vLLM's
        start takes longer than a small model's answers; else the one whose answers are kept, else vLLM where it runs
        the model."""
        if self._asked != "auto":
            return self._asked
        if device_type() == "cpu":
            return "transformers"

        def kept(engine: str) -> int:
            try:
                return self._cache(engine).bytes()
            except InputError:  # it is not installed
                return 0

        choice = choose_engine(self.model, self.dtype, kept)
        say_choice("generate", choice)
        return choice.engine

    @cached_property
    def version(self) -> str:
        """Of the engine, as the cache's key has it."""
        return _version(self.engine)

    @cached_property
    def scope(self) -> str:
        """What the cache's keys go by, beside the request."""
        return json.dumps(self._scope(self.engine), sort_keys=True)

    @cached_property
    def cache(self) -> TextCache:
        return self._cache(self.engine)

    def record(self) -> dict[str, Any]:
        return self.model.record() | {"dtype": self.dtype, "engine": self.version}

    def chat(self, asks: Sequence[Ask], sampling: Sampling, what: str = "generate") -> list[Response]:
        """As the protocol says. All conversations are rendered before the first is answered.

        Raises:
            InputError: no chat template, a conversation that cannot be rendered, an engine that cannot be opened.
            OutputError: the cache cannot be written.
        """
        rendered = self._render(asks)
        requests = [self._request(each, ask, sampling) for each, ask in zip(rendered, asks, strict=True)]
        keys = [None if request is None else self._key(request) for request in requests]
        keyed = [(key, request) for key, request in zip(keys, requests, strict=True) if key and request]
        answers = self._answers(keyed, what)
        return [self._response(each, answers[key] if key else None) for each, key in zip(rendered, keys, strict=True)]

    def close(self) -> None:
        """Close the engine, if one is open."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _scope(self, engine: str) -> dict[str, str]:
        return {"model": self.model.digest, "dtype": self.dtype, "engine": _version(engine)}

    def _cache(self, engine: str) -> TextCache:
        scope = json.dumps(self._scope(engine), sort_keys=True)
        return TextCache(self.state / "generations" / hashlib.sha256(scope.encode()).hexdigest()[:16], _read)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.model)

    @cached_property
    def _stop(self) -> set[int]:
        return stop_token_ids(self._tokenizer, self.model)

    def _render(self, asks: Sequence[Ask]) -> list[Rendered]:
        names = [f"conversation {number}" for number in range(len(asks))]
        prompts = prompt_token_ids(self._tokenizer, [ask.messages for ask in asks], names)
        begun = [number for number, ask in enumerate(asks) if ask.prefill and ask.prefill_tokens]
        prefills = prefill_token_ids(
            self._tokenizer,
            [asks[number].messages for number in begun],
            [asks[number].prefill for number in begun],
            [names[number] for number in begun],
        )
        beginnings = {n: ids[: asks[n].prefill_tokens] for n, ids in zip(begun, prefills, strict=True)}
        return [Rendered(prompt, beginnings.get(number, [])) for number, prompt in enumerate(prompts)]

    def _request(self, rendered: Rendered, ask: Ask, sampling: Sampling) -> Request | None:
        """What an engine is asked; None where the context has no room for an answer. What has no effect on a greedy
        answer is not in it."""
        ids = rendered.prompt + rendered.prefill
        room = min(sampling.max_tokens, self.model.context - len(ids))
        if room < 1:
            return None
        prompt = np.array(ids, dtype=np.int32)
        if not sampling.temperature:
            return Request(prompt, room, 0.0, 1.0, 0)
        seed = int.from_bytes(key_of("seed", sampling.seed, ask.sample, ids)[:8], "little") >> 1  # fits an int64
        return Request(prompt, room, sampling.temperature, sampling.top_p, seed)

    def _key(self, request: Request) -> bytes:
        return key_of(self.scope, sorted(self._stop), request.prompt_ids.tolist(), *request[1:])

    def _answers(self, asked: Sequence[tuple[bytes, Request]], what: str) -> dict[bytes, Generated]:
        """The answer to each request, by its key."""
        times = Counter(key for key, _ in asked)
        distinct = dict(asked)
        keys, requests = list(distinct), list(distinct.values())
        answers = {key: found for key, found in zip(keys, self.cache.lookup(keys), strict=True) if found}
        if len(answers) == len(keys):
            return answers
        with progress(what, len(asked), "responses") as advance:
            advance(sum(times[key] for key in answers))
            for batch in batches(requests, BATCH_TOKENS[device_type()]):
                todo = [number for number in batch if keys[number] not in answers]
                if todo:
                    found = self._open().generate([requests[number] for number in todo])
                    new = {keys[number]: answer for number, answer in zip(todo, found, strict=True)}
                    self._keep(new)
                    answers |= new
                    self.generated += len(new)
                    advance(sum(times[key] for key in new))
        return answers

    def _keep(self, answers: dict[bytes, Generated]) -> None:
        label = self.cache.folder / "scope.json"
        if not label.is_file():
            about = self._scope(self.engine) | {"name": self.model.name, "commit": self.model.commit}
            files.write_json(about, label)
        self.cache.add(list(answers), [json.dumps([answer.finish, answer.ids]) for answer in answers.values()])

    def _open(self) -> GenerationEngine:
        if self._opened is None:
            if device_type() == "cuda":  # its memory holds one engine
                close_all()
            say(f"generate: {self.model.name} in {self.dtype}, {self.version}")
            if self.engine == "vllm":
                from curate.evaluation.generation.vllm import VllmGeneration

                self._opened = VllmGeneration(self.model, self.dtype, self._stop)
            else:
                from curate.evaluation.generation.transformers import TransformersGeneration

                self._opened = TransformersGeneration(self.model, self.dtype, self._stop)
        return self._opened

    def _response(self, rendered: Rendered, answer: Generated | None) -> Response:
        before = self._decode(rendered.prefill)
        if answer is None:
            return Response(None, "too_long", prefill=before)
        # Decoded behind the prefill: some tokenizers take the space from the beginning of a text.
        whole = self._decode(rendered.prefill + answer.ids)
        text = whole[len(before) :] if whole.startswith(before) else self._decode(answer.ids)
        return Response(text, answer.finish, len(answer.ids), before)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""


def _version(engine: str) -> str:
    return f"{installed(engine)}, revision {REVISION}"


def _read(text: str) -> Generated:
    """What `_keep` wrote. Raises `ValueError` for anything else."""
    match parsed(text):
        case [("stop" | "length") as finish, list(ids)] if all(type(one) is int and 0 <= one < 2**31 for one in ids):
            return Generated(ids, finish)
    raise ValueError("no answer in token ids")
