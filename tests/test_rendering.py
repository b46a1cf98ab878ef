"""The boundary between prompt and response is exact, or the pair is named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CHATML, byte_tokenizer, pairs

from curate.errors import InputError
from curate.rendering import null_prompt_ids, render_pairs

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def row(tokenizer, prompt, chosen="yes", rejected="no"):
    return render_pairs(tokenizer, pairs((prompt, chosen, rejected))).row(0, named=True)


def test_a_response_runs_from_its_first_token_to_the_end_of_turn(tokenizer):
    got = row(tokenizer, "the fox", "brown", "quick fox")
    assert tokenizer.decode(got["prompt_ids"]) == "<|im_start|>user\nthe fox<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(got["chosen_ids"]) == "brown<|im_end|>"
    assert tokenizer.decode(got["rejected_ids"]) == "quick fox<|im_end|>"


@settings(max_examples=60, deadline=None)
@given(prompt=TEXT, response=TEXT)
def test_prompt_ids_are_an_exact_prefix(tokenizer, prompt, response):
    got = row(tokenizer, prompt, response)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}], tokenize=False
    )
    assert got["prompt_ids"] + got["chosen_ids"] == tokenizer(text.rstrip(), add_special_tokens=False)["input_ids"]
    assert got["chosen_ids"][-1] == tokenizer.eos_token_id


def test_a_template_without_an_end_of_turn_gets_the_eos_token():
    template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer = byte_tokenizer(template)
    assert tokenizer.decode(row(tokenizer, "a", "b")["chosen_ids"]) == " b\n<|im_end|>"


def test_a_token_across_the_boundary_names_the_pair():
    template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}: {% else %}{{ m['content'] }}{% endif %}"
        "{% endfor %}"
    )
    tokenizer = byte_tokenizer(template, merges=[": fox : fox " * 50])
    frame = pairs(("the", "fox", "brown"))
    with pytest.raises(InputError, match="spans the boundary") as caught:
        render_pairs(tokenizer, frame)
    assert frame["pair_id"][0] in caught.value.details["field"] and "chosen" in caught.value.details["field"]


def test_a_template_that_rewrites_the_prompt_is_refused():
    template = (
        "{% for m in messages %}{{ loop.length }}{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}>{% endif %}"
    )
    with pytest.raises(InputError, match="renders the prompt differently"):
        row(byte_tokenizer(template), "a")


def test_a_template_that_refuses_the_roles_names_the_pair():
    tokenizer = byte_tokenizer("{{ raise_exception('only user turns, please') }}")
    frame = pairs(("the", "fox", "brown"))
    with pytest.raises(InputError, match="only user turns, please") as caught:
        render_pairs(tokenizer, frame)
    assert frame["pair_id"][0] in caught.value.details["field"]


def test_null_prompts(tokenizer):
    assert tokenizer.decode(null_prompt_ids(tokenizer, "empty_user")) == (
        "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
    )
    assert null_prompt_ids(tokenizer, "bos") == [tokenizer.bos_token_id]
    without = byte_tokenizer(CHATML)
    without.bos_token = None
    with pytest.raises(InputError, match="no beginning-of-sequence token"):
        null_prompt_ids(without, "bos")


def test_rows_keep_the_order_of_the_pairs(tokenizer):
    frame = pairs(*((f"q{i}", "a" * (i % 7 + 1), "b") for i in range(1200)))
    rendered = render_pairs(tokenizer, frame)
    assert rendered["pair_id"].equals(frame["pair_id"])
    lengths = rendered["chosen_ids"].list.len().to_numpy()
    assert np.all(lengths[::7] == lengths[0]) and lengths.max() > lengths.min()
