"""A byte-level BPE tokenizer with a ChatML template, trained on what the reference model reads. [ours]"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from curate.models.scratch.plain import Document

DOCUMENT, TURN, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""As Qwen's, without a system turn of its own. A prompt ends with a newline, a token of its own here, so that
its ids are an exact prefix of the ids with a response."""


def train_tokenizer(documents: Iterable[Document], vocab_size: int, context: int) -> Any:
    """A tokenizer of at most `vocab_size` entries (fewer where the text has no more merges)."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    from curate.base.light import transformers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Line breaks stay by themselves: no merge spans the end of a generation prompt.
            pre_tokenizers.Split(Regex(r"\n"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[DOCUMENT, TURN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(_contents(documents), trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=DOCUMENT,
        pad_token=DOCUMENT,
        eos_token=END,
        additional_special_tokens=[TURN],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _contents(documents: Iterable[Document]) -> Iterable[str]:
    for document in documents:
        if isinstance(document, str):
            yield document
        else:
            for turn in document:
                yield f"{turn['role']}\n{turn['content']}"


def token_ids(tokenizer: Any, documents: Sequence[Document]) -> list[list[int]]:
    """Token ids of each document as the model reads it.

    A dialogue is rendered by the template and ends with the end-of-turn token; plain text begins with, and
    ends with, the document token.
    """
    texts = [
        DOCUMENT + document + DOCUMENT
        if isinstance(document, str)
        else tokenizer.apply_chat_template(document, tokenize=False).rstrip("\n")
        for document in documents
    ]
    return list(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]) if texts else []
