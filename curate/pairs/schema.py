"""The pair: the one place that spells a column name, its dtype and its unit.

Every artefact is the one before it, same rows plus columns, so that one file is enough for the next step and
for a reader: pairs -> scores -> splits -> weights. Names that TRL has are TRL's (`prompt`, `chosen`,
`rejected`, `ref_chosen_logps`, `ref_rejected_logps`), so the file loads straight into its trainers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import polars as pl

from curate.base.errors import InputError, few


class QueryType(StrEnum):
    """Whether answering the prompt would itself be harmful (docs/columns.md); `unknown` where the source is silent."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    UNKNOWN = "unknown"


class Split(StrEnum):
    """Which side of the prompt-wise split a pair is on."""

    TRAIN = "train"
    HELDOUT = "heldout"


MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
"""A conversation, as `datasets` and TRL store it."""

PAIRS: dict[str, pl.DataType | type[pl.DataType]] = {
    "pair_id": pl.String,
    "prompt": MESSAGES,
    "chosen": MESSAGES,
    "rejected": MESSAGES,
    "query_type": pl.Enum([t.value for t in QueryType]),
    "chosen_safe": pl.Boolean,
    "rejected_safe": pl.Boolean,
    "prompt_key": pl.String,
    "split": pl.Enum([s.value for s in Split]),
    "source": pl.String,
    "source_format": pl.String,
    "source_row": pl.Int64,
}

RATINGS: dict[str, pl.DataType | type[pl.DataType]] = {
    "chosen_reward": pl.Float64,
    "rejected_reward": pl.Float64,
    "chosen_cost": pl.Float64,
    "rejected_cost": pl.Float64,
}
OPTIONAL: dict[str, pl.DataType | type[pl.DataType]] = RATINGS | {"margin": pl.Float64}
"""Optional columns of the pairs, each there where the source or `curate rate` gives it; null on a row without."""

GAPS: dict[str, pl.DataType | type[pl.DataType]] = {"subset_gap": pl.Float64, "balance_gap": pl.Float64}
"""The d that `split` and `weigh` went by; optional: versions before went by pmi_gap and wrote neither."""

RELABELLED = "relabelled"
"""Of pairs in memory: whether `curate.selection.relabelling` has turned the pair round."""

REJECTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "source": pl.String,
    "source_row": pl.Int64,  # 0-based
    "rule": pl.String,  # the name of the rule that refused the row
    "reason": pl.String,  # one sentence, without the row's text
    "row": pl.String,  # the row as JSON, so that nothing is lost
}

SCORES: dict[str, pl.DataType | type[pl.DataType]] = {
    "prompt_tokens": pl.Int32,
    "chosen_tokens": pl.Int32,
    "rejected_tokens": pl.Int32,
    "ref_chosen_logps": pl.Float64,
    "ref_rejected_logps": pl.Float64,
    "null_chosen_logps": pl.Float64,
    "null_rejected_logps": pl.Float64,
    "chosen_pmi": pl.Float64,
    "rejected_pmi": pl.Float64,
    "pmi_gap": pl.Float64,
}

SUBSETS = ("balanced", "imbalanced", "random")
SPLITS: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(SUBSETS, pl.Boolean)

WEIGHTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "chosen_weight": pl.Float64,
    "rejected_weight": pl.Float64,
    "pair_scale": pl.Float64,
}

LARGEST = 1e100
"""Of a number's magnitude: of larger ones squares and their sums may be infinite."""

STAGES = {"pairs": PAIRS, "scores": SCORES, "splits": SPLITS, "weights": WEIGHTS}
MADE_BY = {"pairs": "prepare", "scores": "score", "splits": "split", "weights": "weigh"}
RAW = f"raw data becomes pairs by `curate {MADE_BY['pairs']}`"
"""What to do with data that no step has read yet."""
PARQUET = b"PAR1"
"""How a Parquet file begins."""


class Meaning(NamedTuple):
    """What a column says, in one line, and its unit ("" where it has none)."""

    what: str
    unit: str = ""


