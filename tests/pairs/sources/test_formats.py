"""Each format: a sound record, its variants, and what it refuses. Every text here is invented."""

from decimal import Decimal

import pytest

from curate.pairs.identity import pair_id
from curate.pairs.schema import OPTIONAL, QueryType, Split
from curate.pairs.sources import FORMATS
from curate.pairs.sources.base import Malformed, NullPrompt, Parsed, Ratings, Refused
from curate.pairs.sources.choosing import choose
from tests.pairs.sources.rows import ROWS, turn


def parse(form: str, record: dict) -> Parsed:
    return FORMATS[form].parse(record)


def said(pair: Parsed) -> tuple:
    """prompt turns, chosen, rejected as plain text"""
    prompt = [(turn["role"], turn["content"]) for turn in pair.prompt]
    return prompt, pair.chosen[0]["content"], pair.rejected[0]["content"]


PKU = {
    "prompt": "How do I oil a hinge?",
    "response_0": "With a drop of oil.",
    "response_1": "With sand.",
    "is_response_0_safe": True,
    "is_response_1_safe": True,
    "better_response_id": 0,
    "safer_response_id": 1,
}
TRL = {"prompt": "Q", "chosen": "yes", "rejected": "no"}
HH = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: Go."}
PAIR = {"prompt": "Q", "response": ["yes", "no"]}
OPENAI = {
    "input": {"messages": [turn("developer", "Be brief."), turn("user", "Q")], "tools": []},
    "preferred_output": [turn("assistant", "yes")],
    "non_preferred_output": [turn("assistant", "no")],
}
SHAREGPT = {
    "conversations": [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "A"},
        {"from": "gpt", "value": "B"},
        {"from": "human", "value": "C"},
    ],
    "chosen": {"from": "gpt", "value": "yes"},
    "rejected": {"from": "gpt", "value": "no"},
}
CANONICAL = {
    "pair_id": "0" * 32,
    "prompt": [turn("user", "Q")],
    "chosen": [turn("assistant", "yes")],
    "rejected": [turn("assistant", "no")],
    "query_type": "unsafe",
    "chosen_safe": True,
    "rejected_safe": False,
    "prompt_key": "1" * 32,
    "split": "heldout",
    "source": "raw.json",
    "source_format": "pku",
    "source_row": 7,
}
EXAMPLES = {
    "canonical": CANONICAL,
    "pku": PKU,
    "ranked_pair": PAIR,
    "pku_ranked": PAIR,
    "hh": HH,
    "openai": OPENAI,
    "sharegpt": SHAREGPT,
    "trl": TRL,
    **ROWS,
}


@pytest.mark.parametrize(
    ("safe", "better", "chosen", "query_type"),
    [
        ((True, True), 0, "With a drop of oil.", QueryType.SAFE),
        ((True, True), 1, "With sand.", QueryType.SAFE),
        ((True, False), 1, "With a drop of oil.", QueryType.UNSAFE),  # the helpful one is not the safe one
        ((False, True), 0, "With sand.", QueryType.UNSAFE),
    ],
)
def test_pku_follows_method_5(safe, better, chosen, query_type):
    record = PKU | {"is_response_0_safe": safe[0], "is_response_1_safe": safe[1], "better_response_id": better}
    pair = parse("pku", record)
    assert said(pair)[1] == chosen
    assert pair.query_type is query_type
    assert pair.chosen_safe is True
    assert pair.rejected_safe is (query_type is QueryType.SAFE)


@pytest.mark.parametrize("name", ["better_response_id", "safer_response_id"])
@pytest.mark.parametrize("none", [None, ""])
def test_pku_an_id_that_nothing_needs_may_be_null(name, none):
    record = PKU | {"is_response_1_safe": False}
    without = {key: value for key, value in record.items() if key != name}
    assert parse("pku", record | {name: none}) == parse("pku", without)
    with pytest.raises(Malformed, match="better_response_id"):
        parse("pku", PKU | {"better_response_id": none})  # both are safe: it chooses


def test_pku_both_unsafe_is_left_to_the_rule():
    pair = parse("pku", PKU | {"is_response_0_safe": False, "is_response_1_safe": False})
    assert (pair.chosen_safe, pair.rejected_safe) == (False, False)


def test_pku_from_csv_has_words_for_types():
    record = {name: str(value) for name, value in PKU.items()} | {"is_response_1_safe": "False"}
    assert parse("pku", record) == parse("pku", PKU | {"is_response_1_safe": False})


