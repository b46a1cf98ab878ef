"""From a source to pairs, rejects and counts. Texts are invented; real files are only counted."""

import gzip
import json
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base import files
from curate.base.errors import InputError, OutputError, UsageError
from curate.pairs.artefact import read_artefact
from curate.pairs.prepare import Prepared, prepare, write
from curate.pairs.schema import OPTIONAL, PAIRS, RATINGS, REJECTS
from curate.project.params import CleaningParams, DataParams

REALDATA = Path(os.environ.get("CURATE_REALDATA") or Path(__file__).parents[3] / "shared" / "data")
KEEP = CleaningParams(duplicates="keep", contradictions="keep")


def run(tmp_path: Path, records, cleaning=CleaningParams(), strict=False, **data) -> Prepared:  # noqa: B008
    path = tmp_path / "raw.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return check(prepare(DataParams(source=str(path), **data), cleaning, strict=strict))


def check(prepared: Prepared) -> Prepared:
    """What holds of every result."""
    pairs, rejects, summary = prepared
    rated = {name: dtype for name, dtype in OPTIONAL.items() if name in pairs.columns}
    kept = summary["columns"]["kept"]
    assert pairs.columns == [*PAIRS, *rated, *kept]
    assert dict(pairs.drop(kept).schema) == PAIRS | rated
    assert all(pairs[name].count() for name in rated)
    assert dict(rejects.schema) == REJECTS
    assert summary["read"] == summary["used"] + summary["rejected"]
    assert summary["made"] == summary["kept"] + sum(summary["rules_of_pairs"].values()) or not summary["rules_of_pairs"]
    assert (summary["kept"], summary["rejected"]) == (pairs.height, rejects.height)
    assert {rule: found["count"] for rule, found in summary["rules"].items()} == Counter(rejects["rule"])
    assert sum(side["pairs"] for sides in summary["pairs"].values() for side in sides.values()) == pairs.height
    assert pairs["pair_id"].is_unique().all()
    assert pairs.group_by("prompt_key").agg(pl.col("split").n_unique())["split"].max() == 1
    assert pairs.drop("chosen_safe", "rejected_safe", *rated, *kept).null_count().row(0) == (0,) * (len(PAIRS) - 2)
    return prepared


def trl(prompt="Q", chosen="yes", rejected="no") -> dict:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def test_pairs_whose_responses_are_rated_alike_are_counted_and_kept(tmp_path):
    scores = ((5, 5), (5.0, 4), (None, None), ("3", 3))
    rows = [trl(f"Q{n}") | {"score_chosen": one, "score_rejected": two} for n, (one, two) in enumerate(scores)]
    pairs, _, summary = run(tmp_path, rows)
    assert pairs.height == 4 and summary["marks"]["rated_alike"] == 2


def test_what_a_row_says_against_its_own_preference_is_counted_and_stays(tmp_path):
    said = [
        {"chosen_reward": 1, "rejected_reward": 2},
        {"chosen_reward": 1, "rejected_reward": 2, "chosen_safe": True, "rejected_safe": False},
        {"margin": -0.5},
        {"query_type": "safe", "chosen_safe": True, "rejected_safe": False},
        {"query_type": "unsafe", "chosen_safe": True, "rejected_safe": True},
        {"query_type": "unknown", "chosen_safe": True, "rejected_safe": True},
        {"query_type": "unsafe", "chosen_safe": False, "rejected_safe": True, "margin": 0},
        {"query_type": "safe", "chosen_safe": True, "chosen_reward": 1, "margin": 2},
    ]
    pairs, _, summary = run(tmp_path, [trl(f"Q{n}") | row for n, row in enumerate(said)])
    counted = {"rated_below": 1, "unsafe_chosen": 1, "margin_below_zero": 1, "query_type_is_not_the_labels": 2}
    assert summary["marks"] == counted | {"most_pairs_of_a_prompt": 1}
    assert pairs["query_type"].to_list()[3:] == [row["query_type"] for row in said[3:]]


def test_ratings_under_two_names_are_one_or_the_other_s(tmp_path):
    rows = [
        trl(f"Q{n}") | {"chosen_reward": one, "score_chosen": other} for n, (one, other) in enumerate([(1, 2), (3, 4)])
    ]
    assert run(tmp_path, rows).summary["columns"]["unused"] == ["score_chosen"]
    pairs, _, summary = run(tmp_path, [rows[0], rows[1] | {"chosen_reward": None}])
    assert (pairs["chosen_reward"].to_list(), summary["marks"]["rated_under_other_names"]) == ([1.0, 4.0], 1)


