"""Every rule: what it refuses, in which order, and the reason it gives. Frames are made by the trl parser."""

import polars as pl
import pytest

from curate.pairs.cleaning import REFUSED, RULES, clean
from curate.pairs.identity import draw_order
from curate.pairs.sources import FORMATS
from curate.pairs.sources.parsing import parse
from curate.pairs.sources.reading import Source
from curate.project.params import CleaningParams

KEEP = CleaningParams(duplicates="keep", contradictions="keep")


def frame(*rows: dict) -> pl.DataFrame:
    frames = parse(Source("f", "f", list(rows), ""), FORMATS["trl"], strict=True)
    assert frames.refused.is_empty()
    return frames.parsed


def pair(prompt="Q", chosen="yes", rejected="no", **labels) -> dict:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **labels}


def refused(pairs: pl.DataFrame, params: CleaningParams) -> list[tuple[int, str]]:
    cleaned = clean(pairs, params)
    assert dict(cleaned.refused.schema) == REFUSED
    assert sorted([*cleaned.kept["row"], *cleaned.refused["row"]]) == pairs["row"].to_list()
    assert cleaned.kept["row"].is_sorted()
    return sorted(cleaned.refused.select("row", "rule").iter_rows())


@pytest.mark.parametrize(
    ("row", "rule", "reason"),
    [
        (pair(prompt=""), "empty_prompt", "empty"),
        (pair(prompt=" \n\t"), "empty_prompt", "empty"),
        (pair(prompt=[]), "empty_prompt", "empty"),
        (pair(chosen=" "), "empty_response", "chosen is empty"),
        (pair(rejected=""), "empty_response", "rejected is empty"),
        (pair(chosen="", rejected="\n"), "empty_response", "chosen and rejected are empty"),
        (pair(prompt="\u200b \ufeff"), "empty_prompt", "empty"),
        (pair(chosen="\u200b"), "empty_response", "chosen is empty"),
        (pair(rejected="\ufeff\n\u2060"), "empty_response", "rejected is empty"),
        (pair(chosen="no\u200b", rejected="no"), "identical_responses", "same"),
        (pair(chosen="no ", rejected="\nno"), "identical_responses", "same"),
        (pair(prompt=[{"role": "assistant", "content": "A"}]), "no_user_turn", "a turn of assistant"),
        (pair(prompt=[{"role": "system", "content": ""}]), "no_user_turn", "a turn of system"),
        (pair(chosen_safe=False, rejected_safe=False), "both_unsafe", "unsafe"),
        (pair(prompt="", chosen="", chosen_safe=False, rejected_safe=False), "empty_prompt", "empty"),
    ],
)
def test_single_row_rules(row, rule, reason):
    cleaned = clean(frame(pair("other"), row), KEEP)
    assert cleaned.kept["row"].to_list() == [0]
    assert cleaned.refused["rule"].to_list() == [rule]
    assert reason in cleaned.refused["reason"][0]


@pytest.mark.parametrize("labels", [(True, True), (True, False), (False, True), (None, False), (None, None)])
def test_labels_other_than_two_unsafe_are_kept(labels):
    assert refused(frame(pair(chosen_safe=labels[0], rejected_safe=labels[1])), KEEP) == []


def test_rules_are_documented_in_their_order():
    assert list(RULES)[:3] == ["malformed", "null_prompt", "diverging_transcript"]
    assert list(RULES)[-4:] == ["duplicate", "contradiction", "prompt_cap", "query_type_cap"]


def test_duplicates():
    pairs = frame(pair(), pair("other"), pair(), pair(), pair(chosen="yes "))
    assert refused(pairs, CleaningParams()) == [(2, "duplicate"), (3, "duplicate")]
    assert clean(pairs, CleaningParams()).refused["reason"].to_list() == ["the same pair as row 0"] * 2
    assert refused(pairs, KEEP) == []


