"""Tables of the artefacts' columns; each takes a frame that has the columns of the stage it is named after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from curate.base.errors import few
from curate.base.public import last_part
from curate.pairs.marks import MARKS
from curate.pairs.schema import GAPS, SUBSETS, WEIGHTS, Split
from curate.reporting import words
from curate.reporting.table import Cell, Table, from_frame
from curate.selection import measure
from curate.selection.gap import used
from curate.selection.length import explained

SIDES = {Split.TRAIN: "train", Split.HELDOUT: "held-out"}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def pair_counts(frame: pl.DataFrame) -> Table:
    """Query type x side of the prompt-wise split; a prompt counts once."""
    counts = [
        *((pl.col("split") == side.value).sum().alias(f"{SIDES[side]} pairs") for side in Split),
        pl.len().alias("pairs"),
        pl.col("prompt_key").n_unique().alias("prompts"),
    ]
    by_type = frame.group_by("query_type").agg(counts).sort("query_type").cast({"query_type": pl.String})
    total = frame.select(pl.lit("all").alias("query_type"), *counts)
    return from_frame("Pairs by query type", _titled(pl.concat([by_type, total], how="vertical_relaxed")))


def sources(frame: pl.DataFrame) -> Table:
    grouped = frame.group_by("source", "source_format").agg(pl.len().alias("pairs")).sort("source", "source_format")
    return from_frame("Sources", grouped.rename({"source_format": "format"}))


def lengths(frame: pl.DataFrame) -> Table:
    """Characters of every text and, where scored, its tokens."""
    characters = frame.select(
        pl.col(name).list.eval(pl.element().struct.field("content").str.len_chars()).list.sum().alias(name)
        for name in ("prompt", "chosen", "rejected")
    )
    tokens = [name for name in ("prompt_tokens", "chosen_tokens", "rejected_tokens") if name in frame.columns]
    measured = [
        *(_count_row(f"{name}, characters", characters[name]) for name in characters.columns),
        *(_count_row(f"{name.removesuffix('_tokens')}, tokens", frame[name]) for name in tokens),
    ]
    return Table("Lengths", _QUANTILE_COLUMNS, measured)


def pmi_quantiles(frame: pl.DataFrame) -> Table:
    """Both sides' MI and the gap, by query type; nats/token; numbers that are not finite are left out."""
    rows = [
        _quantile_row(f"{label}, {query_type}", part[column])
        for query_type, part in by_query_type(frame)
        for column, label in (("chosen_pmi", "chosen"), ("rejected_pmi", "rejected"), ("pmi_gap", "gap"))
    ]
    return Table("Mutual information, nats/token", _QUANTILE_COLUMNS, rows)


def gap_signs(frame: pl.DataFrame) -> Table:
    """How often each response has the higher MI, as shares of the pairs whose gap is finite."""
    gap = pl.col("pmi_gap").filter(pl.col("pmi_gap").is_finite())
    measures = [
        gap.len().alias("pairs"),
        (gap > 0).mean().alias("chosen higher"),
        (gap < 0).mean().alias("rejected higher"),
        (gap == 0).mean().alias("equal"),
        gap.mean().alias("mean gap"),
        gap.abs().mean().alias("mean |gap|"),
    ]
    by_type = frame.group_by("query_type").agg(measures).sort("query_type").cast({"query_type": pl.String})
    total = frame.select(pl.lit("all").alias("query_type"), *measures)
    table = pl.concat([by_type, total], how="vertical_relaxed")
    return from_frame("Which response has the higher mutual information", _titled(table))


def length_shares(frame: pl.DataFrame) -> Table:
    """How much of each gap in the file is length, over the training pairs (`curate.selection.length`)."""
    columns = [name for name in ("pmi_gap", *GAPS) if name in frame.columns]
    rows: list[list[Cell]] = [[name, *explained(frame, name)] for name in columns]
    return Table("Share of the gap's variance that length explains", ["", "of the gap", "of |gap|", "pairs"], rows)


def subset_sizes(frame: pl.DataFrame) -> Table:
    column = used(frame, "subset_gap")
    gap = pl.col(column)
    size = "|gap|" if frame[column].equals(frame["pmi_gap"]) else f"|{words.plain('subset_gap')}|"
    rows = [
        frame.filter(pl.col(name)).select(
            pl.lit(words.subset(name)).alias("subset"),
            pl.len().alias("pairs"),
            *((pl.col("query_type") == name).sum().alias(name) for name, _ in by_query_type(frame)),
            gap.abs().mean().alias(f"mean {size}"),
            gap.abs().max().alias(f"largest {size}"),
            (pl.col("pmi_gap") > 0).mean().alias("chosen higher"),
        )
        for name in SUBSETS
    ]
    return from_frame("Subsets of the training pairs", pl.concat(rows, how="vertical_relaxed"))


def weight_quantiles(frame: pl.DataFrame, named: Callable[[str], str] = str) -> Table:
    """Quantiles of the weights, a row a column.

    Args:
        named: how a column is called in the table.
    """
    rows = [[*_quantile_row(named(name), frame[name]), frame[name].sum()] for name in WEIGHTS]
    return Table("Weights", [*_QUANTILE_COLUMNS, "sum"], rows)


