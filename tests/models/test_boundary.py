"""For any text, tokenizer and template: the prompt's ids are an exact prefix, or the pair is named.

What is expected is found another way than the code finds it: the whole text goes through the bare tokenizer
at once, and where each token stands in the text, not the ids alone, says whose it is.
"""

from collections import Counter
from functools import cache
from typing import NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import BYTES, CHATML, byte_tokenizer, metaspace_tokenizer, pairs, unigram_tokenizer, wordpiece_tokenizer

from curate.base.errors import InputError
from curate.models.rendering import CHUNK, null_prompt_ids, render_pairs
from curate.pairs.schema import MESSAGES

FAMILIES = {
    "byte": byte_tokenizer,
    "byte_lines": lambda: byte_tokenizer(merges=["the\n\n\n: fox : fox" * 20]),  # merges newlines, and `: fox`
    "metaspace": metaspace_tokenizer,
    "unigram": unigram_tokenizer,
    "unigram_nfkc": lambda: unigram_tokenizer(nfkc=True),
    "unigram_unk": lambda: unigram_tokenizer(byte_fallback=False),
    "wordpiece": wordpiece_tokenizer,
    "wordpiece_lowercase": lambda: wordpiece_tokenizer(lowercase=True),
}
LOSSLESS = ("byte", "byte_lines")

LINES = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "inst": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'system' %}<<SYS>>{{ m['content'] }}<</SYS>>\n"
    "{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}",
    "space": LINES,  # the generation prompt ends with a space
    "letter": LINES.replace("{{ m['role'] }}: ", "{{ m['role'] }}: a").replace("assistant: ", "assistant: a"),
    "trim": CHATML.replace("m['content']", "m['content'] | trim"),
    "open": LINES.replace("{{ eos_token if m['role'] == 'assistant' }}", ""),  # writes no end of turn
    "bare": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    "rewrites": LINES.replace("{{ m['role'] }}", "{{ loop.revindex }}"),  # numbers the turns from the last
}
ORDINARY = ("chatml", "inst", "space", "letter", "trim", "open")
SPANNING = {
    ("byte_lines", "chatml"): ("\n", "\n\n", "fox", "12"),
    ("byte_lines", "space"): ("fox", "foxes", "12", "a"),
    ("metaspace", "space"): ("fox", "a", "12", "é"),
    ("unigram", "space"): ("fox", "assistant", "12", "é"),
    ("unigram_nfkc", "letter"): ("\u0301", "\u0301x", "fox", "12"),  # a and the accent become one letter
    ("unigram_unk", "chatml"): ("é", "🦊", "fox", "12"),
    ("wordpiece", "letter"): ("nswer", "🦊", " fox", "12"),
}
"""Families and templates of which tokens span the boundary; two beginnings of a response do so, and two do not."""
SHARE = {("unigram_unk", "chatml"): 0.05, ("unigram_unk", "trim"): 0.05} | dict.fromkeys(
    [("wordpiece", "letter"), ("wordpiece_lowercase", "letter")], 0.05
)
"""The least share of any pairs that is rendered, where it is not 0.6: most strange letters are unknown there, and
one <unk> or [UNK] with the template's last character (a newline that is unknown, too, or the word's first letter)."""

FRAGMENTS = [
    *("the", "fox", "foxes", " a", "s the", "x", "Answer", "user: ", "##s", "12345", "３", "<0x0A>", "{{ 7 * 7 }}"),
    *(" ", "  ", "\n", "\n\n", "\t", "\r\n", "\r", "\x00", "\x1c", "\x7f", "\x85", "\xa0", "\xad", "\u2028", "\u3000"),
    *("\u200b", "\u200d", "\u0301", "e\u0301", "é", "ﬁ", "İ", "ß", "½", "한", "\u1112\u1161\u11ab", "漢字", "ไทย", "▁"),
    *("שלום", "\u202eabc\u202c", "\u0627\u0644", "🦊", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇫🇷", "𝔘", "\ufeff", "\ufffd"),
    *("<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>", "<s>", "</s>", "<unk>", "[SEP]", "[UNK]", "[INST]"),
]
TEXT = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20
)


@st.composite
def conversations(draw):
    """A system turn or none, an exchange or none, and the user's turn."""
    before = draw(st.sampled_from([(), ("system",), ("user", "assistant"), ("system", "user", "assistant")]))
    return [{"role": role, "content": draw(TEXT)} for role in (*before, "user")]