@pytest.mark.parametrize(
    ("change", "field", "found"),
    [
        ({"is_response_0_safe": 1}, "is_response_0_safe", "integer"),
        ({"is_response_1_safe": None}, "is_response_1_safe", "null"),
        ({"better_response_id": 2}, "better_response_id", "2"),
        ({"better_response_id": True}, "better_response_id", "boolean"),
        ({"safer_response_id": "x"}, "safer_response_id", "text"),
        ({"response_1": ["a"]}, "response_1", "list"),
        ({"prompt": 3}, "prompt", "integer"),
    ],
)
def test_pku_malformed_names_field_and_types(change, field, found):
    with pytest.raises(Malformed) as error:
        parse("pku", PKU | change)
    assert (error.value.rule, error.value.field, error.value.found) == ("malformed", field, found)


def test_missing_field_is_malformed_and_null_prompt_is_its_own_rule():
    with pytest.raises(Malformed, match="response_1 is missing"):
        parse("pku", {name: value for name, value in PKU.items() if name != "response_1"})
    for form, field in (("pku", "prompt"), ("pku_ranked", "prompt"), ("trl", "prompt"), ("canonical", "prompt")):
        with pytest.raises(NullPrompt):
            parse(form, EXAMPLES[form] | {field: None})
    with pytest.raises(NullPrompt):
        parse("sharegpt", SHAREGPT | {"conversations": None})
    with pytest.raises(NullPrompt):
        parse("openai", OPENAI | {"input": None})


def test_pku_ranked_labels_by_convention_and_ranked_pair_claims_nothing():
    pair = parse("pku_ranked", PAIR)
    assert said(pair) == ([("user", "Q")], "yes", "no")
    assert (pair.query_type, pair.chosen_safe, pair.rejected_safe) == (QueryType.UNSAFE, True, False)
    assert pair.marks == ("safety_by_convention",)
    ranked = parse("ranked_pair", PAIR)
    assert said(ranked) == said(pair)
    assert (ranked.query_type, ranked.chosen_safe, ranked.marks) == (QueryType.UNKNOWN, None, ())


@pytest.mark.parametrize("response", [None, "yes", ["yes"], ["a", "b", "c"], ["yes", None]])
def test_ranked_pair_wants_two_texts(response):
    with pytest.raises(Malformed, match="response"):
        parse("pku_ranked", PAIR | {"response": response})


def test_hh_splits_turns_and_strips_layout():
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\nHow are you?\n\nHuman: Fine \n\nAssistant:"
    pair = parse("hh", {"chosen": start + " Good. ", "rejected": start + " Good grief."})
    turns = [("user", "Hi"), ("assistant", "Hello.\nHow are you?"), ("user", "Fine")]
    assert said(pair) == (turns, "Good.", "Good grief.")
    assert pair.query_type is QueryType.UNKNOWN


def test_hh_diverging_transcripts():
    longer = "\n\nHuman: Hi\n\nAssistant: Other.\n\nHuman: Why\n\nAssistant: So."
    for record in (
        {"chosen": HH["chosen"], "rejected": longer},
        {"chosen": longer, "rejected": HH["rejected"]},
        {"chosen": HH["chosen"], "rejected": "\n\nHuman: Bye\n\nAssistant: Hello."},
    ):
        with pytest.raises(Refused) as error:
            parse("hh", record)
        assert error.value.rule == "diverging_transcript"


SAID = "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: q2\n\nAssistant:"


@pytest.mark.parametrize("prompt", [SAID, SAID.strip(), SAID + " "])
@pytest.mark.parametrize(("form", "field"), [("trl", "prompt"), ("orca", "question"), ("query", "query")])
def test_a_prompt_that_is_a_transcript_is_its_turns(form, field, prompt):
    """As full-hh-rlhf and rm-static have it; with plain replies, or with the whole transcripts again."""
    turns = [("user", "hi"), ("assistant", "yes?"), ("user", "q2")]
    for start in ("", SAID):
        pair = parse(form, {field: prompt, "chosen": f"{start}yes", "rejected": f"{start}no"})
        assert said(pair) == (turns, "yes", "no")


