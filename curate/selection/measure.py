"""How the MI behind a file was measured, as its provenance says: null prompt and form of the gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from curate.selection.length import Explained

PER_TOKEN = "per_token"
AS_SPLIT = "as_split"
OWN_IN_THE_MEAN = "contrastive, own prompt in the mean"
SATURATED = (
    "the contrastive null prompt of these scores had each pair's own prompt in the mean, so that MI per token is "
    "mostly log(K + 1) over the response's length; `curate score` makes them anew"
)
HELDOUT_IN_THE_MEAN = "contrastive, held-out prompts in the mean"
LEAKED = (
    "the contrastive null prompts of these scores were drawn from the held-out prompts, too, so that the gaps and "
    "weights of training pairs depend on what is held out; `curate score` makes them anew"
)
WARNINGS = {OWN_IN_THE_MEAN: SATURATED, HELDOUT_IN_THE_MEAN: LEAKED}
OF_ALL_PROMPTS = "other prompts"  # what scores said that their mean is over, before it was training prompts alone


def steps(provenance: Any) -> Iterator[dict[str, Any]]:
    """The records of a provenance, from the last step to the first."""
    while isinstance(provenance, dict) and provenance:
        yield provenance
        provenance = provenance.get("from")


def model(provenance: Any) -> dict[str, Any]:
    """The record of the model that scored the pairs; empty where there is none."""
    return next((step["model"] for step in steps(provenance) if isinstance(step.get("model"), dict)), {})


def null_prompt(provenance: Any) -> str | None:
    """empty_user, bos, contrastive, or one of WARNINGS for what versions before called contrastive; None: not said."""
    for step in steps(provenance):
        if step.get("stage") == "score":
            name = _params(step).get("null_prompt")
            return _contrastive(step.get("contrastive")) if name == "contrastive" else name
    return None


def _contrastive(said: Any) -> str:
    """What `contrastive` means in scores that say this of it."""
    if not isinstance(said, Mapping):
        return OWN_IN_THE_MEAN
    return HELDOUT_IN_THE_MEAN if said.get("mean_over") == OF_ALL_PROMPTS else "contrastive"


def warnings(provenance: Any, summary: Mapping[str, Any] | None = None, wider: str = "") -> list[str]:
    """A sentence each: scores that are not what their null prompt's name means now; a gap that is in part length;
    subsets of pairs that differ in length.

    Args:
        summary: split.json or weigh.json.
        wider: how subsets are matched in total length, too, as the reader says it.
    """
    null = null_prompt(provenance)
    found = [WARNINGS[null]] if null in WARNINGS else []
    share = Explained(**summary["length_explains"]).warning() if summary else None
    return [*found, *(one for one in (share, _apart(summary or {}, wider)) if one)]


APART = 0.25
"""A standardised mean difference from which on two subsets are told to differ. [ours]"""


def _apart(summary: Mapping[str, Any], wider: str) -> str | None:
    """A sentence where pairs of D_balanced and of D_imbalanced differ in how long they are."""
    smd = (summary.get("smd") or {}).get("balanced-imbalanced", {}).get("length")
    if smd is None or abs(smd) < APART:
        return None
    return (
        f"pairs of D_balanced are {'longer' if smd > 0 else 'shorter'} than those of D_imbalanced (standardised mean "
        f"difference {smd:.2f} of the tokens of both responses){f'; {wider} holds that equal' if wider else ''}"
    )


GAP_OF = {"split": "subset_gap", "weigh": "balance_gap"}
"""Which step writes d into which column."""


def forms(provenance: Any) -> dict[str, str]:
    """The normalisation of the columns subset_gap and balance_gap, of each whose step is in the record.

    A record older than the choice has none: it was per_token.
    """
    found: dict[str, str] = {}
    for step in steps(provenance):
        if column := GAP_OF.get(str(step.get("stage"))):
            found.setdefault(column, str(_params(step).get("normalisation") or PER_TOKEN))
    return found


def normalisation(provenance: Any) -> str:
    """The form that subsets were drawn by; per_token where there are none."""
    return forms(provenance).get("subset_gap", PER_TOKEN)


def _params(step: Mapping[str, Any]) -> Mapping[str, Any]:
    params = step.get("params")
    return params if isinstance(params, Mapping) else {}
