"""Any task of lm-evaluation-harness, TruthfulQA-MC by default; its answers item by item, so that arms compare."""

from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import Collection, Sequence
from contextlib import closing
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from curate.base import memory
from curate.base.errors import InputError, OutputError, UsageError, first_line
from curate.base.progress import say
from curate.evaluation.items import Item, Judgement, Response
from curate.evaluation.suites import metrics
from curate.evaluation.suites.base import Bench, Columns, Metric, Options, Row, make_item, results, told, user
from curate.pairs.identity import digest
from curate.scoring.engines import installed
from curate.scoring.packing import probe

# It warns of how it is called, of keys that a task file leaves out, and of each example that it cuts, which we count.
logging.getLogger("lm_eval").setLevel(logging.ERROR)

FORMAT = "harness 1"
"""Of the cache's file, whose name has the versions too: the harness's own keys say nothing of them."""

SINGLE = (int, float, np.number, np.bool_)
"""What a number of one example is; of some metrics there is none but over all."""
PREFERRED = ("acc", "exact_match", "acc_norm")
"""The metric taken of a task that has several, unless one is named; else its first."""


class HarnessOptions(Options):
    tasks: tuple[str, ...] = Field(("truthfulqa_mc1", "truthfulqa_mc2"), min_length=1, description="names of tasks")
    metric: str | None = Field(None, description="of each task [default: acc, exact_match, acc_norm or its first]")
    filter: str | None = Field(None, description="of each task's filters [default: the last]")
    shots: int | None = Field(None, ge=0, le=1000, description="examples in the prompt [default: the task's]")
    include_path: str | None = Field(None, description="a folder with task files of one's own")
    chat_template: bool = Field(True, description="put the prompt into the model's chat template")
    batch: int = Field(8, ge=1, le=10**6, description="requests in a forward pass")


class Harness:
    name: ClassVar[str] = "harness"
    about: ClassVar[str] = "tasks of lm-evaluation-harness, such as TruthfulQA-MC (arXiv 2109.07958)"
    source: ClassVar[str | None] = None
    columns: ClassVar[Columns | tuple[Columns, ...]] = {}
    options: ClassVar[type[Options]] = HarnessOptions
    metrics: ClassVar[tuple[Metric, ...]] = (
        metrics.accuracy(about="mean of the task's own metric over all tasks")._replace(by_group=True),
    )

    def items(self, rows: Sequence[Row], options: HarnessOptions) -> list[Item]:
        """One an example; its number in the task stands in `gold`.

        Raises:
            UsageError: no such task, or one that takes no shots where some are wanted.
        """
        items = []
        for name in options.tasks:
            task = _task(name, options.include_path)
            _check_shots(name, task, options.shots)
            for number, example in enumerate(task.eval_docs):
                made = make_item(user(str(task.doc_to_text(example))), group=name, gold=str(number))
                items.append(made._replace(cluster=f"{name} {number}"))
        return items

    def run(self, items: Sequence[Item], bench: Bench, options: HarnessOptions) -> pl.DataFrame:
        wanted = {name: [int(item.gold) for item in items if item.group == name] for name in options.tasks}
        tasks = [_task(name, options.include_path) for name in options.tasks]
        found = answered(
            bench, tasks, wanted, shots=options.shots, chat_template=options.chat_template, batch=options.batch
        )
        lower = [{name for name, higher in task.higher_is_better().items() if higher is False} for task in tasks]
        scores = {name: _scores(name, found[name], options, of) for name, of in zip(options.tasks, lower, strict=True)}
        answers = [scores[item.group][int(item.gold)] for item in items]
        said = [Response(None, "harness") for _ in items]
        return results(items, said, [Judgement()] * len(items), answers)