def test_replies_without_a_rating_are_counted_where_the_others_make_a_pair(tmp_path):
    """Of the last row one reply is left, which makes none: that row is refused, and says why."""
    ratings = [[1, 2, None, None], [1, 2, 3, ""], [1, 2, 3, 4], [1, None, None, None]]
    rows = [{"instruction": f"Q{n}", "generations": [*"abcd"], "ratings": row} for n, row in enumerate(ratings)]
    _, rejects, summary = run(tmp_path, rows)
    assert summary["marks"]["unrated_replies"] == 3
    assert rejects["source_row"].to_list() == [3]
    asked = [
        {"instruction": "Q", "completions": [{"response": str(n), "overall_score": n} for n in (1, 2, None)]},
        {"prompt": "Q", "responses": [*"abc"], "scores": [1, 2, None]},
        {"prompt": "Q", "responses": [*"abc"], "ranks": [1, "", 2]},
        {"prompt": "Q", "answers": [{"answer": str(n), "rank": n} for n in (1, 2, None)]},
    ]
    assert [run(tmp_path, [row]).summary["marks"].get("unrated_replies") for row in asked] == [1] * 4


def test_pairs_with_a_transcript_s_marker_within_a_turn_are_counted(tmp_path):
    start, odd = "\n\nHuman: Hi\n\nAssistant:", "yes\nHuman: q2\nAssistant: more"
    rows = [{"chosen": f"{start} {one}", "rejected": f"{start} {other}"} for one, other in ((odd, "no"), ("no", odd))]
    rows += [{"chosen": f"{start} As a Human: yes", "rejected": f"{start} no"}]
    assert run(tmp_path, rows, KEEP).summary["marks"]["markers_in_a_turn"] == 2
    nectar = {"prompt": "Human: q\nAssistant:", "answers": [{"answer": str(n), "rank": n} for n in (1, 2)]}
    assert run(tmp_path, [nectar]).summary["marks"]["markers_in_a_turn"] == 1


def test_a_bit_of_everything(tmp_path, capsys):
    records = [
        trl(),
        trl("two\r\nlines"),
        trl(None),
        trl("Q", 5),
        "no object",
        trl(),
        trl("R", "a", "b"),
        trl("R", "b", "a"),
        trl("S", ""),
        trl("T", "bad \ud800"),
        trl("U", "line\r\n"),
    ]
    pairs, rejects, summary = run(tmp_path, records)
    assert pairs["source_row"].to_list() == [0, 1, 10]
    assert pairs["prompt"][1][0]["content"] == "two\nlines"
    assert summary["marks"] == {"crlf": 2, "most_pairs_of_a_prompt": 1}
    assert dict(rejects.select("source_row", "rule").iter_rows()) == {
        2: "null_prompt",
        3: "malformed",
        4: "malformed",
        5: "duplicate",
        6: "contradiction",
        7: "contradiction",
        8: "empty_response",
        9: "malformed",
    }
    assert [json.loads(row) for row in rejects["row"]] == [records[row] for row in rejects["source_row"]]
    reasons = dict(rejects.select("source_row", "reason").iter_rows())
    assert reasons[3] == "chosen is integer; expected text or list of messages"
    assert reasons[6].startswith("row 7 ")
    assert summary["rules"]["malformed"]["first_rows"] == [3, 4, 9]
    assert (summary["format"], summary["source"]) == ("trl", "raw.json")
    assert "read 11 = kept 3 + rejected 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "field", "found"),
    [(trl(None), "prompt", "null"), (trl(chosen=5), "chosen", "integer"), ([1], "the row", "list")],
)
def test_strict_names_file_row_and_field(tmp_path, record, field, found):
    with pytest.raises(InputError) as error:
        run(tmp_path, [trl(), record], strict=True)
    details = error.value.details
    assert (details["row"], details["field"], details["found"]) == ("1", field, found)
    assert details["file"].endswith("raw.json")
    run(tmp_path, [trl(), trl(rejected="")], strict=True)  # the other rules reject as ever


def test_nothing_left(tmp_path):
    with pytest.raises(InputError, match="no pair is left") as error:
        run(tmp_path, [trl("")] * 3 + [trl(None)])
    assert error.value.details["found"] == "empty_prompt 3, null_prompt 1"
    with pytest.raises(InputError, match="malformed 2"):
        run(tmp_path, [trl(), trl()], format="pku")
    with pytest.raises(InputError, match="none of the formats"):
        run(tmp_path, [{"prompt": "Q", "chosen": "a"}])
    with pytest.raises(UsageError, match="unknown format"):
        run(tmp_path, [trl()], format="trll")


def test_kept_duplicates_get_ids_of_their_own(tmp_path):
    pairs = run(tmp_path, [trl(), trl("R"), trl(), trl()], KEEP).pairs
    first = pairs["pair_id"][0]
    assert pairs["pair_id"].to_list()[2:] == [f"{first}-1", f"{first}-2"]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json.gz"])