@cache
def tokenizer_of(family, template="chatml"):
    tokenizer = FAMILIES[family]()
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


def user(text):
    return [{"role": "user", "content": text}]


def render(tokenizer, prompt, chosen, rejected="no"):
    """The row of one pair, whose id is `this`."""
    frame = pairs(("", chosen, rejected)).with_columns(
        pair_id=pl.lit("this"), prompt=pl.Series([prompt], dtype=MESSAGES)
    )
    return render_pairs(tokenizer, frame).row(0, named=True)


class Side(NamedTuple):
    """A prompt and one response as the bare tokenizer sees them."""

    before: str  # the prompt's text
    whole: str  # prompt, response and end of turn
    prompt_ids: list[int]
    whole_ids: list[int]
    tokens: list[str]  # of `whole_ids`
    spans: list[tuple[int, int]]  # where each stands in `whole`

    @property
    def exact(self):
        """The prompt's ids begin the whole's, something follows, and the last of them stands for no response text."""
        count = len(self.prompt_ids)
        return (
            0 < count < len(self.whole_ids)
            and self.whole_ids[:count] == self.prompt_ids
            # Neighbouring bytes report the span of all of them, but a byte stands for itself.
            and (self.tokens[count - 1] in BYTES or self.spans[count - 1][1] <= len(self.before))
        )


def side(tokenizer, prompt, response):
    before = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": response}], tokenize=False)
    whole = whole + tokenizer.eos_token if tokenizer.chat_template == TEMPLATES["open"] else whole.rstrip()
    assert whole.startswith(before)
    bare = tokenizer.backend_tokenizer
    prompt_ids = bare.encode(before, add_special_tokens=False).ids
    encoded = bare.encode(whole, add_special_tokens=False)
    return Side(before, whole, prompt_ids, encoded.ids, encoded.tokens, encoded.offsets)


def rendered_or_refused(tokenizer, prompt, chosen, rejected, lossless=False):
    """Assert all that is claimed of a pair; returns which of the two it was."""
    sides = {"chosen": side(tokenizer, prompt, chosen), "rejected": side(tokenizer, prompt, rejected)}
    try:
        got = render(tokenizer, prompt, chosen, rejected)
    except InputError as error:
        if error.what == "both responses are the same tokens":
            one, other = sides.values()
            assert one.exact and one.whole_ids == other.whole_ids
            return "rendered"  # as far as the boundary goes
        named = {f"pair this, {name}": one for name, one in sides.items()}
        assert not named[error.details["field"]].exact
        return "refused"
    end = "<|im_end|>" if "<|im_end|>" in tokenizer.chat_template else tokenizer.eos_token
    for name, one in sides.items():
        ids = got[f"{name}_ids"]
        assert one.exact
        assert got["prompt_ids"] + ids == one.whole_ids
        assert ids[-1] == tokenizer.convert_tokens_to_ids(end)
        if lossless:
            assert tokenizer.decode(got["prompt_ids"]) == one.before
            assert tokenizer.decode(ids) == one.whole[len(one.before) :]
    return "rendered"


def shares(check, examples, **strategies):
    """The share of each outcome of `check`; its texts are the same in every run."""
    seen = Counter()

    @settings(max_examples=examples, derandomize=True)
    @given(**strategies)
    def run(**texts):
        seen[check(**texts)] += 1

    run()
    return {outcome: seen[outcome] / seen.total() for outcome in ("rendered", "refused")}


@pytest.mark.parametrize("template", ORDINARY)
@pytest.mark.parametrize("family", FAMILIES)
def test_any_pair_is_exact_or_named(family, template):
    tokenizer = tokenizer_of(family, template)

    def check(prompt, chosen, rejected):
        return rendered_or_refused(tokenizer, prompt, chosen, rejected, family in LOSSLESS)

    share = shares(check, 20, prompt=conversations(), chosen=TEXT, rejected=TEXT)
    assert share["rendered"] >= SHARE.get((family, template), 0.6)


@pytest.mark.parametrize(("family", "template"), SPANNING)
def test_both_outcomes_are_met_where_tokens_span_the_boundary(family, template):
    tokenizer = tokenizer_of(family, template)

    def check(start, rest):
        return rendered_or_refused(tokenizer, user("which?"), "4", start + rest, family in LOSSLESS)

    share = shares(check, 40, start=st.sampled_from(SPANNING[family, template]), rest=TEXT)
    assert share["rendered"] >= 0.2 and share["refused"] >= 0.2