def answered(
    bench: Bench,
    tasks: Sequence[Any],
    wanted: dict[str, list[int]],
    *,
    shots: int | None,
    chat_template: bool,
    batch: int,
) -> dict[str, list[dict[str, Any]]]:
    """The harness's record of every example: by the task's name, one of each example and filter.

    Args:
        tasks: the harness's own objects.
        wanted: of each task the numbers of the examples.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from curate.evaluation.generation.local import close_all
    from curate.models.load import load_model
    from curate.models.rendering import load_tokenizer

    cache = _cache(bench)
    close_all()  # one model at a time in the device's memory
    loaded = load_model(bench.model, bench.dtype).eval()
    if unpadded := probe.padding_fault(loaded, bench.dtype):
        say(f"evaluate: the harness asks this model one request at a time, which is slower: {unpadded}")
        batch = 1
    model = HFLM(pretrained=loaded, tokenizer=load_tokenizer(bench.model), batch_size=batch)
    try:
        found = simple_evaluate(
            model=model,
            tasks=list(tasks),
            task_manager=_tasks(None, shipped=False),  # they are objects: no index of all is made anew
            num_fewshot=shots,
            samples=wanted,
            use_cache=str(cache),
            log_samples=True,
            bootstrap_iters=0,  # the intervals are ours
            apply_chat_template=chat_template,
        )
        _tell_cut(found["samples"], model, bench)
        return dict(found["samples"])
    except AssertionError as error:
        said = str(error) or str(traceback.extract_tb(error.__traceback__)[-1].line)
        if "maximum sequence length" not in said and "self.max_length" not in said:
            raise
        raise InputError(
            "lm-evaluation-harness finds no room in the model's context",
            file=bench.model.path,
            field=", ".join(wanted),
            found="a choice longer than it" if "self." in said else first_line(error),
            remedy="use a model with a longer context, or tasks whose answers are shorter",
        ) from error
    finally:
        del loaded, model
        memory.give_back()


def _cache(bench: Bench) -> Path:
    """Where the harness keeps its answers, but for `_rank0.db`, which it adds.

    Raises:
        OutputError: what stands there is damaged.
    """
    # The harness goes by texts, and the model's digest says nothing of the tokenizer that makes tokens of them.
    versions = digest([FORMAT, version(), installed("transformers"), bench.model.tokenizer_digest])[:8]
    cache = bench.state / "harness" / f"{bench.model.digest}-{bench.dtype}-{versions}"
    cache.parent.mkdir(parents=True, exist_ok=True)
    file = Path(f"{cache}_rank0.db")
    try:
        with closing(sqlite3.connect(file)) as base:
            found = str(base.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        found = "ok"  # another process writes it just now
    except sqlite3.DatabaseError as error:
        found = first_line(error)
    if found != "ok":
        raise OutputError(
            "lm-evaluation-harness' cache is damaged",
            file=file,
            found=found,
            remedy="remove this file: what it holds is asked again",
        )
    return cache


def _tell_cut(samples: dict[str, list[dict[str, Any]]], model: Any, bench: Bench) -> None:
    """Count and tell the examples whose beginning the harness has cut off, as it does without a word."""
    examples = {(task, one["doc_id"]): one["arguments"] for task, some in samples.items() for one in some}
    cut = sum(any(_beyond(asked, model) for asked in requests) for requests in examples.values())
    if cut:
        bench.counts["beginning cut off"] = cut
        say(f"harness: {cut:,} of {len(examples):,} examples are too long for the context: their beginning is cut off")


def _beyond(asked: Sequence[Any], model: Any) -> bool:
    """Whether a request of the harness is longer than the model's context; a text alone is read in windows."""
    from lm_eval.models.utils import normalize_gen_kwargs

    context, *wanted = asked
    if not wanted:
        return False
    if isinstance(wanted[0], str):  # of a continuation the last token is not read
        length = len(model.tok_encode(context + wanted[0])) - 1
    else:
        answer = normalize_gen_kwargs(wanted[0], model.max_gen_toks)["max_gen_toks"]
        length = len(model.tok_encode(context)) + answer
    return bool(length > model.max_length)


def _check_shots(name: str, task: Any, shots: int | None) -> None:
    """Raise `UsageError` where the harness would leave out the shots without a word: its file says there are none."""
    if shots and task.get_config("num_fewshot") == 0:
        raise UsageError(
            "the task takes no examples in its prompt",
            field="harness.shots",
            found=f"{shots} for {name}, which takes none",
            remedy="leave harness.shots out, or name other tasks",
        )


def version() -> str:
    """Of lm-evaluation-harness. Raises `InputError` where it is not installed."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError as error:
        raise InputError(
            "this suite needs lm-evaluation-harness", remedy="pip install 'curate-preferences[harness]'"
        ) from error


def _scores(
    task: str, samples: Sequence[dict[str, Any]], options: HarnessOptions, lower: Collection[str] = ()
) -> dict[int, float]:
    """The value of each example, by its number.

    Args:
        lower: the task's metrics of which less is better.
    """
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    wanted = options.filter or filters[-1]
    offered = samples[0]["metrics"]
    metric = options.metric or next((name for name in PREFERRED if name in offered), offered[0])
    for what, found, choices in (("filter", wanted, filters), ("metric", metric, offered)):
        if found not in choices:
            raise UsageError(
                f"the task has no such {what}",
                field=f"harness.{what}",
                found=f"{found} of {task}",
                expected=", ".join(choices),
            )
    values = {int(s["doc_id"]): s[metric] for s in samples if s["filter"] == wanted}
    outside = next((n for n, value in values.items() if not (isinstance(value, SINGLE) and 0 <= value <= 1)), None)
    if outside is not None or metric in lower:
        raise InputError(
            "the task's metric is no share that is better the higher it is",
            row=outside,
            field=f"{task}, {metric}",
            found="a metric of which less is better" if outside is None else told(values[outside]),
            expected="a number from 0 to 1 of each example",
            remedy="name another with harness.metric",
        )
    return {number: float(value) for number, value in values.items()}


@cache
def _tasks(include_path: str | None, *, shipped: bool = True) -> Any:
    """The index of all tasks, or of one's own alone: the harness ships thousands of files, ten seconds' reading."""
    version()
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include_path, include_defaults=shipped, verbosity="ERROR")


@cache
def _task(name: str, include_path: str | None) -> Any:
    """One's own task comes before one that the harness ships under the same name."""
    manager = _tasks(include_path, shipped=False)
    if name not in manager.all_subtasks:
        manager = _tasks(include_path)
    from lm_eval.tasks import get_task_dict

    if name not in manager.all_subtasks:
        raise UsageError(
            "lm-evaluation-harness has no such task", field="harness.tasks", found=name, remedy="see `lm_eval ls tasks`"
        )
    try:
        return get_task_dict([name], manager)[name]
    except Exception as error:  # datasets, huggingface_hub and httpx each have their own
        raise InputError(
            "the task's data cannot be had",
            field=name,
            found=f"{type(error).__name__}: {first_line(error)}",
            remedy="check the network; a task file of your own (harness.include_path) can read a local file",
        ) from error
