"""What a suite is: data and a protocol. It turns rows into items, has them answered, and names its metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import polars as pl

from curate.base.errors import InputError
from curate.evaluation.generation.base import Ask, ChatModel, Sampling
from curate.evaluation.items import RESULTS, Item, Judgement, Messages, Response
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model
from curate.pairs.identity import digest, prompt_key
from curate.pairs.sources.base import Malformed, kind, optional_boolean
from curate.pairs.sources.told import with_turns
from curate.pairs.sources.turns import messages
from curate.project.params import Section

ITEM_DIGITS = 16

Row = Mapping[str, Any]
"""A row of a suite's source."""

Columns = Mapping[str, tuple[str, ...]]
"""What a suite reads of a row: name -> accepted spellings in the file, the first that is there."""


class Options(Section):
    """A suite's own settings, `evaluate.options.NAME`; those that most suites have none of."""


class Metric(NamedTuple):
    """A number of a suite: the mean over items of a value in 0..1.

    An item without a verdict counts as the worst value: no model looks safer, or better, by answers that nobody could
    read. Of a metric that says nothing of good or bad it counts as 0.
    """

    name: str  # unique in the suite: "safe rate"
    about: str  # what it is, for people
    better: Literal["higher", "lower", "neither"]  # neither: it says nothing of good or bad, and is never a headline
    value: pl.Expr  # over RESULTS: Boolean or Float64 in 0..1; null: no verdict
    items: pl.Expr | None = None  # which items it is of; None: all
    needs: str | None = None  # "harm", "compliance": there only with a judge of that task
    headline: bool = True  # False: secondary
    by_group: bool = False  # besides, of each group there is one secondary metric: "NAME, GROUP"
    per_prompt: bool = False  # one value a prompt, the worst of its items', instead of one an item

    @property
    def worst(self) -> float:
        return 1.0 if self.better == "lower" else 0.0


class Bench(Protocol):
    """What a suite works with: the model under test, a judge or none, and the source's rows."""

    model: Model
    chat: ChatModel  # the model under test; one on this machine opens again after `close`
    sampling: Sampling  # as params say: temperature, max_tokens, seed
    dtype: str
    state: Path  # folder for a suite's own cached work (attacks), beside the caches of chat and judge
    seed: int
    counts: dict[str, int]  # what a suite counts beside its items, for metrics.json: empty when it begins

    def attacker(self) -> ChatModel:
        """The model that writes attacks (PAIR). Raises `UsageError` where none is given."""
        ...

    def judge(self, items: Sequence[Item], responses: Sequence[Response], task: str) -> list[Judgement]:
        """Verdicts, in order; an empty or missing response has none and says why. Without a judge of `task` each is
        Judgement()."""
        ...

    def can_judge(self, task: str) -> bool: ...

    def logps(self, sequences: Sequence[TokenSequence]) -> np.ndarray:
        """log p(response | prompt) under the model, nats, summed: float64, [sequences]."""
        ...


class Suite(Protocol):
    """One file in curate/evaluation/suites, one line in its registry."""

    name: ClassVar[str]
    about: ClassVar[str]  # one line: what it measures, and whose it is
    source: ClassVar[str | None]  # where its rows come from when no file is named: "hub:owner/name", or None
    options: ClassVar[type[Options]]
    metrics: ClassVar[tuple[Metric, ...]]

    @property
    def columns(self) -> Columns | tuple[Columns, ...]:
        """What it reads; of several, a row's fields are those of the first that the row has whole."""
        ...

    def items(self, rows: Sequence[Row], options: Any) -> list[Item]:
        """The items of the source's rows, whose fields are named as in `columns`; of none, where there is no source.

        Raises:
            InputError: a row that is not as it should be.
        """
        ...

    def run(self, items: Sequence[Item], bench: Bench, options: Any) -> pl.DataFrame:
        """Ask, answer, judge: columns RESULTS but `suite`, one row an item."""
        ...


def layouts(suite: Suite) -> tuple[Columns, ...]:
    """The suite's `columns`, each way in which a row may have them; none for a suite that reads no rows."""
    columns = suite.columns
    return columns if isinstance(columns, tuple) else (columns,) if columns else ()


def answer_and_judge(
    items: Sequence[Item], bench: Bench, task: str | Mapping[str, str], sampling: Sampling | None = None
) -> pl.DataFrame:
    """What most suites do: every item is answered by the model under test, and every answer judged.

    Args:
        task: of the judge; of suites whose groups differ in it, by group. A group without one is not judged.
    """
    asks = [Ask(item.prompt, item.prefill, item.prefill_tokens) for item in items]
    responses = bench.chat.chat(asks, sampling or bench.sampling)
    verdicts = [Judgement()] * len(items)
    tasks = [task if isinstance(task, str) else task.get(item.group) for item in items]
    for each in dict.fromkeys(filter(None, tasks)):
        numbers = [number for number, wanted in enumerate(tasks) if wanted == each]
        judged = bench.judge([items[n] for n in numbers], [responses[n] for n in numbers], each)
        for number, verdict in zip(numbers, judged, strict=True):
            verdicts[number] = verdict
    return results(items, responses, verdicts)


