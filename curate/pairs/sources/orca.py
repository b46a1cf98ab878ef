"""Orca DPO: the prompt is called `question`; and rows that call it `query`."""

from __future__ import annotations

from curate.pairs.sources.alpaca import history
from curate.pairs.sources.base import Parsed, Record
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE, answered, asked


def parse(record: Record) -> Parsed:
    return answered(record, asked(record, "question"))


def parse_query(record: Record) -> Parsed:
    return answered(record, [*history(record), *asked(record, "query")])


FORMAT = Format(
    "orca",
    "Orca DPO (Intel): question, chosen, rejected; optional system",
    fields("question chosen rejected"),
    parse,
    reads=BESIDE,
    card="https://huggingface.co/datasets/Intel/orca_dpo_pairs",
)
QUERY = Format(
    "query",
    "query, chosen, rejected; optional system, history",
    fields("query chosen rejected"),
    parse_query,
    reads=BESIDE | {"history"},
    lists=frozenset({"history"}),
)
