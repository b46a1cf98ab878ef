"""HH-RLHF: two full transcripts that share everything but their last reply."""

from __future__ import annotations

from curate.pairs.sources.base import Parsed, Record, text
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE, SIDES, finished, transcripts_parted


def parse(record: Record) -> Parsed:
    chosen, rejected = (text(record, name) for name in SIDES)
    return finished(record, *transcripts_parted(chosen, rejected, *SIDES), *SIDES)


def _looks(record: Record) -> bool:
    sides = record["chosen"], record["rejected"]
    return (
        "prompt" not in record
        and all(isinstance(side, str) for side in sides)
        and any(side.lstrip().startswith(("Human:", "Assistant:")) for side in sides)
    )


FORMAT = Format(
    "hh",
    "HH-RLHF: chosen, rejected as transcripts of \\n\\nHuman: and \\n\\nAssistant: turns",
    fields("chosen rejected"),
    parse,
    reads=BESIDE,
    looks=_looks,
    card="https://huggingface.co/datasets/Anthropic/hh-rlhf",
)