MEANINGS = {
    "pair_id": Meaning("sha256 of prompt, chosen and rejected, 32 hex digits"),
    "prompt": Meaning("the conversation so far; ends with a user turn"),
    "chosen": Meaning("the preferred response, one assistant turn"),
    "rejected": Meaning("the other response, one assistant turn"),
    "query_type": Meaning(
        "safe, unsafe or unknown: whether answering would itself be harmful; PKU's rule: unsafe where exactly one "
        "response is safe, safe where both are"
    ),
    "chosen_safe": Meaning("whether the chosen response is safe; null where the source does not say"),
    "rejected_safe": Meaning("whether the rejected response is safe; null where the source does not say"),
    "prompt_key": Meaning("hash of the normalised prompt"),
    "split": Meaning("train or heldout; a prompt, whatever its system turns, is on one side only"),
    "source": Meaning("where the row came from: a file's name, a Hub id, or sample"),
    "source_format": Meaning("the format it was read as"),
    "source_row": Meaning("the row there, from 0"),
    "chosen_reward": Meaning("helpfulness of the chosen response, higher is better; null where unknown", "the rater's"),
    "rejected_reward": Meaning("helpfulness of the rejected response; null where unknown", "the rater's"),
    "chosen_cost": Meaning("harmfulness of the chosen response, higher is worse; null where unknown", "the rater's"),
    "rejected_cost": Meaning("harmfulness of the rejected response; null where unknown", "the rater's"),
    "margin": Meaning("how much better the chosen response is, where the source gives that alone", "the rater's"),
    "prompt_tokens": Meaning("length of the prompt, chat template included", "tokens"),
    "chosen_tokens": Meaning("scored tokens of the chosen response, end of turn included", "tokens"),
    "rejected_tokens": Meaning("scored tokens of the rejected response, end of turn included", "tokens"),
    "ref_chosen_logps": Meaning("log π_ref(y_w given x), summed over the response", "nats"),
    "ref_rejected_logps": Meaning("log π_ref(y_l given x), summed", "nats"),
    "null_chosen_logps": Meaning("log π_ref(y_w given null), summed", "nats"),
    "null_rejected_logps": Meaning("log π_ref(y_l given null), summed", "nats"),
    "chosen_pmi": Meaning("mutual information MI(x, y_w) of query and chosen response", "nats/token"),
    "rejected_pmi": Meaning("mutual information MI(x, y_l) of query and rejected response", "nats/token"),
    "pmi_gap": Meaning("chosen_pmi − rejected_pmi", "nats/token"),
    "subset_gap": Meaning(
        "d that the subsets were drawn by: pmi_gap, or another form of it (split.normalisation) on its scale",
        "nats/token",
    ),
    "balance_gap": Meaning(
        "d that the weights were made of: pmi_gap, or another form of it (weigh.normalisation) on its scale",
        "nats/token",
    ),
    "balanced": Meaning("in the subset of small gaps; false on held-out pairs"),
    "imbalanced": Meaning("in the subset of large gaps; false on held-out pairs"),
    "random": Meaning("in a random subset of the same size; false on held-out pairs"),
    "chosen_weight": Meaning("w_w of the loss; 1 is DPO"),
    "rejected_weight": Meaning("w_l of the loss; 1 is DPO"),
    "pair_scale": Meaning("s of the loss"),
}
"""Of every column of the pairs and what later stages add; docs/columns.md and a dataset's card have it from here."""


def columns(*stages: str) -> dict[str, pl.DataType | type[pl.DataType]]:
    """The columns that the named stages add, in order."""
    return {name: dtype for stage in stages for name, dtype in STAGES[stage].items()}


def table(
    names: Iterable[str],
    dtypes: Mapping[str, pl.DataType | type[pl.DataType]] | None = None,
    meanings: Mapping[str, Meaning] = MEANINGS,
) -> str:
    """A Markdown table of the columns named: name, type, unit and meaning; of the pairs' unless `dtypes` says."""
    dtypes = dtypes or columns(*STAGES) | OPTIONAL | GAPS
    rows = (f"| {name} | {_written(dtypes[name])} | {meanings[name].unit} | {meanings[name].what} |" for name in names)
    return "\n".join(["| column | type | unit | meaning |", "|---|---|---|---|", *rows])


def _written(dtype: pl.DataType | type[pl.DataType]) -> str:
    if dtype == MESSAGES:
        return "list of {role, content}"
    return "string" if isinstance(dtype, pl.Enum) else str(dtype).lower()


def check_columns(frame: pl.DataFrame | pl.LazyFrame, *stages: str, file: str | Path) -> None:
    """Raise `InputError` unless `frame` has every column of `stages` with its dtype; extra columns are kept.

    The optional ones (`OPTIONAL`, `GAPS`) that are there are checked with `pairs` and `scores`.
    """
    have = frame.collect_schema()
    for stage in stages:
        missing = [name for name in STAGES[stage] if name not in have]
        if missing:
            raise InputError(
                f"this is no {stage} file: it lacks columns that `curate {MADE_BY[stage]}` writes",
                file=file,
                found=few([f"no {name}" for name in missing], 4),
                remedy=f"run `curate {MADE_BY[stage]}` first and give its output here",
            )
        may_be = {"pairs": OPTIONAL, "scores": GAPS}.get(stage, {})
        optional = {name: dtype for name, dtype in may_be.items() if name in have}
        for name, dtype in (STAGES[stage] | optional).items():
            if have[name] != dtype:
                raise InputError(
                    f"column {name} has the wrong type",
                    file=file,
                    field=name,
                    found=have[name],
                    expected=dtype,
                    remedy=f"write the file with `curate {MADE_BY[stage]}`, or cast the column",
                )
