"""Rules that refuse a row: each has a name, a meaning and, for each row it refuses, a reason.

The order is that of `RULES`, and a row is refused by the first rule that holds. The first six are found
while a record is parsed (curate.pairs.sources); the others are expressions on the frame of parsed pairs, which has
the columns of `curate.pairs.schema.PAIRS` that a record gives, and besides:

    row         number of the pair, unique; where a row of the source is a pair, its 0-based row
    at          0-based row of the source that a reason names
    pair_id     identity of the pair
    bare_id     identity of the pair but for white space around its texts (`identity.EDGES`)
    reverse_id  bare_id that the pair would have, were its responses swapped
    prompt_key  identity of the prompt
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from curate.pairs.identity import EDGES, draw_order
from curate.pairs.schema import OPTIONAL
from curate.project.params import CleaningParams

RULES = {
    "malformed": "the record does not fit the format",
    "null_prompt": "the prompt is null",
    "diverging_transcript": "the two conversations part before their last turn",
    "no_preference": "the source prefers neither response",
    "no_label": "the response has no label to rank it by",
    "unpaired": "no reply to its prompt that stands higher or lower is left for it",
    "empty_prompt": "the prompt, or its last user turn, is empty",
    "empty_response": "a response is empty",
    "identical_responses": "the responses are the same but for white space around them",
    "no_user_turn": "the prompt does not end with a user turn",
    "both_unsafe": "both responses are unsafe",
    "duplicate": "the texts of the pair, or the single reply and its mark, repeat an earlier one's exactly",
    "contradiction": "the same two responses are preferred the other way round elsewhere",
    "prompt_cap": "the prompt has max_pairs_per_prompt pairs already",
    "query_type_cap": "the draw of max_pairs_per_query_type pairs passed it over",
}
"""In the order of their application."""

REFUSED = {"row": pl.Int64, "rule": pl.String, "reason": pl.String}


class Cleaned(NamedTuple):
    kept: pl.DataFrame  # the rows that no rule refused, same columns
    refused: pl.DataFrame  # REFUSED


def clean(pairs: pl.DataFrame, params: CleaningParams) -> Cleaned:
    """Apply every rule that a frame can tell, in the order of `RULES`. The texts are gone over and copied once."""
    whole = pairs
    pairs, refused = _refuse(pairs.drop("prompt", "chosen", "rejected"), [_single_rows(pairs)])
    if params.duplicates == "drop":
        pairs, refused = _refuse(pairs, [*refused, _duplicates(pairs)])
    if params.contradictions != "keep":
        both = params.contradictions == "drop_both"
        pairs, refused = _refuse(pairs, [*refused, _contradictions(pairs, both)])
    if params.max_pairs_per_prompt:
        pairs, refused = _refuse(pairs, [*refused, _over_cap(pairs, params.max_pairs_per_prompt)])
    if params.max_pairs_per_query_type:
        drawn = _not_drawn(pairs, params.max_pairs_per_query_type, params.draw_seed)
        pairs, refused = _refuse(pairs, [*refused, drawn])
    if pairs.height < whole.height:
        whole = whole.join(pairs, on="row", how="semi", maintain_order="left")
    return Cleaned(whole, pl.concat(refused))


def _refuse(pairs: pl.DataFrame, refused: list[pl.DataFrame]) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    return pairs.join(refused[-1], on="row", how="anti", maintain_order="left"), refused


def _single_rows(pairs: pl.DataFrame) -> pl.DataFrame:
    """Rules that look at one row alone."""
    last = pl.col("prompt").list.last()
    content = {name: _bare(pl.col(name).list.last()) for name in ("chosen", "rejected")}
    asked = last.struct.field("role") == "user"
    rules: dict[str, tuple[pl.Expr, pl.Expr]] = {
        "empty_prompt": (
            (pl.col("prompt").list.len() == 0) | (asked & (_bare(last) == "")),
            pl.lit(RULES["empty_prompt"]),
        ),
        "empty_response": (
            pl.any_horizontal(content["chosen"] == "", content["rejected"] == ""),
            pl.format(
                "{} empty",
                pl.when(content["chosen"] != "")
                .then(pl.lit("rejected is"))
                .when(content["rejected"] != "")
                .then(pl.lit("chosen is"))
                .otherwise(pl.lit("chosen and rejected are")),
            ),
        ),
        "identical_responses": (content["chosen"] == content["rejected"], pl.lit(RULES["identical_responses"])),
        "no_user_turn": (
            asked.not_(),
            pl.format("the prompt ends with a turn of {}, not of user", last.struct.field("role")),
        ),
        "both_unsafe": (
            (pl.col("chosen_safe").not_() & pl.col("rejected_safe").not_()).fill_null(False),
            pl.lit(RULES["both_unsafe"]),
        ),
    }
    rule = pl.coalesce(*(pl.when(holds).then(pl.lit(name)) for name, (holds, _) in rules.items()))
    reason = pl.coalesce(*(pl.when(holds).then(why) for holds, why in rules.values()))
    return _as_refused(pairs.select("row", rule=rule, reason=reason).drop_nulls("rule"))


def _duplicates(pairs: pl.DataFrame) -> pl.DataFrame:
    """All but the first row of each pair."""
    said = pl.struct("query_type", "chosen_safe", "rejected_safe", *OPTIONAL)
    repeats = pairs.with_columns(first=pl.col("row").first().over("pair_id")).filter(pl.col("row") != pl.col("first"))
    both = repeats.join(pairs.select(first="row", at_first="at", said=said), on="first", maintain_order="left")
    otherwise = pl.when(said.ne_missing(pl.col("said"))).then(pl.lit(", labelled or rated otherwise"))
    why = pl.format("the same pair as row {}{}", "at_first", otherwise.otherwise(pl.lit("")))
    return _as_refused(both.select("row", rule=pl.lit("duplicate"), reason=why))


def _contradictions(pairs: pl.DataFrame, both: bool) -> pl.DataFrame:
    """Pairs that stand in both directions: all of them, or (not `both`) those of the direction seen later."""
    opposite = pairs.group_by(reverse_id="bare_id").agg(other=pl.col("at").min())
    found = pairs.join(opposite, on="reverse_id", how="inner", maintain_order="left")
    if not both:
        direction = pl.min_horizontal("bare_id", "reverse_id")
        found = found.filter(pl.col("bare_id") != pl.col("bare_id").first().over(direction))
    why = pl.format("row {} prefers the same two responses the other way round", "other")
    return _as_refused(found.select("row", rule=pl.lit("contradiction"), reason=why))


def _over_cap(pairs: pl.DataFrame, cap: int) -> pl.DataFrame:
    """What comes after the first `cap` pairs of a prompt."""
    ranked = pairs.with_columns(
        rank=pl.int_range(pl.len()).over("prompt_key"), first=pl.col("at").first().over("prompt_key")
    ).filter(pl.col("rank") >= cap)
    why = pl.format("the prompt of row {} has " + str(cap) + " pairs already", "first")
    return _as_refused(ranked.select("row", rule=pl.lit("prompt_cap"), reason=why))


def _not_drawn(pairs: pl.DataFrame, cap: int, seed: int) -> pl.DataFrame:
    """What a draw of `cap` pairs of each query type leaves: it goes by a hash of the pair, not by the rows' order."""
    drawn = draw_order(pairs["pair_id"], seed, "query type cap")  # else evaluations, too, would draw these first
    order = pl.Series("order", drawn, dtype=pl.Binary)
    ranked = pairs.with_columns(order).with_columns(place=pl.col("order").rank("ordinal").over("query_type"))
    rest = ranked.filter(pl.col("place") > cap).sort("row")
    why = pl.format("{} pairs of query type {} were drawn", pl.lit(cap), pl.col("query_type").cast(pl.String))
    return _as_refused(rest.select("row", rule=pl.lit("query_type_cap"), reason=why))


def _as_refused(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(dtype) for name, dtype in REFUSED.items())


def _bare(turn: pl.Expr) -> pl.Expr:
    """A turn's content without the white space around it (`identity.EDGES`)."""
    return turn.struct.field("content").str.strip_chars(EDGES)