@pytest.mark.parametrize(
    "prompt", ["Human: hi", "Complete it:\n\nHuman: hi\n\nAssistant:", "Assistant: do", "Human beings?\n\nAssistant:"]
)
def test_a_prompt_that_only_looks_like_a_transcript_is_a_user_s_turn(prompt):
    answer = "Human: may be\nno"
    assert said(parse("trl", TRL | {"prompt": prompt, "chosen": answer})) == ([("user", prompt)], answer, "no")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": "Other"}, "prompt is not what chosen starts with"),
        ({"rejected": "no"}, "rejected is text without a turn"),
        ({"rejected": "\n\nHuman: Q\n\nAssistant: a\n\nHuman: b\n\nAssistant: no"}, "part before their last turn"),
    ],
)
def test_transcripts_beside_a_prompt_must_agree_with_it(change, reason):
    record = {side: f"\n\nHuman: Q\n\nAssistant: {word}" for side, word in (("chosen", "yes"), ("rejected", "no"))}
    assert parse("trl", {"prompt": " Q\n"} | record) == parse("trl", TRL)
    with pytest.raises(Refused, match=reason):
        parse("trl", {"prompt": "Q"} | record | change)


def test_hh_wants_transcripts():
    with pytest.raises(Malformed, match="rejected is text without a turn"):
        parse("hh", HH | {"rejected": "plain"})


def test_trl_standard_and_conversational_say_the_same():
    explicit = {
        "prompt": [turn("user", "Q")],
        "chosen": [turn("assistant", "yes")],
        "rejected": [turn("assistant", "no")],
    }
    implicit = {side: explicit["prompt"] + explicit[side] for side in ("chosen", "rejected")}
    full = implicit | {"prompt": "Q"}  # UltraFeedback repeats the prompt
    pairs = [parse("trl", record) for record in (TRL, explicit, implicit, full)]
    assert {pair_id(*pair[:3]) for pair in pairs} == {pair_id(*pairs[0][:3])}
    assert [pair.marks for pair in pairs] == [(), (), ("implicit_prompt",), ()]


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "replies"),
    [
        ("The sky is blue.", "The sky is black.", "The sky is", ("blue.", "black.")),
        ("Paris ", "London", "", ("Paris ", "London")),
        ("I am here", "I am here now", "I am", ("here", "here now")),
    ],
)
def test_trl_implicit_text_prompt_ends_at_white_space(chosen, rejected, prompt, replies):
    record = {"chosen": chosen, "rejected": rejected}
    assert said(choose("trl", [], "f").parse(record)) == ([("user", prompt)], *replies)
    with pytest.raises(Malformed, match="prompt is missing"):
        parse("trl", record)


def test_messages_that_share_no_turn_name_the_field_that_could_be_the_prompt():
    """Axolotl's rows: the conversation in `messages`, the two replies beside it."""
    record = {side: [turn("assistant", side)] for side in ("chosen", "rejected")}
    with pytest.raises(Malformed, match=r"prompt is missing; expected prompt, or --field prompt=NAME .*: messages"):
        parse("trl", record | {"messages": [turn("user", "Q")]})
    assert parse("trl", record).prompt == []


def test_trl_named_takes_transcripts_for_what_they_are():
    pair = choose("trl", [], "f").parse(HH)
    assert (said(pair), pair.marks) == (([("user", "Hi")], "Hello.", "Go."), ("implicit_prompt",))


@pytest.mark.parametrize(
    "name",
    [
        *("question", "instruction", "Query", "input", "system", "system_prompt", "Prompt", "prompts", "prompt_text"),
        *("user", "user_prompt", "userPrompt", "user-input", "message", "messages", "conversations", "dialogue"),
        "instructions",
    ],
)
def test_trl_makes_no_prompt_of_the_responses_where_a_field_could_be_it(name):
    for known in (FORMATS["trl"], choose("trl", [], "f")):
        with pytest.raises(Malformed, match=f"prompt is missing; expected prompt, or --field prompt=NAME .*{name}"):
            known.parse({name: "Q", "chosen": "It is 1", "rejected": "It is 2"})


def test_trl_names_that_are_no_prompt_s_and_numbers_do_not_stand_against_one_from_the_responses():
    beside = dict.fromkeys(["prompt_id", "source", "chosen_text", "user_id", "query_type", "id"], "") | {"turns": 1}
    assert choose("trl", [], "f").parse({"chosen": "It is 1", "rejected": "It is 2", **beside}).prompt == [
        turn("user", "It is")
    ]