def reject_rules(frame: pl.DataFrame) -> Table:
    """Refused rows by rule, with some of their 0-based row numbers in the source."""
    grouped = (
        frame.group_by("rule")
        .agg(
            pl.len().alias("rows"),
            pl.col("source_row").sort().head(5).cast(pl.String).str.join(", ").alias("for example rows"),
            pl.col("reason").sort_by("source_row").first().alias("reason of the first"),
        )
        .sort(["rows", "rule"], descending=[True, False])
    )
    return from_frame("Refused rows by rule", grouped)


def prepared(prepare: Mapping[str, Any]) -> list[Table]:
    """Of prepare.json the rows refused, by rule, and what was noted of those kept."""
    rules, marks = (prepare.get(name) for name in ("rules", "marks"))
    found = []
    if isinstance(rules, Mapping) and rules:
        rows: list[list[Cell]] = []
        for name, rule in rules.items():
            known = rule if isinstance(rule, Mapping) else {"count": rule}
            example = ", ".join(f"{row:,}" for row in known.get("first_rows", []))
            rows.append([words.plain(name), known.get("count"), str(known.get("meaning", "–")), example or None])
        found.append(Table("Rows refused or merged", ["rule", "rows", "meaning", "for example rows"], rows))
    if isinstance(marks, Mapping) and marks:
        noted: list[list[Cell]] = [[MARKS.get(name, words.plain(name)), count] for name, count in marks.items()]
        found.append(Table("Kept, and worth knowing", ["", "count"], noted))
    return found


def mean_differences(smd: Mapping[str, Any]) -> Table:
    """The standardised mean differences: a row two subsets, a column a confounder."""
    confounders = list(dict.fromkeys(name for found in smd.values() for name in found))
    rows: list[list[Cell]] = [
        [words.subset(names), *(found.get(name) for name in confounders)] for names, found in smd.items()
    ]
    return Table("Standardised mean differences", ["compared", *map(words.plain, confounders)], rows)


def answers(items: pl.DataFrame) -> Table:
    """An evaluation's items by suite and part: how many were answered, and how the answers ended and were judged."""
    grouped = items.group_by("suite", "group", maintain_order=True).agg(
        pl.len().alias("items"),
        pl.col("response").is_not_null().sum().alias("answered"),
        (pl.col("finish") == "length").sum().alias("cut at max_tokens"),
        pl.col("tokens").filter(pl.col("finish").is_in(("stop", "length"))).mean().alias("mean tokens"),
        pl.col("refusal").is_not_null().sum().alias("refusal judged"),
        pl.col("harm").is_not_null().sum().alias("harm judged"),
        pl.col("unjudged").is_not_null().sum().alias("without a verdict"),
    )
    return from_frame("Answers", grouped)


def metric_values(values: pl.DataFrame) -> Table:
    """An evaluation's values by suite and metric; their mean weighs items, not prompts."""
    grouped = values.group_by("suite", "metric", maintain_order=True).agg(
        pl.len().alias("items"),
        pl.col("cluster").n_unique().alias("prompts"),
        pl.col("value").mean().alias("mean over items"),
        (~pl.col("judged")).sum().alias("without a verdict"),
    )
    return from_frame("Metrics", grouped)


def by_query_type(frame: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The query types present, in the schema's order, each with its rows."""
    present = frame["query_type"].unique().sort().drop_nulls().to_list()
    return [(name, frame.filter(pl.col("query_type") == name)) for name in present]


_QUANTILE_COLUMNS = ["", "n", "mean", "min", *(f"{q:.0%}" for q in QUANTILES), "max"]


def _quantile_row(name: str, values: pl.Series) -> list:
    numbers = values.cast(pl.Float64)
    numbers = numbers.filter(numbers.is_finite())
    quantiles = [numbers.quantile(q, interpolation="linear") for q in QUANTILES]
    return [name, len(numbers), numbers.mean(), numbers.min(), *quantiles, numbers.max()]


def _count_row(name: str, values: pl.Series) -> list:
    """As _quantile_row, to the nearest whole number; the mean keeps its fraction."""
    row = _quantile_row(name, values)
    return [*row[:3], *(None if cell is None else round(cell) for cell in row[3:])]


def _titled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.rename({"query_type": "query type"})


def title(frame: pl.DataFrame) -> str:
    """A report's, by where its pairs came from."""
    sources = frame["source"].drop_nulls().unique(maintain_order=True) if "source" in frame.columns else []
    named = ["the embedded sample" if name == "sample" else last_part(name) for name in sources]
    return f"B-DPO on {few(named, 3) if named else 'weighted pairs'}"


def made_by(provenance: Mapping[str, Any]) -> Table:
    """The steps that made a file, the last first, with their settings."""
    rows: list[list[Cell]] = [
        [str(step.get("stage", "–")), str(step.get("version") or step.get("curate", "–")), _settings(step)]
        for step in measure.steps(provenance)
    ]
    return Table("Made by", ["step", "version", "settings"], rows)


def _settings(step: Mapping[str, Any]) -> str:
    """NAME VALUE, of everything in a step's record, that of its `params` without the word."""

    def parts(value: Mapping[str, Any], prefix: str = "") -> list[str]:
        said = []
        for name, item in value.items():
            if isinstance(item, Mapping):
                said += parts(item, "" if name == "params" else f"{name} ")
            elif item not in (None, [], ""):
                shown = ", ".join(map(str, item)) if isinstance(item, list) else item
                said.append(f"{prefix}{name} {shown}")
        return said

    return "; ".join(
        parts({name: item for name, item in step.items() if name not in ("stage", "version", "curate", "from")})
    )
