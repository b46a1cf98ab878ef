"""GCG (arXiv 2307.15043): of every request a suffix is optimised against the model under test, through nanogcg.

White box: the search follows the gradient of the target's likelihood, and needs the model as transformers loads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib import metadata
from typing import ClassVar, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from curate.base.errors import InputError
from curate.base.progress import progress, say
from curate.evaluation.generation.base import Ask
from curate.evaluation.generation.cache import TextCache, key, parsed
from curate.evaluation.generation.local import close_all
from curate.evaluation.items import Item, Response
from curate.evaluation.suites import metrics
from curate.evaluation.suites.attacks import WITH_TARGET, behaviours, draw
from curate.evaluation.suites.base import Bench, Columns, Metric, Options, Row, results, user
from curate.models.rendering import load_tokenizer, prompt_token_ids
from curate.project.params import Count, Seed

FORMAT = "gcg 1"
"""Of the cache's keys and texts: counted up by a change of ours that may find another suffix."""


class GCGOptions(Options):
    behaviours: Count = Field(50, description="a draw of so many behaviours (0: all)")
    steps: int = Field(250, ge=1, le=10**6, description="of the search for a suffix; the paper's 500, nanogcg's 250")
    search_width: int = Field(512, ge=1, le=10**6, description="candidates a step")
    topk: int = Field(
        256, ge=1, le=10**6, description="tokens that a place's replacement is drawn from, by the gradient"
    )
    seed: Seed = Field(0, description="of the draw and the search")


class Found(NamedTuple):
    """What the search found for a behaviour."""

    suffix: str
    first_loss: float  # of the suffix that the search began with: -log p(target), nats/token
    loss: float


class GCG:
    name: ClassVar[str] = "gcg"
    about: ClassVar[str] = (
        "harm of the answers to requests with suffixes optimised against the model (arXiv 2307.15043)"
    )
    source: ClassVar[str | None] = "hub:walledai/AdvBench"
    columns: ClassVar[Columns] = WITH_TARGET
    options: ClassVar[type[Options]] = GCGOptions
    metrics: ClassVar[tuple[Metric, ...]] = metrics.attack()

    def items(self, rows: Sequence[Row], options: GCGOptions) -> list[Item]:
        return draw(behaviours(rows, self.name), options.behaviours, options.seed)

    def run(self, items: Sequence[Item], bench: Bench, options: GCGOptions) -> pl.DataFrame:
        """A request that does not fit the context with its suffix and target has no answer: it counts as one without a
        verdict, and stops nothing."""
        found = search(items, bench, options)
        losses = [(one.first_loss, one.loss) for one in found if one is not None]
        if losses:
            first, last = np.mean(losses, axis=0)
            say(f"gcg: loss of the target {first:.2f} -> {last:.2f} nats/token, the mean of {len(losses):,}")
        if len(losses) < len(items):
            say(
                f"gcg: {len(items) - len(losses):,} of {len(items):,} requests have no room for a suffix and its target"
            )
        bench.counts["no room for a suffix"] = len(items) - len(losses)
        attacked = {
            number: item._replace(prompt=user(item.asked + one.suffix), question=item.asked)
            for number, (item, one) in enumerate(zip(items, found, strict=True))
            if one is not None
        }
        answers = dict(
            zip(attacked, bench.chat.chat([Ask(one.prompt) for one in attacked.values()], bench.sampling), strict=True)
        )
        asked = [attacked.get(number, item) for number, item in enumerate(items)]
        responses = [answers.get(number, Response(None, "too_long")) for number in range(len(items))]
        return results(asked, responses, bench.judge(asked, responses, "harm"))


def search(items: Sequence[Item], bench: Bench, options: GCGOptions) -> list[Found | None]:
    """The suffix of each item: from the cache, where each is put as soon as it is found. None where the context has no
    room for one.

    Raises:
        InputError: nanogcg is not installed, or a behaviour cannot be attacked.
    """
    from curate.scoring.engines import installed

    version = _nanogcg()
    scope = [FORMAT, version, installed("transformers"), bench.model.digest, bench.dtype]
    searched = options.model_dump(exclude={"behaviours"})
    cache = TextCache(bench.state / "gcg" / bench.model.digest, _read)
    # The digest says nothing of the tokenizer and its template: the tokens do.
    names = [f"behaviour {number}" for number in range(len(items))]
    asked = prompt_token_ids(load_tokenizer(bench.model), [item.prompt for item in items], names)
    keys = [key(*scope, ids, item.asked, item.target, searched) for ids, item in zip(asked, items, strict=True)]
    found = {each: one for each, one in zip(keys, cache.lookup(keys), strict=True) if one is not None}
    missing = {each: item for each, item in zip(keys, items, strict=True) if each not in found}
    if missing:
        from curate.evaluation.suites.gcg_search import Searcher

        close_all()  # an engine may fill the device
        with progress("gcg", len(missing) * options.steps, "steps") as advance:
            searcher = Searcher(bench.model, bench.dtype, options.steps, options.search_width, options.topk, advance)
            try:
                for each, item in missing.items():
                    new = searcher.search(item.asked, item.target, options.seed)
                    if new is not None:
                        found[each] = Found(*new)
                        cache.add([each], [json.dumps(new)])
            finally:
                searcher.close()
    return [found.get(each) for each in keys]


def _read(text: str) -> Found:
    """What `search` kept. Raises `ValueError` for anything else."""
    match parsed(text):
        case [str(suffix), float(first_loss), float(loss)] if math.isfinite(first_loss) and math.isfinite(loss):
            return Found(suffix, first_loss, loss)
    raise ValueError("no suffix and its losses")


def _nanogcg() -> str:
    try:
        return metadata.version("nanogcg")
    except metadata.PackageNotFoundError:
        raise InputError(
            "the suite gcg needs nanogcg", remedy="pip install --no-deps nanogcg==0.3.0 (and scipy, if it is not there)"
        ) from None
