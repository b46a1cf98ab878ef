"""A model and suites -> an evaluation folder: what was answered and judged, the values, the metrics with intervals."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from curate import __version__
from curate.base import files, locks
from curate.base.errors import OutputError, few
from curate.base.progress import say
from curate.base.public import public
from curate.evaluation import sources, statistics
from curate.evaluation.items import RESULTS, VALUES
from curate.evaluation.record import EVALUATION, ITEMS_FILE, METRICS_FILE, VALUES_FILE, of_prompts, of_table
from curate.evaluation.suites.base import Metric, Suite
from curate.models.resolve import Model
from curate.project.params import EvaluateParams
from curate.project.params.evaluate import WATCHES

if TYPE_CHECKING:
    from curate.evaluation.bench import Workbench


def alone(out: Path, state: Path) -> AbstractContextManager[None]:
    """Within this block no other process of this state folder evaluates into `out`: the last would replace the first.

    Raises:
        locks.Held: another does.
    """
    place = hashlib.sha256(str(files.real(out)).encode()).hexdigest()[:16]
    return locks.held(state / "locks" / f"evaluate-{place}", f"evaluates into {out}")


def check_same(out: Path, model: Model, params: EvaluateParams) -> None:
    """For a folder that the user has not named: refuse to replace an evaluation of another model, tokenizer or
    template, or one by other suites or settings.

    Raises:
        OutputError: there is one.
    """
    file = out / METRICS_FILE
    if not file.is_file():
        return
    wanted = json.loads(json.dumps({"model": model.record(), "params": _settings(params)}))
    theirs, ours = (
        {"model": made.get("digest"), "tokenizer": made.get("tokenizer"), **(one.get("params") or {})}
        for one in (files.read_json_object(file), wanted)
        for made in (one.get("model") or {},)
    )
    if differing := [name for name in ours if ours[name] != theirs.get(name)]:
        raise OutputError(
            "another evaluation stands here already",
            file=out,
            field=few(differing),
            found=few([str(theirs.get(name)) for name in differing]),
            remedy=f"name another --out; --out {out} replaces it",
        )


def _settings(params: EvaluateParams) -> dict[str, Any]:
    """What an evaluation records of its params."""
    settings: dict[str, Any] = public(params.model_dump(exclude={*WATCHES, "judge_url", "attacker_url"}))
    return settings


def evaluate(
    model: Model,
    params: EvaluateParams,
    out: Path,
    state: Path,
    name: str,
    seed: int | None = None,
    made: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate one model on every suite of `params`; write `out`/items.parquet, values.parquet and metrics.json.

    What was generated and judged is kept in `state` by content: an interrupted evaluation goes on where it was when
    called again, and nothing is asked, or counted, twice.

    Args:
        name: of the arm, or `base`.
        seed: of the arm's training; None for a model that was not trained here.
        made: how the model was made, for the record.

    Raises:
        UsageError: a suite, its options or the judge are named wrongly.
        InputError: a source, the model or the judge cannot be used.
        OutputError: `out` cannot be written, or another process evaluates into it.
    """
    from curate.evaluation.bench import Workbench

    files.check_replaceable(out, EVALUATION)
    statistics.check_installed()
    loaded = [sources.load(named, params.limit, params.seed) for named in sources.parse(params)]
    with alone(out, state), closing(Workbench(model, params, state)) as bench:
        ran = [_run(one, bench, name) for one in loaded]
        record = bench.record()
        metrics = {
            "name": name,
            "seed": seed,
            "version": __version__,
            "model": model.record(),
            "made": public(dict(made or {})),
            "params": _settings(params),
            "with": record,
            "sources": {
                one.named.suite.name: {"name": public(one.named.source), "sha256": one.digest, "repeated": one.repeated}
                for one in loaded
            },
            "suites": {one.named.suite.name: found.about for one, found in zip(loaded, ran, strict=True)},
        }
        with files.replacing(out, EVALUATION) as folder:
            folder.mkdir()
            about = {"stage": "evaluate", "name": name, "seed": seed, "version": __version__}
            files.write_parquet(pl.concat([one.results for one in ran]), folder / ITEMS_FILE, about)
            files.write_parquet(pl.concat([one.values for one in ran]), folder / VALUES_FILE, about)
            files.write_json(metrics, folder / METRICS_FILE)
    return metrics


class Ran(NamedTuple):
    """What a suite came to."""

    results: pl.DataFrame  # items.RESULTS
    values: pl.DataFrame  # items.VALUES
    about: dict[str, Any]  # its entry in metrics.json


