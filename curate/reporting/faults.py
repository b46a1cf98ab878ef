"""What is wrong in an artefact, each fault as one plain sentence with some row numbers (0-based, of the file)."""

from __future__ import annotations

import polars as pl

from curate.pairs.identity import OF_OTHER_TEXTS, on_both_sides
from curate.pairs.schema import SUBSETS, WEIGHTS, Split

ROWS_NAMED = 5
LOGPS = ("ref_chosen_logps", "ref_rejected_logps", "null_chosen_logps", "null_rejected_logps")


def of_pairs(frame: pl.DataFrame) -> list[str]:
    empty = [
        _rows(
            frame,
            pl.col(name).list.len().fill_null(0).eq(0)
            | pl.col(name)
            .list.eval(pl.element().struct.field("content").fill_null("").str.strip_chars().eq(""))
            .list.any(),
            f"{name} is empty",
        )
        for name in ("prompt", "chosen", "rejected")
    ]
    both_sides = pl.col("split").n_unique().over("prompt_key") > 1
    torn = ~both_sides & on_both_sides(frame)
    return [
        *_rows(frame, pl.col("pair_id").is_duplicated(), "pair_id occurs more than once"),
        *_rows(frame, pl.col("pair_id").is_null() | pl.col("prompt_key").is_null(), "pair_id or prompt_key is null"),
        *_rows(frame, OF_OTHER_TEXTS, "pair_id is not that of the texts, as where they were edited"),
        *_rows(frame, pl.col("split").is_null(), "split is null"),
        *_rows(frame, both_sides, f"the prompt is on both sides of the split ({' and '.join(Split)})"),
        *_rows(frame, torn, "the prompt is on both sides of the split under another system turn"),
        *(fault for faults in empty for fault in faults),
        *_rows(frame, pl.col("chosen") == pl.col("rejected"), "chosen and rejected are the same"),
    ]


def of_scores(frame: pl.DataFrame) -> list[str]:
    found = [
        _rows(frame, pl.col(name).is_finite().fill_null(False).not_(), f"{name} is no finite number")
        for name in (*LOGPS, "chosen_pmi", "rejected_pmi", "pmi_gap")
    ]
    found += [_rows(frame, pl.col(name) > 0, f"{name} is positive, no log-probability") for name in LOGPS]
    found += [
        _rows(frame, pl.col(f"{side}_tokens").fill_null(0) <= 0, f"{side} has no tokens")
        for side in ("prompt", "chosen", "rejected")
    ]
    off = (pl.col("pmi_gap") - (pl.col("chosen_pmi") - pl.col("rejected_pmi"))).abs() > 1e-6
    found.append(_rows(frame, off, "pmi_gap is not chosen_pmi - rejected_pmi"))
    return [fault for faults in found for fault in faults]


def of_splits(frame: pl.DataFrame) -> list[str]:
    sizes = {name: int(frame[name].sum()) for name in SUBSETS}
    in_a_subset = pl.any_horizontal(*SUBSETS)
    return [
        *_rows(frame, in_a_subset & (pl.col("split") == Split.HELDOUT.value), "a held-out pair is in a subset"),
        *_rows(frame, pl.col("balanced") & pl.col("imbalanced"), "the pair is both balanced and imbalanced"),
        *([f"the subsets differ in size: {sizes}"] if len(set(sizes.values())) > 1 else []),
    ]


def of_weights(frame: pl.DataFrame) -> list[str]:
    faults = [
        _rows(frame, (pl.col(name).is_finite() & (pl.col(name) >= 0)).fill_null(False).not_(), f"{name} is no weight")
        for name in WEIGHTS
    ]
    return [fault for found in faults for fault in found]


def of_items(frame: pl.DataFrame) -> list[str]:
    return [
        *_rows(frame, pl.struct("suite", "item").is_duplicated(), "the item occurs more than once in its suite"),
        *_rows(frame, pl.col("harm").is_between(0, 1).not_(), "harm is not between 0 and 1"),
        *_rows(frame, pl.col("score").is_between(0, 1).not_(), "score is not between 0 and 1"),
    ]


def of_values(frame: pl.DataFrame) -> list[str]:
    twice = pl.struct("suite", "metric", "item").is_duplicated()
    return [
        *_rows(frame, twice, "the item occurs more than once in its metric"),
        *_rows(frame, pl.col("value").is_between(0, 1).fill_null(False).not_(), "value is not between 0 and 1"),
    ]


CHECKS = {
    "pairs": of_pairs,
    "scores": of_scores,
    "splits": of_splits,
    "weights": of_weights,
    "items": of_items,
    "values": of_values,
}


def _rows(frame: pl.DataFrame, wrong: pl.Expr, what: str) -> list[str]:
    rows = frame.select(pl.arg_where(wrong.fill_null(False))).to_series().to_list()
    if not rows:
        return []
    named = ", ".join(str(row) for row in rows[:ROWS_NAMED]) + (", …" if len(rows) > ROWS_NAMED else "")
    return [f"{what}: {len(rows):,} of {frame.height:,} rows (row {named})"]
