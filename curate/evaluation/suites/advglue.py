"""AdvGLUE (arXiv 2111.02840): adversarially perturbed language understanding, by the likeliest label word.

lm-evaluation-harness has no such task. The prompts and label words are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any, ClassVar, NamedTuple

import polars as pl

from curate.base.errors import InputError
from curate.evaluation.items import Item
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Metric, Options, Row, make_item, text_of, told, user
from curate.evaluation.suites.likelihood import likeliest, likelihoods
from curate.pairs.sources.base import kind, named


class Task(NamedTuple):
    question: str  # slots are the fields' names
    labels: tuple[str, ...]  # the answer that each label is


NLI = ("Yes", "Maybe", "No")
TASKS = {
    "sst2": Task("Is this sentence positive or negative?\n\n{sentence}", ("Negative", "Positive")),
    "qqp": Task("Do these questions ask the same?\n\n1. {question1}\n2. {question2}\n\nYes or no?", ("No", "Yes")),
    "mnli": Task("{premise}\n\nDoes it follow that: {hypothesis}\n\nYes, no or maybe?", NLI),
    "mnli-mm": Task("{premise}\n\nDoes it follow that: {hypothesis}\n\nYes, no or maybe?", NLI),
    "qnli": Task("{sentence}\n\nDoes this answer the question: {question}\n\nYes or no?", ("Yes", "No")),
    "rte": Task("{sentence1}\n\nDoes it follow that: {sentence2}\n\nYes or no?", ("Yes", "No")),
}


class AdvGLUE:
    name: ClassVar[str] = "advglue"
    about: ClassVar[str] = "robustness of language understanding, likeliest label word (AdvGLUE, arXiv 2111.02840)"
    source: ClassVar[str | None] = None
    columns: ClassVar[dict[str, tuple[str, ...]]] = {task: (task,) for task in TASKS}
    options: ClassVar[type[Options]] = Options
    metrics: ClassVar[tuple[Metric, ...]] = (
        metrics.accuracy(about="share of right labels over all tasks"),
        *(metrics.accuracy(metrics.group(task))._replace(headline=False) for task in TASKS),
    )

    def items(self, rows: Sequence[Row], options: Any) -> list[Item]:
        """Of a file like AdvGLUE's own dev.json: one object, a list of examples for each task."""
        return [
            _item(task, example, number)
            for row in rows
            for task in TASKS
            for number, example in enumerate(_examples(row, task))
        ]

    def run(self, items: Sequence[Item], bench: Bench, options: Any) -> pl.DataFrame:
        found = likelihoods(bench, [item.prompt for item in items], [TASKS[item.group].labels for item in items])
        return likeliest(
            items,
            found,
            lambda item, one: TASKS[item.group].labels[int(one.logps.argmax())],
            lambda item: TASKS[item.group].labels[int(item.gold)],
        )


def _examples(row: Row, task: str) -> list[Any]:
    if isinstance(row[task], list):
        return list(row[task])
    raise InputError(
        "no examples of this AdvGLUE task",
        field=task,
        found=kind(row[task]),
        expected="a list, as in dev.json",
    )


def _item(task: str, example: Any, number: int) -> Item:
    about = TASKS[task]
    if not isinstance(example, dict) or "label" not in example:
        raise InputError(
            "an AdvGLUE example lacks a field",
            row=number,
            field=task,
            found=named(example) if isinstance(example, dict) else kind(example),
            expected="as in dev.json",
        )
    slots = [name for _, name, _, _ in Formatter().parse(about.question) if name]
    texts = {name: text_of(example, name, number, f"advglue, {task}") for name in slots}
    prompt, label = user(about.question.format(**texts)), example["label"]
    if label not in range(len(about.labels)):
        raise InputError(
            "an AdvGLUE example has no such label",
            row=number,
            field=task,
            found=told(label),
            expected=f"0 to {len(about.labels) - 1}",
        )
    return make_item(prompt, group=task, gold=str(int(label)))