@pytest.mark.parametrize("family", FAMILIES)
def test_the_null_prompt_is_followed_by_the_very_same_response(family):
    tokenizer = tokenizer_of(family)
    null = null_prompt_ids(tokenizer, "empty_user")

    def check(prompt, response):
        try:
            got = render(tokenizer, prompt, response)
        except InputError:
            return "refused"
        assert render(tokenizer, user(""), response) == {**got, "prompt_ids": null}
        assert null + got["chosen_ids"] == side(tokenizer, user(""), response).whole_ids
        return "rendered"

    share = shares(check, 20, prompt=conversations(), response=TEXT)
    assert share["rendered"] >= SHARE.get((family, "chatml"), 0.6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_template_that_changes_the_prompt_with_the_response_is_refused(family):
    tokenizer = tokenizer_of(family, "rewrites")

    def check(prompt, chosen):
        with pytest.raises(InputError, match="renders the prompt differently") as caught:
            render(tokenizer, prompt, chosen)
        assert caught.value.details["field"] == "pair this, chosen"
        return "refused"

    assert shares(check, 10, prompt=conversations(), chosen=TEXT)["refused"] == 1


@pytest.mark.parametrize("name", ["chosen", "rejected"])
def test_the_one_bad_pair_of_many_is_named_with_its_side(name):
    bad = CHUNK + 7
    rows = [(f"question {i}", "4", str(i + 10)) for i in range(CHUNK + 20)]
    rows[bad] = ("which?", "fox", "4") if name == "chosen" else ("which?", "4", "fox")
    frame = pairs(*rows)
    tokenizer = tokenizer_of("unigram", "space")
    with pytest.raises(InputError, match="spans the boundary") as caught:
        render_pairs(tokenizer, frame)
    assert caught.value.details["field"] == f"pair {frame['pair_id'][bad]}, {name}"
    others = frame.filter(pl.col("pair_id") != frame["pair_id"][bad])
    assert render_pairs(tokenizer, others)["pair_id"].equals(others["pair_id"])


@pytest.mark.parametrize(
    ("family", "prompt", "response"),
    [("unigram_unk", "é", "é fox"), ("wordpiece", "é", "é fox"), ("wordpiece", "x" * 101, "x fox")],
)
def test_an_unknown_token_spans_the_boundary_though_the_ids_are_a_prefix(family, prompt, response):
    tokenizer = tokenizer_of(family, "bare")
    one = side(tokenizer, user(prompt), response)
    assert one.whole_ids[: len(one.prompt_ids)] == one.prompt_ids
    with pytest.raises(InputError, match="spans the boundary") as caught:
        render(tokenizer, user(prompt), " fox", response)
    assert caught.value.details["field"] == "pair this, rejected"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_response_that_ends_like_any_special_token_is_still_given_its_end_of_turn(family):
    tokenizer = tokenizer_of(family, "open")
    for token in {*tokenizer.all_special_tokens, "<|im_start|>", "<|im_end|>"}:
        ids = render(tokenizer, user("a"), f"4 {token}")["chosen_ids"]
        assert tokenizer.convert_tokens_to_ids(token) in ids[:-1]
        assert ids[-1] == tokenizer.eos_token_id


def test_an_end_of_turn_that_only_the_vocabulary_marks_as_special_is_the_last_token():
    tokenizer = tokenizer_of("metaspace")
    assert "<|im_end|>" not in tokenizer.all_special_tokens
    ids = render(tokenizer, user("a"), "4")["chosen_ids"]
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>") and tokenizer.eos_token_id not in ids


def test_a_prompt_of_no_token_is_refused():
    tokenizer = tokenizer_of("wordpiece", "bare")
    with pytest.raises(InputError, match="the prompt renders to no token") as caught:
        render(tokenizer, user("\u200b\n"), "fox")
    assert caught.value.details["field"] == "pair this"
    with pytest.raises(InputError, match="the prompt renders to no token"):
        null_prompt_ids(tokenizer, "empty_user")


def test_a_response_of_no_token_is_refused():
    tokenizer = wordpiece_tokenizer(TEMPLATES["bare"])
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="the response renders to no token") as caught:
        render(tokenizer, user("the"), "\u200b\n")
    assert caught.value.details["field"] == "pair this, chosen"


def test_a_tokenizer_file_that_truncates_and_pads_does_neither_here():
    tokenizer = byte_tokenizer()
    expected = render(tokenizer, user("the fox"), "the quick brown fox")
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    assert render(tokenizer, user("the fox"), "the quick brown fox") == expected