def test_a_duplicate_that_is_labelled_or_rated_otherwise_says_so():
    said = [{}, {"chosen_safe": True}, {"margin": 2}, {"query_type": "safe"}, {}]
    reasons = clean(frame(*(pair(**one) for one in said)), CleaningParams()).refused["reason"].to_list()
    assert reasons == ["the same pair as row 0, labelled or rated otherwise"] * 3 + ["the same pair as row 0"]


def test_contradictions():
    pairs = frame(pair("x"), pair(), pair(chosen="no", rejected="yes"), pair(), pair("z", "no", "yes"))
    both = clean(pairs, CleaningParams())
    assert both.kept["row"].to_list() == [0, 4]
    reasons = dict(both.refused.filter(pl.col("rule") == "contradiction").select("row", "reason").iter_rows())
    assert reasons == {
        1: "row 2 prefers the same two responses the other way round",
        2: "row 1 prefers the same two responses the other way round",
    }
    first = CleaningParams(contradictions="keep_first", duplicates="keep")
    assert refused(pairs, first) == [(2, "contradiction")]
    assert refused(pairs, CleaningParams(duplicates="keep")) == [(row, "contradiction") for row in (1, 2, 3)]
    assert refused(pairs, KEEP) == []


def test_contradictions_are_seen_through_white_space_around_the_texts():
    pairs = frame(pair(), pair(" Q", "no\n", "\ufeffyes"), pair("Q", "yes ", "no"), pair("Q", "n o", "yes"))
    assert refused(pairs, CleaningParams()) == [(row, "contradiction") for row in range(3)]
    assert refused(pairs, CleaningParams(contradictions="keep_first")) == [(1, "contradiction")]


def test_prompt_cap_counts_what_is_left_and_by_normalised_prompt():
    pairs = frame(
        *(pair(prompt, f"yes {i}") for i, prompt in enumerate(["Q", "q ", "R", "Q", "Q"])), pair(" Q", "yes 0")
    )
    capped = KEEP.model_copy(update={"max_pairs_per_prompt": 2})
    assert refused(pairs, capped) == [(3, "prompt_cap"), (4, "prompt_cap"), (5, "prompt_cap")]
    assert clean(pairs, capped).refused["reason"][0] == "the prompt of row 0 has 2 pairs already"
    after_duplicates = CleaningParams(max_pairs_per_prompt=1)
    assert refused(frame(pair(), pair(), pair("R")), after_duplicates) == [(1, "duplicate")]


def test_nothing_to_clean():
    assert refused(frame(), CleaningParams(max_pairs_per_prompt=1)) == []


def test_an_evaluation_s_draw_takes_nothing_more_of_a_query_type_that_was_cut_more():
    """Both by one hash, the pairs left of the type cut most would all come first."""
    rows = [pair(f"Q{n}", chosen_safe=True, rejected_safe=n % 10 == 0) for n in range(1000)]
    cleaned = clean(frame(*rows), CleaningParams(max_pairs_per_query_type=100)).kept
    drawn = cleaned.with_columns(order=pl.Series(draw_order(cleaned["pair_id"], 0))).sort("order").head(100)
    assert 35 <= drawn.filter(query_type="unsafe").height <= 65


def test_query_type_cap_draws_by_the_pair_and_not_by_the_order():
    rows = [pair(f"Q{n}", f"yes {n}") for n in range(6)]
    pairs = frame(*rows)
    cap = CleaningParams(duplicates="keep", contradictions="keep", max_pairs_per_query_type=1)
    cleaned = clean(pairs, cap)
    assert cleaned.kept["query_type"].value_counts()["count"].to_list() == [1] * pairs["query_type"].n_unique()
    assert set(cleaned.refused["rule"]) == {"query_type_cap"}
    assert cleaned.kept.height + cleaned.refused.height == pairs.height
    turned = clean(frame(*reversed(rows)), cap)
    assert set(turned.kept["pair_id"]) == set(cleaned.kept["pair_id"])
    drawn = {clean(pairs, cap.model_copy(update={"draw_seed": seed})).kept["pair_id"][0] for seed in range(20)}
    assert len(drawn) > 1
