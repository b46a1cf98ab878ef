"""Any text comes back (in NFC, as Qwen2 reads it); a prompt's ids are a prefix of the ids with a response."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from curate.models.scratch.tokenizer import token_ids, train_tokenizer

DIALOGUE = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "How do I bake bread?\n\nQuickly, please."},
    {"role": "assistant", "content": "\nFlour, water, salt.\n"},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Saved and loaded again, as everybody else has it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    config = '{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}'
    train_tokenizer([DIALOGUE, "Some plain text. " * 20], 400, 128).save_pretrained(folder)
    (folder / "config.json").write_text(config)
    return AutoTokenizer.from_pretrained(folder)


@settings(max_examples=200)
@given(st.text())
def test_any_text_comes_back(tokenizer, text):
    text = text.encode("utf-8", "ignore").decode()
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == unicodedata.normalize(
        "NFC", text
    )


@pytest.mark.parametrize("text", ["naïve café", "日本語", "👩‍👩‍👧 🏳️‍🌈", "a\r\n\tb  c", "\u0000\u200b"])
def test_unicode_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("content", ["", "\n", " x", "\n\nx", "Sure.", "🙂"])
def test_a_prompt_is_a_prefix_of_prompt_and_response(tokenizer, content):
    prompt = tokenizer.apply_chat_template(DIALOGUE[:2], tokenize=False, add_generation_prompt=True)
    both = tokenizer.apply_chat_template([*DIALOGUE[:2], {"role": "assistant", "content": content}], tokenize=False)
    prompt_ids, both_ids = tokenizer([prompt, both], add_special_tokens=False)["input_ids"]
    assert both_ids[: len(prompt_ids)] == prompt_ids


def test_special_tokens_and_what_ends_a_text(tokenizer):
    assert (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token) == (
        "<|im_end|>",
        "<|endoftext|>",
        "<|endoftext|>",
    )
    dialogue, plain = token_ids(tokenizer, [DIALOGUE, "plain"])
    assert dialogue[-1] == tokenizer.eos_token_id and dialogue.count(tokenizer.eos_token_id) == 3
    assert plain[0] == plain[-1] == tokenizer.bos_token_id