def test_our_own_file_is_read_without_loss(tmp_path, suffix):
    labels = [{"chosen_safe": True, "rejected_safe": False}, {"chosen_safe": None, "rejected_safe": None}]
    raw = [trl(f"Q{i}") | labels[i % 2] for i in range(20)]
    first = run(tmp_path, [*raw[:3], trl(""), *raw[3:], *raw[:2]], KEEP, seed=3)
    path = tmp_path / f"ours.{suffix}"
    if suffix == "parquet":
        write(first, path, tmp_path / "r.parquet", tmp_path / "s.json")
    elif suffix == "jsonl":
        first.pairs.write_ndjson(path)
    else:
        path.write_bytes(gzip.compress(json.dumps(first.pairs.to_dicts()).encode()))
    again = check(prepare(DataParams(source=str(path), seed=4, heldout_fraction=0.5), KEEP))
    assert again.summary["format"] == "canonical"
    assert again.summary["marks"]["split_kept"] == 22
    assert again.pairs.equals(first.pairs)


def test_ratings_travel_and_their_columns_are_there_only_where_a_row_has_one(tmp_path):
    raw = [trl("Q"), trl("R") | {"chosen_cost": 1, "rejected_cost": -0.5}, trl("S") | {"chosen_cost": "NaN"}]
    first = run(tmp_path, raw)
    assert first.pairs.columns == [*PAIRS, "chosen_cost", "rejected_cost"]
    assert first.pairs.select("chosen_cost", "rejected_cost").rows() == [(None, None), (1.0, -0.5)]
    assert first.rejects["reason"].to_list() == ["chosen_cost is a number that is not finite; expected a finite number"]
    write(first, tmp_path / "p.parquet", tmp_path / "r.parquet", tmp_path / "s.json")
    again = check(prepare(DataParams(source=str(tmp_path / "p.parquet")), CleaningParams()))
    assert again.pairs.equals(first.pairs)
    assert run(tmp_path, [trl() | {"chosen_cost": None}]).pairs.columns == list(PAIRS)


def test_a_split_that_tears_a_prompt_is_refused_and_a_missing_one_is_drawn(tmp_path):
    ours = run(tmp_path, [trl("Q", f"yes {i}") for i in range(2)] + [trl(f"R{i}") for i in range(9)]).pairs
    rows = ours.with_columns(split=None).to_dicts()
    assert check(run(tmp_path, rows)).pairs.equals(ours)
    side = rows[1]["split"] = "heldout"
    assert run(tmp_path, rows).pairs["split"][0] == side  # a prompt's other rows follow
    rows[0]["split"] = "train"
    with pytest.raises(InputError, match="both sides"):
        run(tmp_path, rows)


def test_a_file_of_one_side_of_a_split_is_told(tmp_path, capsys):
    pairs = run(tmp_path, [trl(f"Q{n}") for n in range(10)]).pairs
    for side, told in (("train", True), ("heldout", False)):
        files.write_parquet(pairs.filter(split=side), tmp_path / "side.parquet", {})
        capsys.readouterr()
        prepare(DataParams(source=str(tmp_path / "side.parquet")), CleaningParams())
        assert ("warning: no pair is held out" in capsys.readouterr().err) == told


def test_the_split_of_a_row_that_is_refused_is_its_prompt_s(tmp_path):
    """As where new rows stand before a file's own, and repeat some of it: held-out prompts would be trained on."""
    ours = run(tmp_path, [trl(f"Q{n}") for n in range(8)]).pairs.with_columns(split=pl.lit("heldout"))
    old, new = ours.to_dicts(), ours.with_columns(split=None).to_dicts()
    pairs, rejects, _ = run(tmp_path, [*new, *old])
    assert pairs["split"].to_list() == ["heldout"] * 8 and rejects["rule"].to_list() == ["duplicate"] * 8
    with pytest.raises(InputError, match="both sides"):
        run(tmp_path, [*old, *ours.with_columns(split=pl.lit("train")).to_dicts()])


def test_same_params_same_bytes_and_row_order_does_not_move_the_split(tmp_path):
    records = [trl(f"Q{i % 13}", f"yes {i}") for i in range(40)]
    names = ["pairs.parquet", "rejects.parquet", "prepare.json"]
    for folder in ("a", "b"):
        write(run(tmp_path, records), *(tmp_path / folder / name for name in names))
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    made = files.read_provenance(tmp_path / "a" / "pairs.parquet")
    assert made["stage"] == "prepare"
    assert made["params"]["data"]["source"] == str(tmp_path / "raw.json")
    assert made["source_digest"] == files.file_digest(tmp_path / "raw.json")
    turned = run(tmp_path, records[::-1]).pairs
    here = dict(read_artefact(tmp_path / "a" / "pairs.parquet", "pairs").select("pair_id", "split").iter_rows())
    assert dict(turned.select("pair_id", "split").iter_rows()) == here


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("owner/name", "hub:owner/name"),
        ("https://huggingface.co/datasets/owner/name", "hub:owner/name"),
        ("https://x.org/a.jsonl", "download it"),
        ("data/none.jsonl", "check the path"),
        ("none", "check the path"),
    ],
)
def test_what_is_no_file_s_name_may_be_the_hub_s(source, remedy):
    with pytest.raises(InputError, match="no such file") as error:
        prepare(DataParams(source=source), CleaningParams())
    assert remedy in error.value.details["remedy"] and ("hub:" in remedy) == ("hub:" in str(error.value))


