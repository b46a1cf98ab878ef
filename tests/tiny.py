"""A tokenizer with any vocabulary and template, a random model and pairs: for tests that need no comprehension."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl

from curate.schema import PAIRS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(template: str | None = CHATML, merges: list[str] | None = None):
    """A byte-level BPE tokenizer; `merges` are texts to learn merges from."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(merges or ["the quick brown fox " * 20], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = template
    return tokenizer


def save_model(folder: Path, context: int = 256, seed: int = 0) -> Path:
    """A random two-layer Qwen2 with its tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,  # far from uniform, so that a wrong boundary shows
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pairs(*rows: tuple[str, str, str], query_type: str = "unsafe", heldout_every: int = 5) -> pl.DataFrame:
    """(prompt, chosen, rejected) texts as schema.PAIRS; every fifth prompt is held out."""

    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return pl.DataFrame(
        [
            {
                "pair_id": hashlib.sha256("\0".join(row).encode()).hexdigest()[:32],
                "prompt": turn("user", row[0]),
                "chosen": turn("assistant", row[1]),
                "rejected": turn("assistant", row[2]),
                "query_type": query_type,
                "chosen_safe": True,
                "rejected_safe": query_type == "safe",
                "prompt_key": hashlib.sha256(row[0].encode()).hexdigest()[:32],
                "split": "heldout" if i % heldout_every == heldout_every - 1 else "train",
                "source": "tests",
                "source_format": "canonical",
                "source_row": i,
            }
            for i, row in enumerate(rows)
        ],
        schema=PAIRS,
    )


def many(count: int) -> pl.DataFrame:
    """`count` distinct short pairs of mixed lengths."""
    return pairs(
        *(
            (
                f"question {i} about the fox",
                "a brown answer " * (1 + i % 4) + str(i),
                "quick words " * (1 + i % 3) + str(i),
            )
            for i in range(count)
        )
    )