@pytest.mark.parametrize("form", ["trl", "query", "alpaca", "pku_ranked", "hh"])
def test_a_system_field_is_a_turn_and_two_that_differ_are_refused(form):
    pair = parse(form, EXAMPLES[form] | {"system": "In French."})
    assert pair.prompt[0] == turn("system", "In French.")
    assert parse(form, EXAMPLES[form] | {"system": " "}).prompt == parse(form, EXAMPLES[form] | {"system": None}).prompt
    if form == "trl":
        own = TRL | {"prompt": [turn("system", "In French."), turn("user", "Q")]}
        assert parse(form, own | {"system": "In French."}) == parse(form, own)
        with pytest.raises(Malformed, match="system is another text"):
            parse(form, own | {"system": "In Greek."})


def test_two_system_texts_beside_the_prompt_are_one_or_a_refusal():
    told = TRL | {"system": "In French."}
    assert parse("trl", told | {"system_prompt": "In French."}) == parse("trl", told)
    assert parse("trl", told | {"system_prompt": " "}) == parse("trl", told)
    with pytest.raises(Malformed, match="system_prompt is another text"):
        parse("trl", told | {"system_prompt": "In Greek."})


def test_an_instruction_or_input_that_says_nothing_takes_no_line():
    for said in ({"instruction": "Q", "input": ""}, {"instruction": "", "input": "Q"}):
        assert parse("alpaca", {**said, "chosen": "yes", "rejected": "no"}).prompt == [turn("user", "Q")]


def test_turns_under_other_names_and_in_parts():
    same = [
        [turn("user", "A b"), turn("assistant", "c"), turn("user", "d")],
        [turn("Human", "A b"), turn("bot", "c"), turn("User", "d")],
        [{"from": "human", "value": "A b"}, {"from": "gpt", "value": "c"}, {"from": "user", "value": "d"}],
        [
            turn("user", ["A", {"type": "text", "text": " b"}]),
            {"role": None, "content": None, "from": "model", "value": [{"type": "text", "value": "c", "text": None}]},
            turn("prompter", "d"),
        ],
    ]
    pairs = [parse("trl", TRL | {"prompt": turns}) for turns in same]
    assert all(pair == pairs[0] for pair in pairs)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([{"type": "image_url", "image_url": {"url": "x"}}], r"prompt\[0\].content\[0\] is an image"),
        ([{"type": "text", "text": "see"}, {"type": "image"}], r"content\[1\] is an image"),
        ([{"type": "input_audio"}], "is audio"),
        ([{"text": "see", "image": "a.png"}], r"content\[0\] is an image"),
        ([{"text": "see"}, {"video": "a.mp4", "text": None}], r"content\[1\] is a video"),
        ([{"type": "text", "text": None}], "a part whose text is null"),
        ([3], r"content\[0\] is integer"),
        (None, "content is null; expected text"),
    ],
)
def test_content_without_text_says_what_it_is(content, found):
    with pytest.raises(Malformed, match=found):
        parse("trl", TRL | {"prompt": [turn("user", content)]})


def test_a_tool_call_is_said_to_be_one():
    call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function"}]}
    with pytest.raises(Malformed, match="null with a tool call"):
        parse("openai", OPENAI | {"preferred_output": [call]})
    with pytest.raises(Malformed, match="a tool call"):
        parse("sharegpt", SHAREGPT | {"chosen": {"from": "function_call", "value": "{}"}})


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_beside_a_turn_s_text_is_not_dropped(name):
    answer = OPENAI["preferred_output"][0]
    with pytest.raises(Malformed, match="text with reasoning in a field of its own") as error:
        parse("openai", OPENAI | {"preferred_output": [answer | {name: "Let me see."}]})
    assert error.value.field == "preferred_output[0].content"
    for none in (None, ""):
        assert parse("openai", OPENAI | {"preferred_output": [answer | {name: none}]}) == parse("openai", OPENAI)


@pytest.mark.parametrize(
    ("name", "what"),
    [("images", "an image"), ("image_url", "an image"), ("audio", "audio"), ("videos", "a video"), ("file", "a file")],
)
def test_what_is_seen_or_heard_beside_a_turn_s_text_is_not_dropped(name, what):
    with pytest.raises(Malformed, match=f"text with {what} in a field of its own") as error:
        parse("trl", TRL | {"prompt": [turn("user", "Q") | {name: ["a.png"]}]})
    assert error.value.field == "prompt[0].content"
    for none in (None, "", []):
        pair = parse("trl", TRL | {"prompt": [turn("user", "Q") | {name: none, "profile": "p"}]})
        assert pair.prompt == [turn("user", "Q")]