@pytest.mark.parametrize("suffix", [b".jsonl", b".parquet"])
def test_a_name_of_bytes_that_are_no_utf8(tmp_path, suffix):
    path = os.fsdecode(bytes(tmp_path) + b"/caf\xe9" + suffix)
    rows = pl.DataFrame([trl(), trl("R"), trl("S", "")])
    rows.write_ndjson(tmp_path / "a") if suffix == b".jsonl" else rows.write_parquet(tmp_path / "a")
    (tmp_path / "a").rename(path)
    prepared = check(prepare(DataParams(source=path), CleaningParams()))
    name = f"caf\\xe9{suffix.decode()}"
    assert (prepared.summary["source"], set(prepared.pairs["source"]), set(prepared.rejects["source"])) == (
        (name, {name}, {name})
    )
    write(prepared, *(tmp_path / name for name in ("p.parquet", "r.parquet", "s.json")))


@pytest.mark.parametrize("depth", [150, 500, 900, 5000])
def test_a_row_nested_deep_is_one_reject(tmp_path, depth):
    path = tmp_path / "raw.jsonl"
    deep = json.dumps(trl())[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"
    path.write_text("\n".join([json.dumps(trl("A")), deep, json.dumps(trl("B"))]))
    pairs, rejects, _ = check(prepare(DataParams(source=str(path)), CleaningParams()))
    assert (pairs["source_row"].to_list(), rejects["rule"].to_list()) == ([0, 2], ["malformed"])
    assert "deep" in rejects["reason"][0]


def test_a_field_that_stands_twice_is_one_reject_and_of_a_wrapped_file_an_error(tmp_path):
    path = tmp_path / "raw.json"
    twice = json.dumps(trl("A"))[:-1] + ', "chosen": "perhaps"}'
    path.write_text("\n".join([twice, json.dumps(trl("B"))]))
    pairs, rejects, _ = check(prepare(DataParams(source=str(path)), CleaningParams()))
    assert (pairs["source_row"].to_list(), rejects["source_row"].to_list()) == ([1], [0])
    found = "an object with a field that stands twice (chosen)"
    assert rejects["reason"].to_list() == [f"the row is {found}; expected an object"]
    assert json.loads(rejects["row"][0]) == twice
    path.write_text(f'{{"data": [{twice}]}}')
    with pytest.raises(InputError, match="the rows have no named fields") as caught:
        prepare(DataParams(source=str(path)), CleaningParams())
    assert caught.value.details["found"] == found


def test_odd_cells_of_tables(tmp_path):
    """A conversation in a CSV cell, one that is broken; a decimal rating and a date out of range in Parquet."""
    path = tmp_path / "raw.csv"
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "yes"}]
    other = [turns[0], {"role": "assistant", "content": "no"}]
    pl.DataFrame({"chosen": [str(turns), str(turns)[:-2]], "rejected": [json.dumps(other)] * 2}).write_csv(path)
    pairs, rejects, _ = check(prepare(DataParams(source=str(path)), CleaningParams()))
    assert pairs["prompt"].to_list() == [turns[:1]]
    assert rejects["reason"].to_list() == [
        "chosen is text that begins as turns do and is not JSON; expected turns as JSON"
    ]
    path = tmp_path / "raw.parquet"
    pl.DataFrame([trl("A"), trl("B")]).with_columns(
        chosen_reward=pl.Series([Decimal("1.50"), None]),
        day=pl.Series([2_000_000_000, 0], dtype=pl.Int32).cast(pl.Date),
    ).write_parquet(path)
    pairs, rejects, _ = check(prepare(DataParams(source=str(path)), CleaningParams()))
    assert (pairs["chosen_reward"].to_list(), rejects.height) == ([1.5, None], 0)


TALKS = [[{"id": 1, "role": "user", "content": "Q"}, {"role": "assistant", "content": said}] for said in ("yes", "no")]


@pytest.mark.parametrize(
    "written",
    [
        *(json.dumps, str, lambda talk: f"array({talk},\n      dtype=object)".replace("}, {", "},\n       {")),
        lambda talk: str(talk).replace("}, {", "}\n {"),
    ],
    ids=["json", "python", "numpy", "numpy's own text"],
)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("prompt", [{}, {"prompt": "Q"}], ids=["whole", "beside a prompt"])
def test_turns_that_a_field_has_as_text_are_read(tmp_path, written, suffix, prompt):
    path = tmp_path / f"raw.{suffix}"
    row = prompt | {"chosen": written(TALKS[0]), "rejected": written(TALKS[1])}
    if suffix == "jsonl":
        path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"chosen": written(TALKS[0])[:-12]}))
    else:
        getattr(pl.DataFrame([row, row | {"chosen": written(TALKS[0])[:-12]}]), f"write_{suffix}")(path)
    prepared = check(prepare(DataParams(source=str(path)), CleaningParams()))
    pair = prepared.pairs.row(0, named=True)
    assert pair["prompt"] == [{"role": "user", "content": "Q"}]
    assert [pair[side][0]["content"] for side in ("chosen", "rejected")] == ["yes", "no"]


