"""Properties of the held-out draw."""

import hashlib
import random

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curate.pairs.heldout import STRATA, draw
from curate.pairs.identity import pair_id, prompt_key, question_keys
from curate.pairs.schema import PAIRS, QueryType

ROWS = st.lists(
    st.tuples(st.integers(0, 40).map(lambda n: f"key{n}"), st.sampled_from([t.value for t in QueryType])), min_size=1
)
FRACTION = st.floats(0.01, 0.99)


def split(rows, fraction, seed):
    named = [([{"role": "user", "content": key}], key, query_type) for key, query_type in rows]
    frame = pl.DataFrame(
        named, schema={name: PAIRS[name] for name in ("prompt", "prompt_key", "query_type")}, orient="row"
    )
    return frame.select("prompt_key", "query_type", split=draw(frame, fraction, seed))


@given(ROWS, FRACTION, st.integers(0, 5), st.randoms())
def test_split_is_by_prompt_stratified_and_independent_of_order(rows, fraction, seed, shuffle: random.Random):
    frame = split(rows, fraction, seed)
    sides = {key: side for key, _, side in frame.iter_rows()}
    assert all(sides[key] == side for key, _, side in frame.iter_rows())
    strata: dict[str, list[str]] = {}
    for key in sides:
        types = {query_type for other, query_type in rows if other == key}
        strata.setdefault(next(t for t in STRATA if t in types), []).append(key)
    for keys in strata.values():
        heldout = {key for key in keys if sides[key] == "heldout"}
        n = len(keys)
        assert len(heldout) == (min(max(int(n * fraction + 0.5), 1), n - 1) if n > 1 else 0)
        ranked = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}|{key}".encode()).hexdigest())
        assert heldout == set(ranked[: len(heldout)])
    shuffle.shuffle(rows)
    assert {key: side for key, _, side in split(rows, fraction, seed).iter_rows()} == sides


def test_the_same_turns_under_two_system_turns_are_on_one_side():
    """Half of 40 questions are asked under none, one and two system turns; the others under one, each its own."""
    rows = []
    for number in range(40):
        told = [None, "Be brief.", "Be kind."] if number % 2 else [f"You are number {number}."]
        for system in told:
            turns = [{"role": "system", "content": system}] if system else []
            prompt = [*turns, {"role": "user", "content": f"question {number}"}]
            rows.append((prompt, prompt_key(prompt), "safe"))
    frame = pl.DataFrame(
        rows, schema={name: PAIRS[name] for name in ("prompt", "prompt_key", "query_type")}, orient="row"
    )
    questions = question_keys(frame)
    assert questions.n_unique() == 40 and frame["prompt_key"].n_unique() == 80
    assert questions[1] == frame["prompt_key"][1] == questions[2] == questions[3]  # that of the prompt alone
    sides = frame.select(questions, split=draw(frame, 0.3, 0)).unique()
    assert sides.height == 40 and (sides["split"] == "heldout").sum() == 12
    # Where no question is asked twice, the draw is by the prompt_key, as it is without system turns.
    once = frame.filter(questions.is_unique())
    keyed = once.with_columns(prompt=pl.Series([[{"role": "user", "content": key}] for key in once["prompt_key"]]))
    assert draw(once, 0.3, 0).equals(draw(keyed, 0.3, 0))


def test_seeds_differ():
    rows = [(f"key{i}", "safe") for i in range(50)]
    assert split(rows, 0.2, 0)["split"].to_list() != split(rows, 0.2, 1)["split"].to_list()


def test_prompt_key_folds_case_width_and_spacing_but_not_roles():
    def key(*turns):
        return prompt_key([{"role": role, "content": content} for role, content in turns])

    assert key(("user", "How  are\nyou?")) == key(("user", " ＨＯＷ are YOU？ ".replace("？", "?")))
    assert key(("user", "straße")) == key(("user", "STRASSE"))
    assert key(("user", "\ufeffHow are you?\u200b \u00ad")) == key(("user", "How are you?"))  # (nobody sees these)
    assert key(("user", "a")) != key(("system", "a"))
    assert key(("user", "a"), ("user", "b")) != key(("user", "b"))
    assert len(key(("user", "a"))) == 32


def test_pair_id_by_hand():
    turns = [{"content": text, "role": role} for role, text in (("user", "é"), ("assistant", "b"), ("assistant", "c"))]
    text = '[[{"content":"é","role":"user"}],[{"content":"b","role":"assistant"}],[{"content":"c","role":"assistant"}]]'
    assert pair_id(*([turn] for turn in turns)) == hashlib.sha256(text.encode()).hexdigest()[:32]
