"""What the page holds of the pairs, packed: every pair's numbers and id, and the texts of some.

Texts are compressed, so that the page's source cannot be searched or indexed for what a pair says; the page's
script unpacks a block of them when one is asked for.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate.base.public import without_folders
from curate.pairs.schema import WEIGHTS, Split
from curate.reporting.figures import mi_limits

BLOCK = 64
"""Pairs whose texts are unpacked together: less compresses worse, more is unpacked in vain."""
LONGEST_TEXT = 4000
"""Characters of a text that the page holds."""
PARTS = ("prompt", "chosen", "rejected")
NO_TEXT = -1


class Embedded(NamedTuple):
    """`record` is the JSON that the page's script reads; `texts` has a row's number among the texts, if it is there."""

    record: dict[str, Any]
    texts: dict[int, int]


def embedded(frame: pl.DataFrame, first: Sequence[int], most: int) -> Embedded:
    """Pack pairs whose MI is finite: about 65 bytes a pair before base64, texts apart.

    The record holds, base64 of zlib's format: `numbers`, the `columns` one after the other, little-endian (both MI
    are the file's own doubles, so that bounds select here what they select there); `ids`, a JSON list; `texts`,
    blocks of `block` pairs, each a JSON list of [prompt, chosen, rejected]. Besides: `pairs`, the `limits` of both
    axes (nats/token), and the names that the codes of query_type, side and source stand for.

    Args:
        first: rows whose texts are wanted most.
        most: pairs whose texts are held.
    """
    rows = text_rows(frame.height, first, most)
    places = {row: place for place, row in enumerate(rows)}
    place_of = np.full(frame.height, NO_TEXT)
    place_of[rows] = np.arange(len(rows))
    types, query_type = _coded(frame["query_type"])
    sides, side = _coded(frame["split"])
    sources, source = _coded(frame["source"])
    doubles = {name: frame[name].to_numpy() for name in ("rejected_pmi", "chosen_pmi")}
    doubles["source_row"] = frame["source_row"].cast(pl.Float64).to_numpy()
    singles = {name: frame[name].to_numpy() for name in WEIGHTS}
    codes = {"query_type": query_type, "side": side, "source": source, "text": place_of}
    kinds = {"f8": doubles, "f4": singles, "i4": codes}
    parts = [(name, kind, values) for kind, part in kinds.items() for name, values in part.items()]
    texts = _texts(frame[rows])
    record = {
        "pairs": frame.height,
        "limits": mi_limits(frame),
        "query_types": types,
        "sides": ["held-out" if name == Split.HELDOUT else name for name in sides],
        "sources": [without_folders(name) for name in sources],
        "columns": [[name, kind] for name, kind, _ in parts],
        "numbers": _packed(b"".join(values.astype(f"<{kind}").tobytes() for _, kind, values in parts)),
        "ids": _packed(_json(frame["pair_id"].to_list())),
        "block": BLOCK,
        "texts": [_packed(_json(texts[start : start + BLOCK])) for start in range(0, len(texts), BLOCK)],
    }
    return Embedded(record, places)


def text_rows(height: int, first: Sequence[int], most: int) -> list[int]:
    """Of `height` rows `most` at most: `first`, then a draw of the others (its seed is fixed: 0) in their order."""
    rows = list(first[:most])
    others = np.setdiff1d(np.arange(height), rows)
    drawn = np.random.default_rng(0).choice(others, size=min(most - len(rows), others.size), replace=False)
    return [*rows, *np.sort(drawn).tolist()]


def _texts(frame: pl.DataFrame) -> list[list[str]]:
    """[prompt, chosen, rejected] of every row, each cut to LONGEST_TEXT."""
    content = pl.element().struct.field("content").fill_null("")
    turn = {"prompt": pl.format("[{}] {}", pl.element().struct.field("role").fill_null(""), content)}
    whole = frame.select(pl.col(part).list.eval(turn.get(part, content)).list.join("\n\n") for part in PARTS)
    left = pl.col(*PARTS).str.len_chars().cast(pl.Int64) - LONGEST_TEXT
    cut = pl.format("{} … ({} more characters)", pl.col(*PARTS).str.head(LONGEST_TEXT), left)
    return [list(row) for row in whole.select(pl.when(left > 0).then(cut).otherwise(pl.col(*PARTS))).rows()]


def _coded(values: pl.Series) -> tuple[list[str], np.ndarray]:
    """The names that occur (– for null) and each row's number among them."""
    written = values.cast(pl.String).fill_null("–")
    names = list(dict.fromkeys(values.unique().sort().cast(pl.String).fill_null("–")))
    return names, written.replace_strict(names, range(len(names)), return_dtype=pl.Int32).to_numpy()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()
