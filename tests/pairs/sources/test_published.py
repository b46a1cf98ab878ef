"""The published schemas: each row gives its pair, with what the set says of it and no more."""

import pytest

from curate.base.errors import InputError
from curate.pairs.schema import QueryType
from curate.pairs.sources import FORMATS
from curate.pairs.sources.base import Malformed, Ratings, Refused
from curate.pairs.sources.choosing import choose
from curate.pairs.sources.parsing import Frames, parse
from curate.pairs.sources.reading import Source
from tests.pairs.sources.rows import BAD, GOOD, MORE, ROWS, Q, talk, turn

RATED = {
    "beavertails": Ratings(chosen_cost=0.0, rejected_cost=2.0),
    "ultrafeedback": Ratings(8.5, 3.0),
    "ultrafeedback_completions": Ratings(8.0, 5.0),
    "argilla_ultrafeedback": Ratings(4.75, 2.0),
    "argilla_averages": Ratings(4.5, 2.0),
    "argilla_mix": Ratings(5.0, 4.0),
    "argilla_orca": Ratings(9.0, 2.0),
    "distilabel": Ratings(4.5, 1.0),
    "helpsteer2_preference": Ratings(margin=2.0),
    "helpsteer3": Ratings(margin=3.0),
    "helpsteer2": Ratings(4.0, 1.0),
    "shp": Ratings(40.0, 10.0),
}
SYSTEM = turn("system", "Be brief.")
PROMPTS = {
    "argilla_orca": [SYSTEM, *talk(Q)],
    "orca": [SYSTEM, *talk(Q)],
    "query": talk("Hello", "Good day.", Q),
    "alpaca": talk(f"Answer.\n{Q}"),
}
LABELLED = ("beavertails", "wildguard", "aegis")
UNUSED = {
    "wildguard": ["adversarial", "prompt_harm_label", "response_refusal_label", "subcategory"],
    "ultrafeedback": ["prompt_id", "messages"],
    "argilla_ultrafeedback": ["source", "chosen-model", "rejected-model"],
    "helpsteer3": ["domain", "language", "individual_preference"],
    "shp": ["post_id", "domain", "upvote_ratio", "score_ratio"],
    "orca": [],
}


def read(form: str, records: list, pairing: str = "best") -> Frames:
    return parse(Source("f", "f", records, ""), FORMATS[form], pairing, strict=False)


@pytest.mark.parametrize("form", [name for name in ROWS if name != "red_team"])
def test_a_published_row_gives_its_pair(form):
    records = [ROWS[form], *([MORE[form]] if form in MORE else [])]
    assert choose("auto", records, "f").name == form
    frames = read(form, records)
    pair = frames.parsed.row(0, named=True)
    assert pair["prompt"] == PROMPTS.get(form, talk(Q))
    assert [pair[side][0]["role"] for side in ("chosen", "rejected")] == ["assistant"] * 2
    assert pair["chosen"][0]["content"] == GOOD
    assert pair["rejected"][0]["content"] == (
        "With butter." if form in ("nectar", "ultrafeedback_completions") else BAD
    )
    assert tuple(pair[name] for name in Ratings._fields) == RATED.get(form, Ratings())
    labels = (True, False, "unsafe") if form in LABELLED else (None, None, "unknown")
    assert (pair["chosen_safe"], pair["rejected_safe"], pair["query_type"]) == labels
    assert frames.refused.is_empty()
    assert frames.members["at"].to_list() == (list(range(len(records))) if form in MORE else [0] * frames.parsed.height)
    if form in UNUSED:
        assert frames.unused == UNUSED[form]


def test_what_a_format_says_it_reads_is_what_it_reads():
    for form, row in ROWS.items():
        if form == "red_team":
            continue
        known = FORMATS[form]
        read_fields = set(row) - set(read(form, [row]).unused)
        assert read_fields <= known.reads | frozenset().union(*known.needs), form


@pytest.mark.parametrize(
    ("rating", "rated"),
    [
        ("[2.0, 9.0]", Ratings(9.0, 2.0)),
        (" [2, 9]", Ratings(9.0, 2.0)),
        ("[None, 9.0]", Ratings(9.0)),
        ("[2. 9.]", Ratings(9.0, 2.0)),
        ([None, None], Ratings(9.0)),
        (None, Ratings(9.0)),
        ("", Ratings(9.0)),
    ],
)
def test_orca_s_two_ratings_as_a_table_has_them(rating, rated):
    assert FORMATS["argilla_orca"].parse(ROWS["argilla_orca"] | {"rating": rating}).ratings == rated


@pytest.mark.parametrize(
    ("rating", "found"),
    [
        ("[2. 9", "text"),
        ("nine", "text"),
        ("[" * 3000, "text"),
        ([2.0, 9.0, 1.0], "a list of 3"),
        ("[9.0]", "a list of 1"),
        (9.0, "number"),
        (["two", 9.0], "text"),
        ("[NaN, 9.0]", "a number that is not finite"),
    ],
)
def test_orca_s_ratings_that_are_not_two_numbers(rating, found):
    with pytest.raises(Malformed) as error:
        FORMATS["argilla_orca"].parse(ROWS["argilla_orca"] | {"rating": rating})
    assert (error.value.field, error.value.found) == ("rating", found)


def test_red_team_is_refused_with_the_reason():
    with pytest.raises(InputError, match="this file has no pairs") as error:
        choose("auto", [ROWS["red_team"]], "f")
    assert "no second reply" in error.value.details["found"]