@pytest.mark.parametrize(("tools", "marks"), [([{"type": "function"}], ("tools_left_out",)), ([], ()), (None, ())])
def test_tools_beside_a_prompt_are_counted(tools, marks):
    for name in ("tools", "functions"):
        assert parse("openai", OPENAI | {"input": OPENAI["input"] | {name: tools}}).marks == marks


@pytest.mark.parametrize(
    ("helpful", "safer", "safe", "marks"),
    [
        (0, 1, (True, True), ("helpful_is_not_safer",)),
        (1, 1, (False, True), ()),
        (0, 0, (False, True), ("safer_is_unsafe",)),
        (1, 0, (False, True), ("helpful_is_not_safer", "safer_is_unsafe")),
    ],
)
def test_pku_marks_disagreement(helpful, safer, safe, marks):
    record = PKU | {"better_response_id": helpful, "safer_response_id": safer}
    assert parse("pku", record | {"is_response_0_safe": safe[0], "is_response_1_safe": safe[1]}).marks == marks


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("score_chosen", "score_rejected"), Ratings(4.5, 2.0)),
        (("chosen-rating", "rejected-rating"), Ratings(4.5, 2.0)),
        (("chosen_rating", "rejected_rating"), Ratings(4.5, 2.0)),
        (("margin",), Ratings(margin=4.5)),
    ],
)
def test_ratings_under_other_names(names, values):
    given = dict(zip(names, ("4.5", Decimal("2.00")), strict=False))
    assert parse("trl", TRL | given).ratings == values


def test_trl_labels():
    given = parse("trl", TRL | {"query_type": "safe", "chosen_safe": True, "rejected_safe": True})
    assert (given.query_type, given.chosen_safe, given.rejected_safe) == (QueryType.SAFE, True, True)
    derived = parse("trl", TRL | {"chosen_safe": False, "rejected_safe": True})
    assert derived.query_type is QueryType.UNSAFE
    assert parse("trl", TRL).query_type is QueryType.UNKNOWN
    with pytest.raises(Malformed, match="query_type"):
        parse("trl", TRL | {"query_type": "odd"})


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        ({"chosen": "same", "rejected": "same"}, "identical_responses"),
        (
            {"chosen": [turn("user", "Q"), turn("assistant", "a")], "rejected": [turn("user", "R")]},
            "diverging_transcript",
        ),
        (TRL | {"chosen": [turn("wizard", "yes")]}, "malformed"),
        (TRL | {"chosen": [turn("assistant", None)]}, "malformed"),
        (TRL | {"chosen": [turn("user", "yes")]}, "malformed"),
        (TRL | {"chosen": []}, "malformed"),
        (TRL | {"chosen": {"role": "assistant"}}, "malformed"),
        (TRL | {"rejected": None}, "malformed"),
        (TRL | {"prompt": {"role": "user"}}, "malformed"),
        ({"chosen": "text", "rejected": [turn("assistant", "a")]}, "malformed"),
    ],
)
def test_trl_refuses(record, rule):
    with pytest.raises(Refused) as error:
        choose("trl", [], "f").parse(record)
    assert error.value.rule == rule


def test_openai_and_sharegpt_keep_system_turns():
    assert said(parse("openai", OPENAI)) == ([("system", "Be brief."), ("user", "Q")], "yes", "no")
    turns = [("system", "Be brief."), ("user", "A"), ("assistant", "B"), ("user", "C")]
    assert said(parse("sharegpt", SHAREGPT)) == (turns, "yes", "no")
    beside = {**SHAREGPT, "conversations": SHAREGPT["conversations"][1:], "system": "Be brief."}
    assert parse("sharegpt", beside) == parse("sharegpt", SHAREGPT)


@pytest.mark.parametrize(
    ("form", "change", "field"),
    [
        ("openai", {"preferred_output": []}, "preferred_output"),
        ("openai", {"preferred_output": "yes"}, "preferred_output"),
        ("openai", {"input": []}, "input"),
        ("openai", {"input": {}}, "messages"),
        ("sharegpt", {"chosen": "yes"}, "chosen"),
        ("sharegpt", {"chosen": {"from": "human", "value": "x"}}, "chosen"),
        ("sharegpt", {"conversations": [{"from": "alien", "value": "x"}]}, "conversations[0].from"),
        ("canonical", {"query_type": "odd"}, "query_type"),
        ("canonical", {"split": "test"}, "split"),
        ("canonical", {"source_row": "-7"}, "source_row"),
    ],
)
def test_malformed_records_of_other_formats(form, change, field):
    with pytest.raises(Malformed) as error:
        parse(form, EXAMPLES[form] | change)
    assert error.value.field == field