def test_one_turn_and_an_object_of_messages_that_a_field_has_as_text_are_read(tmp_path):
    asked, yes, no = TALKS[0][0], TALKS[0][1], TALKS[1][1]
    plain = {"prompt": [asked], "chosen": yes, "rejected": no}
    openai = {"input": {"messages": [asked]}, "preferred_output": [yes], "non_preferred_output": [no]}
    for row, form in ((plain, "trl"), (openai, "openai")):
        for rows in ([row], [{name: json.dumps(value) for name, value in row.items()}]):
            pairs, _, summary = run(tmp_path, rows)
            assert (summary["format"], pairs["rejected"][0][0]["content"]) == (form, "no")


def test_what_begins_as_turns_refuses_the_row_where_it_is_read_and_an_answer_may_be_json(tmp_path):
    broken = '[{"role": "user", "content": "Q"}, {"role": '
    answers = ['{"name": "Ann", "role": "admin"}', '[{"from": "A", "to": "B"}]', '{"content": 3}', '[{"a": 1, "a": 2}']
    rows = [trl(f"Q{n}", said) for n, said in enumerate(answers)]
    rows += [trl("R") | {"note": broken}, trl("S", broken), trl("T", broken.replace("{", "{{")), trl("U", f"[{broken}")]
    pairs, rejects, _ = run(tmp_path, rows, keep=["note"])
    assert pairs["chosen"].list.first().struct.field("content").to_list()[:4] == answers
    assert pairs["note"].to_list() == [None] * 4 + [broken] + [None] * 2
    assert rejects.select("source_row", "reason").rows() == [
        (5, "chosen is text that begins as turns do and is not JSON; expected turns as JSON")
    ]
    assert json.loads(rejects["row"][0]) == rows[5]


@pytest.mark.parametrize("key", ["(1, 2)", "3", "None", "b'x'"])
def test_a_cell_of_turns_whose_keys_are_no_texts_is_one_reject(tmp_path, key):
    turns = "[{'role': 'user', 'content': 'Q'}, {'role': 'assistant', 'content': 'yes'}]"
    rows = [{"chosen": turns, "rejected": turns.replace("yes", "no")}]
    rows.append(rows[0] | {"rejected": f"[{{'role': 'user', {key}: [{{{key}: 1}}]}}]"})
    pl.DataFrame(rows).write_csv(tmp_path / "raw.csv")
    pairs, rejects, _ = check(prepare(DataParams(source=str(tmp_path / "raw.csv")), CleaningParams()))
    assert (pairs.height, rejects["rule"].to_list()) == (1, ["malformed"])
    assert json.loads(rejects["row"][0])["rejected"] == rows[1]["rejected"]


