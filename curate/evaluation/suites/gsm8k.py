"""GSM8K (arXiv 2110.14168) by lm-evaluation-harness: its task on the rows of a file, and the last number.

Prompt, generation and filter are the harness's. Its own pattern of a number is not: of "10-12" it makes -12, and a
Unicode minus is lost. And it compares texts, where 12.00 is not 12.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar

import polars as pl
from pydantic import Field

from curate.base.errors import InputError
from curate.evaluation.items import Item, Judgement, Response
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, make_item, results, text_of, user
from curate.evaluation.suites.harness import answered, version

TASK = "gsm8k"
METRIC = "exact_match"
NUMBER = (
    r"(?:(?<![\w.)\]%])[-\u2212]\$?|\$[-\u2212]?)?"  # a stroke behind a number or a word is no minus: 10-12
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
        examples = [{"question": item.asked, "answer": item.gold} for item in items]
        wanted = {TASK: list(range(len(items)))}
        task = _task(examples, options.max_tokens)
        found = answered(bench, [task], wanted, shots=0, chat_template=True, batch=options.batch)
        by_number = {int(one["doc_id"]): one for one in found[TASK]}
        samples = [by_number[number] for number in range(len(items))]
        read = [value_of(sample["filtered_resps"][0]) for sample in samples]
        right = [None if got is None else float(sample[METRIC]) for got, sample in zip(read, samples, strict=True)]
        said = [Response(str(sample["resps"][0][0]), "harness") for sample in samples]
        verdicts = [Judgement(why=None if got is not None else "no number") for got in read]
        return results(items, said, verdicts, right)


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
    return Decimal(re.sub(r"[$,]", "", text).replace("\u2212", "-"))


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
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every key that is not as in its file
    return ConfigurableTask(config=config)


def _right(example: dict[str, str], answers: Sequence[str]) -> dict[str, float]:
    """The metric of one example: equal by value."""
    return {METRIC: float(value_of(answers[0]) == Decimal(example["answer"]))}
