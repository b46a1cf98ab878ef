"""Whether a summary of `curate prepare` is of the pairs that it is given with: else it tells of faults that are not
theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from curate.base.errors import InputError

OURS = "canonical"
"""The format of files whose rows keep the source and the row that they came with."""


def ids_digest(pairs: pl.DataFrame) -> str:
    """sha256 over the pairs' ids, sorted: which pairs they are, in whatever order."""
    return hashlib.sha256("\n".join(pairs["pair_id"].sort()).encode()).hexdigest()


def check_of_these_pairs(prepared: Mapping[str, Any], pairs: pl.DataFrame, path: str | Path) -> None:
    """Raise `InputError` where the summary is of other pairs.

    Later steps may have set pairs aside: where all that were kept are there, their ids say it; else what can be
    told of a part of them, by source, counts and rows.

    Args:
        prepared: the summary, which was read from `path`; older ones have no digest of ids.
        pairs: columns schema.PAIRS.
    """
    differing = _differing(prepared, pairs)
    if differing is None:
        return
    found, expected = differing
    remedy = "give the pairs.prepare.json that was written beside these pairs, or none"
    raise InputError("the summary is of other pairs", file=path, found=found, expected=expected, remedy=remedy)


def _differing(prepared: Mapping[str, Any], pairs: pl.DataFrame) -> tuple[str, str] | None:
    """What the summary has and what the pairs have, where that cannot be of one run."""
    kept, read, source = (prepared.get(name) for name in ("kept", "read", "source"))
    sources = sorted(pairs["source"].drop_nulls().unique())
    last = pairs["source_row"].max()
    as_read = prepared.get("format") != OURS
    if as_read and source is not None and set(sources) - {source}:
        return f"of {source}", f"of {', '.join(sources)}"
    if isinstance(kept, int) and pairs.height > kept:
        return f"{kept:,} pairs kept", f"at least the {pairs.height:,} that are there"
    if as_read and isinstance(read, int) and isinstance(last, int) and last >= read:
        return f"{read:,} rows read", f"at least {last + 1:,}: a pair is of row {last:,}"
    if "pair_ids" in prepared and pairs.height == kept:
        same = prepared["pair_ids"] == ids_digest(pairs)
        return None if same else (f"{kept:,} pairs with other ids", f"the {kept:,} that are there")
    return _of_a_group(prepared, pairs)


def _of_a_group(prepared: Mapping[str, Any], pairs: pl.DataFrame) -> tuple[str, str] | None:
    """The same, of a query type and a side of the split of which more pairs are there than were kept."""
    counts = prepared.get("pairs")
    if not isinstance(counts, Mapping):
        return None
    for query_type, split, there in pairs.group_by("query_type", "split").len().sort("query_type", "split").iter_rows():
        try:
            kept = counts[query_type][split]["pairs"]
        except (KeyError, TypeError):
            kept = 0
        if there > kept:
            group = f"pairs of query type {query_type} in {split}"
            return f"{kept:,} {group}", f"at least the {there:,} that are there"
    return None