@pytest.mark.parametrize(
    "empty", [{"responses": [], "scores": []}, {"responses": [], "ranks": []}, {"answers": []}], ids=str
)
def test_a_row_without_a_reply_is_one_reject(tmp_path, empty):
    full = {"responses": ["a", "b"], "scores": [1, 2]}
    full |= {"ranks": [2, 1]} if "ranks" in empty else {}
    if "answers" in empty:
        full = {"answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 2}]}
    pairs, rejects, _ = run(tmp_path, [{"prompt": "Q"} | full, {"prompt": "R"} | empty])
    assert (pairs.height, rejects.select("source_row", "rule").rows()) == (1, [(1, "unpaired")])


def single(prompt, response, safe) -> dict:
    return {"prompt": prompt, "response": response, "is_safe": safe}


def test_rows_that_are_single_replies_are_paired_and_accounted_for(tmp_path, capsys):
    """Q: safe over unsafe, each of which stands twice; R: one alone; S: one text labelled both ways."""
    records = [single("Q", "a", True), single("Q", "x", False), single("Q", "a", True), single("Q", "x", False)]
    records += [single("R", "a", True), single("S", "y", True), single("S", "y", False), single("Q", None, True)]
    pairs, rejects, summary = run(tmp_path, records)
    assert (summary["format"], pairs.height, summary["used"], summary["made"]) == ("beavertails", 1, 2, 2)
    assert dict(rejects.select("source_row", "rule").iter_rows()) == {
        2: "duplicate",
        3: "duplicate",
        4: "unpaired",
        5: "identical_responses",
        6: "identical_responses",
        7: "empty_response",
    }
    assert [json.loads(row) for row in rejects["row"]] == [records[row] for row in rejects["source_row"]]
    assert rejects["reason"][:2].to_list() == [f"the same reply, rated the same, as row {row}" for row in (0, 1)]
    assert summary["rules_of_pairs"] == {"identical_responses": 1}
    assert summary["labels"]["read"] == {"responses": 4, "both_ways": 1}
    assert "read 8 = used 2 + rejected 6; pairs made 2, kept 1" in capsys.readouterr().err


def test_a_single_reply_that_stands_twice_weighs_once_unless_duplicates_are_kept(tmp_path):
    """Two good replies and a bad one that stands twice: one pair, for the bad one has no other to meet."""
    records = [single("Q", *said) for said in (("g1", True), ("g2", True), ("b", False), ("b", False))]
    pairs, rejects, summary = run(tmp_path, records)
    assert (pairs.height, summary["made"]) == (1, 1)
    assert rejects.select("source_row", "rule").rows() == [(1, "unpaired"), (3, "duplicate")]
    assert run(tmp_path, records, KEEP).pairs["chosen"].list.first().struct.field("content").to_list() == ["g1", "g2"]
    rated = [record | {"severity_level": nth} for nth, record in enumerate(records)]
    assert run(tmp_path, rated).pairs.height == 2  # rated anew, a reply is another


def test_line_breaks_of_windows_are_counted_in_every_row_of_a_pair(tmp_path):
    rows = [single("Q", "yes", True), single("Q", "no\r\n", False), single("R\r\n", "alone", True)]
    assert run(tmp_path, rows).summary["marks"]["crlf"] == 1


def test_prompts_that_the_split_takes_for_one_are_not_paired_with_each_other(tmp_path):
    rows = [single("What is 10²?", "100", True), single("What is 102?", "102", False)]
    rows += [single("Q", "a", True), single(" Q\n", "x", False)]
    pairs, rejects, _ = run(tmp_path, rows)
    assert pairs["source_row"].to_list() == [2]
    assert rejects.select("source_row", "rule").rows() == [(0, "unpaired"), (1, "unpaired")]


@pytest.mark.parametrize("pairing", ["best", "adjacent"])
def test_a_best_reply_that_is_left_over_says_so(tmp_path, pairing):
    rows = [single("Q", "a", True), single("Q", "b", True), single("Q", "x", False)]
    rejects = run(tmp_path, rows, pairing=pairing).rejects
    assert rejects["source_row"].to_list() == [1] and "--pairing all uses it" in rejects["reason"][0]
    assert run(tmp_path, rows, pairing="all").rejects.is_empty()


def test_a_row_of_which_one_pair_is_refused_is_used(tmp_path):
    row = {"prompt": "Q", "responses": ["a", " a", "b"], "scores": [3, 2, 1]}
    pairs, rejects, summary = run(tmp_path, [row, row | {"prompt": "R", "scores": [1, 1, 1]}], pairing="all")
    assert (pairs.height, rejects["rule"].to_list()) == (2, ["unpaired"])
    assert (summary["made"], summary["rules_of_pairs"]) == (3, {"identical_responses": 1})
    assert pairs.select("chosen_reward", "rejected_reward").rows() == [(3.0, 1.0), (2.0, 1.0)]


def test_columns_are_named_or_kept(tmp_path):
    beside = {"topic": "x", "n": 1, "share": 0.5, "ok": True, "tags": ["a"], "mixed": 1}
    rows = [trl() | beside, trl("R") | beside | {"n": None, "mixed": "one", "a sentence, not a name": 1}]
    plain = run(tmp_path, rows)
    assert plain.summary["columns"]["unused"] == [*beside, "a sentence, not a name"]
    kept = run(tmp_path, rows, keep=["topic", "n", "share", "ok", "tags", "other=mixed"])
    assert kept.pairs.select(kept.summary["columns"]["kept"]).rows() == [
        ("x", 1, 0.5, True, '["a"]', "1"),
        ("x", None, 0.5, True, '["a"]', '"one"'),
    ]
    assert kept.summary["columns"]["unused"] == ["a sentence, not a name"]
    assert kept.pairs.select(list(PAIRS)).equals(plain.pairs)
    with pytest.raises(InputError, match="no such column to keep"):
        run(tmp_path, rows, keep=["nothing"])
    named = run(tmp_path, [trl() | {"a=b": 1, "b": 2}], keep=["n=a=b"])
    assert named.pairs["n"].to_list() == [1] and named.summary["columns"]["unused"] == ["b"]
    for name in ("split=topic", "chosen_pmi=n", "subset_gap=n", "balance_gap=n", "relabelled=n", "=n", ""):
        with pytest.raises(UsageError, match="cannot be kept"):
            run(tmp_path, rows, keep=[name])


def test_fields_of_turns_that_are_not_read_are_named(tmp_path):
    def turn(role, **more):
        return [{"role": role, "content": "x"} | more]

    part = {"type": "text", "text": "b", "cache_control": {"type": "x"}}
    row = {
        "prompt": turn("user", name="Ann", images=[], tool_calls=None),
        "chosen": turn("assistant", weight=0, value="y"),
        "rejected": turn("assistant", content=[part], loss=False),
    }
    told = run(tmp_path, [row]).summary["columns"]
    within = ["prompt.name", "chosen.weight", "chosen.value", "rejected.loss", "rejected.content.cache_control"]
    assert (told["unused"], told["unused_within"]) == ([], within)
    assert run(tmp_path, [row], keep=["talk=chosen"]).summary["columns"]["unused_within"] == [within[0], *within[3:]]
    odd = {"prompt": turn("user", tool_calls=[{"id": "1"}]), "chosen": turn("assistant"), "rejected": "no"}
    asked = {"input": {"messages": turn("user"), "tools": [{"type": "x"}], "parallel_tool_calls": True}}
    sides = {name: turn("assistant", content=name) for name in ("preferred_output", "non_preferred_output")}
    plain = {"prompt": "q", "chosen": "yes", "rejected": "no", "meta": {"id": 1}}
    assert run(tmp_path, [odd, plain]).summary["columns"]["unused_within"] == []
    assert run(tmp_path, [asked | sides]).summary["columns"]["unused_within"] == ["input.parallel_tool_calls"]


def test_a_map_by_numbers_is_an_object_and_no_prompt(tmp_path):
    maps = pa.array([[(1, "q")]], type=pa.map_(pa.int64(), pa.string()))
    pq.write_table(pa.table({"prompt": maps, "chosen": ["a"], "rejected": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="prompt is object"):
        prepare(DataParams(source=str(tmp_path / "a.parquet"), format="trl"), CleaningParams())


def test_what_stands_beside_the_rows_of_a_wrapped_file_is_named_or_refused(tmp_path):
    rows = [trl(), None, trl("R") | {"role": "x"}]
    plain = run(tmp_path, rows)
    beside = {"version": 1, "tags": ["a", "b"], "system": "", "role": {}}
    wrapped = run(tmp_path, beside | {"data": rows})
    assert wrapped.pairs.equals(plain.pairs) and wrapped.rejects.equals(plain.rejects)
    assert (plain.summary["columns"]["unused"], wrapped.summary["columns"]["unused"]) == (
        ["role"],
        ["role", *beside][:4],
    )
    for name, value in {"system": "Be brief.", "labels": [1], "chosen_safe": True, "tags": [1, 2, 3]}.items():
        with pytest.raises(InputError, match="beside the rows") as error:
            run(tmp_path, {name: value, "data": rows})
        assert error.value.details["field"] == name


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([2**63 + 1, 2**64 - 1], [2**63 + 1, 2**64 - 1]),
        ([2**53 + 1, 0.5], ["9007199254740993", "0.5"]),
        ([2**53, 0.5], [2.0**53, 0.5]),
        ([10**400, 1], [str(10**400), "1"]),
        ([-1, 2**63], ["-1", str(2**63)]),
    ],
    ids=range(5),
)
def test_a_kept_number_is_the_source_s(tmp_path, values, kept):
    rows = [trl(f"Q{nth}") | {"id": value} for nth, value in enumerate(values)]
    assert run(tmp_path, rows, keep=["id"]).pairs["id"].to_list() == kept


def test_fields_named_by_the_user(tmp_path):
    rows = [{"q": f"Q{i}", "better": "yes", "worse": "no", "note": ""} for i in range(3)]
    fields = {"prompt": "q", "chosen": "better", "rejected": "worse"}
    prepared = run(tmp_path, rows, fields=fields)
    assert (prepared.summary["format"], prepared.pairs.height) == ("mapped", 3)
    assert prepared.summary["columns"]["unused"] == ["note"]
    with pytest.raises(UsageError, match="fields and a format"):
        run(tmp_path, rows, fields=fields, format="trl")
    rows[2]["answers"] = [{"told": "x"}]
    assert run(tmp_path, rows, fields=fields | {"system": "answers.0.told"}).pairs.height == 3
    for ours, theirs in (("system", "nite"), ("chosen_safe", "safe_1"), ("system", "answers.1.told")):
        with pytest.raises(InputError, match="no such column") as error:
            run(tmp_path, rows, fields=fields | {ours: theirs})
        assert error.value.details["field"] == theirs
    del rows[2]["answers"]
    with pytest.raises(InputError, match="none of the formats") as error:
        run(tmp_path, rows)
    assert error.value.details["found"] == "fields better, note, q, worse"


def test_unwritable_output(tmp_path):
    prepared = run(tmp_path, [trl()])
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        write(prepared, *(tmp_path / "file" / name for name in ("a.parquet", "b.parquet", "c.json")))


TEXT = st.sampled_from(["", " ", "a", "A", "b", "a\r\n", "é"]) | st.none()
RECORD = st.fixed_dictionaries({"prompt": TEXT, "chosen": TEXT, "rejected": TEXT}) | st.sampled_from([1, {}, []])


@settings(max_examples=60)
@given(
    st.lists(RECORD, max_size=30),
    st.sampled_from(["drop", "keep"]),
    st.sampled_from(["drop_both", "keep_first", "keep"]),
    st.integers(0, 2),
)
def test_rows_add_up(tmp_path_factory, records, duplicates, contradictions, cap):
    cleaning = CleaningParams(duplicates=duplicates, contradictions=contradictions, max_pairs_per_prompt=cap)
    sure = trl("a prompt of its own")
    pairs, rejects, _ = run(tmp_path_factory.mktemp("p"), [*records, sure], cleaning)
    assert sorted([*pairs["source_row"], *rejects["source_row"]]) == list(range(len(records) + 1))
    ids = pairs["pair_id"].str.head(32)
    assert duplicates == "keep" or ids.is_unique().all()
    assert not cap or pairs["prompt_key"].value_counts()["count"].max() <= cap


def test_sample():
    pytest.importorskip("curate.sample.generator")
    pairs, _, summary = check(prepare(DataParams(source="sample", sample_pairs=200), CleaningParams()))
    assert (summary["source"], summary["format"], summary["read"]) == ("sample", "pku", 200)
    assert set(pairs["source"]) == {"sample"}
    assert pairs.select(*RATINGS).null_count().row(0) == (0, 0, 0, 0)
    assert {"safe", "unsafe"} <= set(pairs["query_type"])


def real(name: str, cleaning=CleaningParams(), **data) -> Prepared:  # noqa: B008
    path = REALDATA / "pref" / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return check(prepare(DataParams(source=str(path), **data), cleaning))


def counts(prepared: Prepared) -> dict[str, int]:
    return {rule: found["count"] for rule, found in prepared.summary["rules"].items()}


@pytest.mark.realdata
def test_real_response_pairs():
    silent = real("pku_saferlhf_test_safeunsafe_dev.json")
    assert (silent.summary["format"], silent.summary["labels"]) == ("ranked_pair", {})
    assert set(silent.pairs["query_type"]) == {"unknown"}
    assert silent.pairs["chosen_safe"].null_count() == silent.pairs.height
    prepared = real("pku_saferlhf_test_safeunsafe_dev.json", format="pku_ranked")
    assert prepared.summary["labels"] == {
        "read": {"responses": 2811, "both_ways": 282},
        "kept": {"responses": 2758, "both_ways": 123},
    }
    assert prepared.summary["read"] == 3033
    assert prepared.pairs["pair_id"].equals(silent.pairs["pair_id"])
    assert prepared.pairs["split"].to_list().count("heldout") == silent.pairs["split"].to_list().count("heldout")
    assert counts(prepared) == {"duplicate": 915, "contradiction": 2 * 87}
    assert set(prepared.pairs["query_type"]) == {"unsafe"}
    assert prepared.pairs["chosen_safe"].all()
    everything = real("pku_saferlhf_test_safeunsafe_dev.json", KEEP)
    assert everything.summary["kept"] == 3033
    assert (
        everything.summary["marks"]["most_pairs_of_a_prompt"] == 20
    )  # counted in the raw file too; its README says 33
    assert everything.pairs["prompt"].n_unique() == 555
    one_way = real("pku_saferlhf_test_safeunsafe_dev.json", CleaningParams(contradictions="keep_first"))
    assert counts(one_way) == {"duplicate": 915, "contradiction": 87}


@pytest.mark.realdata
def test_real_native_rows():
    prepared = real("pku_saferlhf_native_2rows.jsonl")
    assert (prepared.summary["format"], prepared.summary["kept"]) == ("pku", 2)
    assert set(prepared.pairs["query_type"]) == {"safe"}
    assert prepared.pairs.select(*RATINGS).rows() == [(1.0, 0.0, 0.0, 0.0)] * 2


@pytest.mark.realdata
def test_real_transcripts():
    prepared = real("hh_harmless_base_test_dev.jsonl.gz")
    assert (prepared.summary["format"], prepared.summary["read"]) == ("hh", 1382)
    assert prepared.summary["marks"]["markers_in_a_turn"] == 24  # of 23 a turn of the assistant begins so
    assert counts(prepared) == {"diverging_transcript": 4, "empty_response": 2}
    empty = prepared.rejects.filter(pl.col("rule") == "empty_response")
    assert set(empty["reason"]) == {"chosen is empty"}
    assert prepared.pairs["prompt"].list.last().struct.field("role").unique().to_list() == ["user"]


@pytest.mark.realdata
def test_real_sharegpt():
    prepared = real("dpo_en_demo.json")
    assert (prepared.summary["format"], prepared.summary["read"]) == ("sharegpt", 300)
    assert counts(prepared) == {"duplicate": 5}
    everything = real("dpo_en_demo.json", KEEP).pairs
    assert (everything["prompt"].list.first().struct.field("role") == "system").sum() == 80