@pytest.mark.parametrize(
    ("form", "change", "rule"),
    [
        ("argilla_orca", {"status": "tie"}, "no_preference"),
        ("helpsteer2_preference", {"preference_strength": 0}, "no_preference"),
        ("helpsteer2_preference", {"preference_strength": -100}, "malformed"),
        ("helpsteer3", {"overall_preference": None}, "malformed"),
        ("helpsteer2", {"helpfulness": None}, "no_label"),
        ("wildguard", {"response_harm_label": None}, "no_label"),
        ("wildguard", {"response": None}, "empty_response"),
        ("aegis", {"response_label": "maybe"}, "malformed"),
        ("aegis", {"prompt": "REDACTED"}, "malformed"),
        ("beavertails", {"is_safe": None}, "malformed"),
        ("distilabel", {"ratings": [1, None, None]}, "no_preference"),
        ("distilabel", {"ratings": [1]}, "malformed"),
        ("ultrafeedback_completions", {"completions": [{"response": "x", "overall_score": 1}]}, "no_preference"),
        ("shp", {"labels": 2}, "malformed"),
        ("nectar", {"answers": [{"answer": "x", "rank": "first"}]}, "malformed"),
        ("nectar", {"prompt": "You are a pirate.\n\nHuman: hi\n\nAssistant: "}, "malformed"),
        ("ranking", {"ranks": [1]}, "malformed"),
        ("alpaca", {"history": [["one"]]}, "malformed"),
        ("alpaca", {"instruction": None}, "null_prompt"),
        ("alpaca_output", {"output": [GOOD]}, "malformed"),
        ("swift", {"messages": talk(Q)}, "malformed"),
        ("swift", {"messages": []}, "malformed"),
        ("swift", {"messages": None}, "null_prompt"),
        ("kto_messages", {"messages": []}, "malformed"),
        ("kto", {"label": 1}, "malformed"),
        ("tulu", {"prompt": "Another question"}, "malformed"),
    ],
)
def test_rows_that_give_no_pair(form, change, rule):
    with pytest.raises(Refused) as error:
        FORMATS[form].parse(ROWS[form] | change)
    assert error.value.rule == rule


@pytest.mark.parametrize("form", ["trl", "skywork", "argilla_mix", "ultrafeedback", "tulu", "argilla_ultrafeedback"])
@pytest.mark.parametrize("start", ["I am ", "\n\nHuman: Hi\n\nAssistant: "])
def test_plain_texts_without_a_prompt_are_rejects_in_a_file_whose_other_rows_show_its_format(form, start):
    row = {"prompt": "Q", "chosen": "a", "rejected": "b"} if form == "trl" else ROWS[form]
    records = [row, row, {"chosen": f"{start}sorry", "rejected": f"{start}happy"}]
    known = choose("auto", records, "f")
    assert known.name == form
    refused = parse(Source("f", "f", records, ""), known, strict=False).refused
    assert refused.select("row", "rule").rows() == [(2, "malformed")]
    assert refused["reason"][0].startswith("prompt is missing")


def test_helpsteer_turns():
    marked = "A\n<extra_id_1>Assistant\nB\n<extra_id_1>User\nC"
    pair = FORMATS["helpsteer2_preference"].parse(ROWS["helpsteer2_preference"] | {"prompt": marked})
    assert pair.prompt == talk("A", "B", "C")
    lower = ROWS["helpsteer2_preference"] | {"preference_strength": -1}
    assert FORMATS["helpsteer2_preference"].parse(lower).chosen == [turn("assistant", BAD)]


@pytest.mark.parametrize(
    ("pairing", "made"),
    [("best", [(1, 2), (1, 0)]), ("adjacent", [(1, 2), (2, 0)]), ("all", [(1, 2), (1, 0), (2, 0)])],
)
def test_a_ranking_by_each_pairing(pairing, made):
    texts = [answer["answer"].strip() for answer in ROWS["nectar"]["answers"]]
    parsed = read("nectar", [ROWS["nectar"]], pairing).parsed
    assert [(c[0]["content"], r[0]["content"]) for c, r in parsed.select("chosen", "rejected").iter_rows()] == [
        (texts[better], texts[worse]) for better, worse in made
    ]
    assert parsed["row"].to_list() == list(range(len(made)))
    assert set(parsed["source_row"]) == {0}


def test_single_replies_take_turns_and_the_rest_is_unpaired():
    """Two good and three bad replies to one prompt, a good one to another, and a label of both kinds."""
    rows = [
        ROWS["beavertails"] | {"response": said, "is_safe": safe}
        for said, safe in (("g0", True), ("b1", False), ("g2", True), ("b3", False), ("b4", False), ("b4", True))
    ]
    frames = read("beavertails", [*rows, rows[0] | {"prompt": "Another"}, rows[0] | {"prompt": None}])
    assert frames.members.group_by("row", maintain_order=True).agg("at")["at"].to_list() == [[0, 1], [2, 3], [5, 4]]
    assert frames.parsed["chosen"].list.first().struct.field("content").to_list() == ["g0", "g2", "b4"]
    assert set(frames.parsed["query_type"]) == {QueryType.UNSAFE.value}
    assert frames.refused.sort("row").select("row", "rule").rows() == [(6, "unpaired"), (7, "null_prompt")]
    assert frames.labels.height - frames.labels["reply"].n_unique() == 1


def test_a_reply_without_text_is_malformed():
    with pytest.raises(Malformed, match="responses is null"):
        FORMATS["ranking"].parse(ROWS["ranking"] | {"responses": [GOOD, None]})