def _run(one: sources.Loaded, bench: Workbench, name: str) -> Ran:
    """Have a suite's items answered and judged."""
    suite = one.named.suite
    say(f"evaluate {name}: {suite.name}, {len(one.items):,} items")
    # The embedded sample, as a suite or as a source, is judged by what its generator knows.
    truth = sources.SAMPLE in (suite.name, one.named.source)
    bench.start(truth)
    found = suite.run(one.items, bench, one.named.options).with_columns(suite=pl.lit(suite.name))
    results = found.select(*RESULTS).cast(RESULTS)  # type: ignore[arg-type]
    tasks = {metric.needs for metric in suite.metrics if metric.needs and bench.can_judge(metric.needs)}
    values = values_of(suite, results, tasks)
    about = {
        **summary(suite, results, values, len(one.items)),
        **({"counts": dict(bench.counts)} if bench.counts else {}),
        "judge": bench.judging.record() if bench.judging and (truth or tasks) else None,
        "options": public(one.named.options.model_dump(mode="json")),
    }
    if no_room := int((results["finish"] == "too_long").sum()):
        say(f"{suite.name}: {no_room:,} of {results.height:,} items have no answer: no room in the model's context")
    return Ran(results, values, about)


def values_of(suite: Suite, results: pl.DataFrame, tasks: set[str]) -> pl.DataFrame:
    """VALUES of a suite's results: those metrics that need no judge, or one whose task is among `tasks`."""
    parts = []
    for metric in metrics_of(suite, results):
        if metric.needs is None or metric.needs in tasks:
            part = results.filter(True if metric.items is None else metric.items).select(
                suite=pl.lit(suite.name),
                metric=pl.lit(metric.name),
                item="item",
                cluster="cluster",
                value=metric.value.cast(pl.Float64).fill_null(metric.worst),
                judged=metric.value.is_not_null(),
            )
            parts.append(_worst_of_prompts(part, metric) if metric.per_prompt else part)
    return pl.concat(parts).cast(VALUES) if parts else pl.DataFrame(schema=VALUES)  # type: ignore[arg-type]


def _worst_of_prompts(values: pl.DataFrame, metric: Metric) -> pl.DataFrame:
    """One row a prompt, in place of its items: the worst value, judged where every item is."""
    worst = pl.col("value").max() if metric.better == "lower" else pl.col("value").min()
    return (
        values.group_by("suite", "metric", "cluster", maintain_order=True)
        .agg(worst, pl.col("judged").all(), item=pl.col("cluster").first())
        .select(*VALUES)
    )


def metrics_of(suite: Suite, results: pl.DataFrame) -> list[Metric]:
    """The suite's metrics; one that is `by_group` is followed by its like of each group of the results."""
    groups = results["group"].unique(maintain_order=True)
    return [
        each
        for metric in suite.metrics
        for each in (metric, *(_of_group(metric, group) for group in groups if metric.by_group))
    ]


def _of_group(metric: Metric, group: str) -> Metric:
    return metric._replace(name=f"{metric.name}, {group}", items=pl.col("group") == group, headline=False)


def summary(suite: Suite, results: pl.DataFrame, values: pl.DataFrame, items: int) -> dict[str, Any]:
    """What metrics.json says of a suite that was to have so many items."""
    there = set(values["metric"].unique())
    unjudged = Counter(results["unjudged"].drop_nulls().to_list())
    return {
        "about": suite.about,
        "items": results.height,
        "left_out": items - results.height,
        "unjudged": dict(sorted(unjudged.items())),
        "cut_at_max_tokens": int((results["finish"] == "length").sum()),
        "tokens": _lengths(results),
        "metrics": {
            metric.name: {
                **estimate(values.filter(metric=metric.name))._asdict(),
                "better": metric.better,
                "headline": metric.headline,
                "about": metric.about,
            }
            for metric in metrics_of(suite, results)
            if metric.name in there
        },
    }


def _lengths(results: pl.DataFrame) -> dict[str, float]:
    """Mean length of the answers of each group, tokens; of those that were counted, empty ones too."""
    answered = results.filter(pl.col("finish").is_in(("stop", "length")))
    means = answered.group_by("group", maintain_order=True).agg(pl.col("tokens").mean())
    return {group or "all": round(mean, 2) for group, mean in means.iter_rows()}


def estimate(values: pl.DataFrame) -> statistics.Estimate:
    """The estimate of one metric from its values (VALUES), one model's."""
    prompts = of_prompts(values)
    unjudged = int((~values["judged"]).sum())
    return of_table(prompts.select("value").to_numpy(), prompts["items"].to_numpy())._replace(unjudged=unjudged)
