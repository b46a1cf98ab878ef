"""GSM8K (arXiv 2110.14168) by lm-evaluation-harness: its task on the rows of a file, and the last number.

Prompt, generation and filter are the harness's. Its own pattern of a number is not: of "10-12" it makes -12, and any
minus but the hyphen is lost. And it compares texts, where 12.00 is not 12.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar

import polars as pl
from pydantic import Field

from curate.base.errors import InputError, UsageError
from curate.evaluation.items import NO_ROOM, Item, Judgement, Response
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, make_item, results, text_of, user
from curate.evaluation.suites.harness import answered, version
from curate.models.rendering import load_tokenizer, prompt_token_ids
from curate.models.resolve import Model

TASK = "gsm8k"
METRIC = "exact_match"
MINUS = r"[-\u2010-\u2013\u2212\ufe63\uff0d]"  # hyphens, figure and en dash, minus; small and wide ones
NUMBER = (
    rf"(?:(?<![\w.)\]%]){MINUS}\$?|\${MINUS}?)?"  # a stroke behind a number or a word is no minus: 10-12
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9.])\.[0-9]+)"
)
GOLD = re.compile(rf"####\s*(?P<number>{NUMBER})\s*$")


class GSM8KOptions(Options):
    max_tokens: int = Field(512, ge=1, le=10**9, description="of an answer: reasoning takes room")
    batch: int = Field(8, ge=1, le=10**6, description="requests in a forward pass")


class GSM8K:
    name: ClassVar[str] = "gsm8k"
    about: ClassVar[str] = "grade-school mathematics, greedy, last number (GSM8K, arXiv 2110.14168), by the harness"
    source: ClassVar[str | None] = "hub:openai/gsm8k:main#test"
    columns: ClassVar[dict[str, tuple[str, ...]]] = {"question": ("question",), "answer": ("answer",)}
    options: ClassVar[type[Options]] = GSM8KOptions
    metrics: ClassVar[tuple[Metric, ...]] = (metrics.accuracy(about="share of problems whose last number is right"),)

    def items(self, rows: Sequence[Row], options: GSM8KOptions) -> list[Item]:
        version()
        items = []
        for number, row in enumerate(rows):
            answer = gold(text_of(row, "answer", number, self.name), number)
            items.append(make_item(user(text_of(row, "question", number, self.name)), gold=answer))
        return items

    def run(self, items: Sequence[Item], bench: Bench, options: GSM8KOptions) -> pl.DataFrame:
        if options.max_tokens >= bench.model.context:
            raise UsageError(
                "an answer has no room in the model's context",
                field="gsm8k.max_tokens",
                found=options.max_tokens,
                expected=f"less than {bench.model.context}",
                remedy="--option gsm8k.max_tokens=..., with room for the problem too",
            )
        examples = [{"question": item.asked, "answer": item.gold} for item in items]
        task = _task(examples, options.max_tokens)
        wanted = _with_room(task, bench.model, options.max_tokens)
        samples: dict[int, dict[str, Any]] = {}
        if wanted:
            found = answered(bench, [task], {TASK: wanted}, shots=0, chat_template=True, batch=options.batch)
            samples = {int(one["doc_id"]): one for one in found[TASK]}
        told = [_told(samples.get(number)) for number in range(len(items))]
        return results(items, [one[0] for one in told], [one[1] for one in told], [one[2] for one in told])


def gold(answer: str, row: int) -> str:
    """The number after `####`, commas stripped.

    Raises:
        InputError: there is none.
    """
    match = GOLD.search(answer)
    number = value_of(match["number"]) if match else None
    if number is None:
        raise InputError(
            "a row of the suite gsm8k has no gold answer",
            row=row,
            field="answer",
            expected="a last line `#### number`",
        )
    return str(number)


def value_of(text: str) -> Decimal | None:
    """The value of a number as NUMBER finds it; None of what is none."""
    if not re.fullmatch(NUMBER, text):
        return None
    return Decimal(re.sub(MINUS, "-", re.sub(r"[$,]", "", text)))


def _with_room(task: Any, model: Model, max_tokens: int) -> list[int]:
    """The numbers of the problems that leave room for an answer: of a longer one the harness would cut the beginning
    off, without a word."""
    tokenizer = load_tokenizer(model)
    prompts = [user(str(task.doc_to_text(example))) for example in task.eval_docs]
    ids = prompt_token_ids(tokenizer, prompts, [f"problem {number}" for number in range(len(prompts))])
    return [number for number, one in enumerate(ids) if len(one) + max_tokens <= model.context]


def _told(sample: dict[str, Any] | None) -> tuple[Response, Judgement, float | None]:
    """What the harness's record of a problem says; None: the problem was not asked."""
    if sample is None:
        return Response(None, "too_long"), Judgement(why=NO_ROOM), None
    got = value_of(sample["filtered_resps"][0])
    said = Response(str(sample["resps"][0][0]), "harness")
    if got is None:
        return said, Judgement(why="no number"), None
    return said, Judgement(), float(sample[METRIC])


def _task(examples: Sequence[dict[str, str]], max_tokens: int) -> Any:
    """The harness's own task with these problems, greedy, and with NUMBER in its filter."""
    from importlib import resources

    import yaml
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    shipped = resources.files("lm_eval") / "tasks" / "gsm8k" / "gsm8k.yaml"
    config = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    last = {"function": "regex", "regex_pattern": NUMBER, "group_select": -1}
    config |= {
        "dataset_path": None,
        "dataset_name": None,
        "custom_dataset": lambda **_: {"test": Dataset.from_list(list(examples))},
        "training_split": None,
        "fewshot_split": None,
        "num_fewshot": 0,
        "filter_list": [{"name": "last-number", "filter": [last, {"function": "take_first"}]}],
        "process_results": _right,
        "generation_kwargs": config["generation_kwargs"] | {"max_gen_toks": max_tokens},
    }
    return ConfigurableTask(config=config)


def _right(example: dict[str, str], answers: Sequence[str]) -> dict[str, float]:
    """The metric of one example: equal by value."""
    return {METRIC: float(value_of(answers[0]) == Decimal(example["answer"]))}
