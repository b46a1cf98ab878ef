"""The boundary between prompt and response is exact, or the pair is named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CHATML, byte_tokenizer, metaspace_tokenizer, pairs, save_model, unigram_tokenizer, wordpiece_tokenizer

from curate.base.errors import InputError
from curate.models.rendering import (
    load_tokenizer,
    null_prompt_ids,
    prefill_token_ids,
    prompt_token_ids,
    render_pairs,
    stop_token_ids,
)
from curate.models.resolve import resolve

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


@settings(max_examples=60)
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


TOKENIZERS = (byte_tokenizer, metaspace_tokenizer, unigram_tokenizer, wordpiece_tokenizer)
BARE = (  # writes no end of turn
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize("template", [CHATML, BARE])
def test_prompts_and_prefills_are_rendered_as_pairs_are(make, template):
    tokenizer = make(template)
    frame = pairs(("the fox", "quick brown answer", "no"), ("a dog 7", "the lazy  dog, jumps", "over"))
    rendered = render_pairs(tokenizer, frame)
    prompts, chosen = frame["prompt"].to_list(), [row[0]["content"] for row in frame["chosen"]]
    assert prompt_token_ids(tokenizer, prompts, ["one", "two"]) == rendered["prompt_ids"].to_list()
    prefills = prefill_token_ids(tokenizer, prompts, chosen, ["one", "two"])
    for ids, response in zip(prefills, rendered["chosen_ids"].to_list(), strict=True):
        end = "<|im_end|>" if template == CHATML else tokenizer.eos_token
        assert response[: len(ids)] == ids and response[-1] == tokenizer.convert_tokens_to_ids(end)
        assert tokenizer.decode(response[len(ids) :]).strip() == end  # BARE's newline is none of the prefill's
        assert template == BARE or ids == response[:-1]
    assert prompt_token_ids(tokenizer, [], []) == prefill_token_ids(tokenizer, [], [], []) == []


def test_a_prompt_that_cannot_be_rendered_is_named():
    tokenizer = byte_tokenizer("{% if messages|length > 1 %}{{ raise_exception('one turn, please') }}{% endif %}a")
    one = [{"role": "user", "content": "b"}]
    with pytest.raises(InputError, match="one turn, please") as caught:
        prompt_token_ids(tokenizer, [one, one * 2], ["item 1", "item 2"])
    assert caught.value.details["field"] == "item 2"
    with pytest.raises(InputError, match="no token") as caught:
        prompt_token_ids(
            byte_tokenizer("{{ messages[0]['content'] }}"), [[{"role": "user", "content": ""}]], ["item 3"]
        )
    assert caught.value.details["field"] == "item 3"


def test_stop_tokens_are_the_templates_the_tokenizers_and_the_makers(tmp_path):
    folder = save_model(tmp_path)
    tokenizer = load_tokenizer(resolve(folder))
    tokenizer.eos_token = "<|endoftext|>"
    end, text = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    for config, more in (('{"eos_token_id": [7, 9]}', {7, 9}), ('{"eos_token_id": 8}', {8}), ("{}", set())):
        (folder / "generation_config.json").write_text(config)
        assert stop_token_ids(tokenizer, resolve(folder)) == {end, text} | more
    (folder / "generation_config.json").unlink()
    assert stop_token_ids(tokenizer, resolve(folder)) == {end, text}  # config.json says <|im_end|>