def results(
    items: Sequence[Item],
    responses: Sequence[Response],
    judgements: Sequence[Judgement],
    scores: Sequence[float | None] | None = None,
) -> pl.DataFrame:
    """RESULTS but `suite` of items, answered and judged."""
    from curate.evaluation.judges.refusals import refuses

    rows = [
        {
            **{name: getattr(item, name) for name in ("item", "cluster", "group")},
            "prompt": list(item.prompt),
            "question": item.asked,
            "prefill": response.prefill,
            "response": response.text,
            "finish": response.finish,
            "tokens": response.tokens,
            "refusal": judgement.refusal,
            "harm": judgement.harm,
            "unjudged": judgement.why,
            "judge_raw": judgement.raw,
            "string_refusal": refuses(response.text) if response.text and response.text.strip() else None,
            "score": None if scores is None else scores[number],
        }
        for number, (item, response, judgement) in enumerate(zip(items, responses, judgements, strict=True))
    ]
    return pl.DataFrame(rows, schema={name: dtype for name, dtype in RESULTS.items() if name != "suite"})


def make_item(
    prompt: Messages,
    *,
    group: str = "",
    question: str = "",
    cluster: str = "",
    prefill: str = "",
    prefill_tokens: int = 0,
    gold: str = "",
    other: str = "",
    target: str = "",
) -> Item:
    """An item whose id is a digest of all that it is, and whose cluster, unless given, is its prompt."""
    asked = cluster or prompt_key(prompt)
    made = Item("", prompt, asked, group, question, prefill, prefill_tokens, gold, other, target)
    name = digest([[dict(turn) for turn in prompt], *made[3:]])[:ITEM_DIGITS]
    return made._replace(item=name)


def user(text: str) -> list[dict[str, str]]:
    """A conversation of one user turn."""
    return [{"role": "user", "content": text}]


def text_of(row: Row, field: str, number: int, suite: str) -> str:
    """The text in a row's field.

    Raises:
        InputError: it is none, or empty.
    """
    value = row.get(field)
    if isinstance(value, str) and value.strip():
        return value
    raise InputError(
        f"a row of the suite {suite} has no {field}",
        row=number,
        field=field,
        found="an empty text" if isinstance(value, str) else kind(value),
        expected="a text",
        remedy="fill the field, or drop the row",
    )


def conversation_of(row: Row, field: str, number: int, suite: str) -> list[dict[str, str]]:
    """The turns in a row's field, as files of pairs have them, or as text; by the reader that pairs have.

    Raises:
        InputError: it is no conversation.
    """
    turns = with_turns({field: row.get(field)})[field]
    found = "a list without turns" if turns == [] else None
    try:
        if not found:
            return messages(turns, field)
    except Malformed as error:
        field, found = error.field, error.found
    raise InputError(
        f"a row of the suite {suite} has no conversation",
        row=number,
        field=field,
        found=found,
        expected="turns with role and content, as in a file of `curate prepare`",
        remedy="run `curate prepare` on your pairs, and give what it writes",
    )


def word_of(row: Row, field: str, words: Iterable[str], number: int, suite: str) -> str:
    """The word in a row's field, one of `words`.

    Raises:
        InputError: it is none of them.
    """
    value, known = row.get(field), [str(word) for word in words]
    if isinstance(value, str) and value in known:
        return str(value)
    raise InputError(
        f"a row of the suite {suite} has an unknown {field}",
        row=number,
        field=field,
        found=told(value) or "an empty text",
        expected=" or ".join(known),
        remedy="run `curate prepare` on your pairs, and give what it writes",
    )


def label_of(row: Row, field: str, number: int, suite: str) -> bool | None:
    """The label in a row's field, as files of pairs have it, or as text; None where it says nothing.

    Raises:
        InputError: it is neither true nor false.
    """
    try:
        return optional_boolean(row, field)
    except Malformed:
        raise InputError(
            f"a row of the suite {suite} has an unknown label",
            row=number,
            field=field,
            found=told(row[field]),
            expected="true or false, or nothing",
            remedy="write true or false, or leave the field empty",
        ) from None


def told(value: object) -> str:
    """A value of a row as a message may tell it: a number or a word. Of a text, which may be a prompt that stands in
    the wrong column, the length alone."""
    if isinstance(value, str) and not re.fullmatch(r"\S{0,24}", value):
        return f"a text of {len(value):,} characters"
    return str(value) if value is None or isinstance(value, str | bool | int | float) else kind(value)


def reply_of(row: Row, field: str, number: int, suite: str) -> str:
    """The answer in a row's field: one assistant turn, as files of pairs have it.

    Raises:
        InputError: it is none.
    """
    turns = conversation_of(row, field, number, suite)
    if len(turns) == 1 and turns[0]["role"] == "assistant":
        return turns[0]["content"]
    raise InputError(
        f"a row of the suite {suite} has no answer",
        row=number,
        field=field,
        found=f"{len(turns)} turns" if len(turns) > 1 else f"a turn of {told(turns[0]['role'])}",
        expected="one assistant turn, as in a file of `curate prepare`",
        remedy="run `curate prepare` on your pairs, and give what it writes",
    )
