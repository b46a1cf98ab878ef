"""Skywork-Reward preferences: two whole conversations and where they are from (v0.1 and v0.2, by their cards)."""

from __future__ import annotations

from curate.pairs.sources import trl
from curate.pairs.sources.format import Format, fields
from curate.pairs.sources.replies import BESIDE

FORMAT = Format(
    "skywork",
    "Skywork-Reward: chosen, rejected (conversations), source",
    fields("chosen rejected source"),
    trl.parse,
    reads=BESIDE,
    looks=lambda record: "prompt" not in record and trl.in_turns(record),
    card="https://huggingface.co/datasets/Skywork/Skywork-Reward-Preference-80K-v0.2",
)
