"""Tulu 3's preference mixtures: whole conversations beside their prompt."""

from __future__ import annotations

from curate.pairs.sources import trl
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE

FORMAT = Format(
    "tulu",
    "Tulu 3: id, prompt, chosen, rejected (conversations), source",
    fields("id prompt chosen rejected source", "id prompt chosen rejected"),
    trl.parse,
    reads=BESIDE,
    looks=trl.in_turns,
    card="https://huggingface.co/datasets/allenai/llama-3.1-tulu-3-8b-preference-mixture",
)