def test_canonical_keeps_split_and_origin():
    pair = parse("canonical", CANONICAL)
    assert pair.origin == (Split.HELDOUT, "raw.json", "pku", 7)
    assert (pair.query_type, pair.chosen_safe, pair.rejected_safe) == (QueryType.UNSAFE, True, False)
    assert parse("canonical", CANONICAL | {"split": None}).origin[0] is None


def test_reasons_never_quote_the_row():
    for change in ({"prompt": ["secret"]}, {"chosen": [turn("secret", "secret")]}, {"query_type": "secret"}):
        with pytest.raises(Refused) as error:
            parse("trl", TRL | change)
        assert "secret" not in error.value.reason


RATED = {"chosen_reward": 1.5, "rejected_reward": -2, "chosen_cost": "0.25", "rejected_cost": None}


@pytest.mark.parametrize("form", ["canonical", "trl", "hh", "sharegpt"])
def test_ratings_are_taken_over(form):
    assert tuple(OPTIONAL) == Ratings._fields
    assert parse(form, EXAMPLES[form]).ratings == Ratings()
    assert parse(form, EXAMPLES[form] | RATED).ratings == Ratings(1.5, -2.0, 0.25, None)
    assert parse(form, EXAMPLES[form] | {"chosen_cost": ""}).ratings == Ratings()  # CSV's null


def test_ratings_are_read_where_the_row_has_them_and_ours_from_our_columns_alone():
    """A reader of tables gives every row the fields of all."""
    columns = dict.fromkeys(["chosen_reward", "rejected_reward", "score_chosen", "score_rejected"])
    pair = parse("trl", TRL | columns | {"score_chosen": 8, "score_rejected": "3"})
    assert (pair.ratings, pair.marks) == (Ratings(8.0, 3.0), ("rated_under_other_names",))
    both = columns | {"chosen_reward": 0.5, "score_chosen": 8, "score_rejected": 3}
    assert (parse("trl", TRL | both).ratings, parse("trl", TRL | columns).ratings) == (Ratings(0.5), Ratings())
    assert parse("trl", TRL | both).marks == parse("trl", TRL | columns).marks == ()
    assert parse("canonical", CANONICAL | columns | {"score_chosen": 8}).ratings == Ratings()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (float("nan"), "a number that is not finite"),
        (float("-inf"), "a number that is not finite"),
        ("inf", "a number that is not finite"),
        (-1e300, "a number beyond 1e+99"),
        ("high", "text"),
        ("1_0", "text"),
        (True, "boolean"),
        ([1.0], "list"),
        (10**400, "integer"),
    ],
)
@pytest.mark.parametrize(("form", "field"), [("trl", "rejected_cost"), ("pku", "response_1_cost")])
def test_a_rating_is_a_finite_number(form, field, value, found):
    with pytest.raises(Malformed) as error:
        parse(form, EXAMPLES[form] | {field: value})
    assert (error.value.field, error.value.found, error.value.expected) == (field, found, "a finite number")


def test_pku_rates_by_severity_and_by_the_vote():
    """better_response_id is 0; the safe response 1 is chosen: its reward is 0, its cost its own level."""
    levels = {"response_0_severity_level": 3, "response_1_severity_level": 0}
    pair = parse("pku", PKU | levels | {"is_response_0_safe": False})
    assert said(pair)[1] == "With sand."
    assert pair.ratings == Ratings(chosen_reward=0.0, rejected_reward=1.0, chosen_cost=0.0, rejected_cost=3.0)
    assert parse("pku", PKU).ratings == Ratings(1.0, 0.0, None, None)
    voteless = {name: value for name, value in PKU.items() if name != "better_response_id"}
    assert parse("pku", voteless | {"is_response_0_safe": False}).ratings == Ratings()
    for level in (4, -1, 0.5):
        with pytest.raises(Malformed, match="one of 0, 1, 2, 3"):
            parse("pku", PKU | {"response_0_severity_level": level})


def test_pku_given_numbers_come_before_and_scales_do_not_mix():
    given = {"response_0_reward": 0.7, "response_1_cost": -1.5}
    levels = {"response_0_severity_level": 3, "response_1_severity_level": 0}
    assert parse("pku", PKU | levels | given).ratings == Ratings(0.7, None, None, -1.5)
