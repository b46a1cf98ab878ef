"""Models of real shapes with random weights, and a tokenizer trained on given texts: what the benchmarks run on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


class Shape(NamedTuple):
    """A Qwen2."""

    vocab: int  # entries; those that the tokenizer has no token for are unused, and cost as much
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    tied: bool = True
    dtype: str = "float32"  # in which the weights are made and stored

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


SHAPES = {
    "30m-32k": Shape(32_768, 384, 1536, 8, 6, 2),
    "120m-150k": Shape(151_936, 512, 1792, 12, 8, 2),
    "30m-150k": Shape(151_936, 128, 1536, 16, 2, 1),
    "120m-32k": Shape(32_768, 768, 2816, 12, 12, 4),
    "1.5b-151k": Shape(151_936, 1536, 8960, 28, 12, 2, dtype="bfloat16"),
    "7b-151k": Shape(152_064, 3584, 18_944, 28, 28, 4, tied=False, dtype="bfloat16"),
}
"""By parameters and vocabulary; the last two are Qwen2.5's."""


def make_model(folder: Path, shape: Shape, texts: Iterable[str], context: int = 2048) -> dict[str, Any]:
    """Write model and tokenizer to `folder`; returns `parameters` and `tokens` (the entries that are used)."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokens = make_tokenizer(folder, texts, shape.vocab)
    config = Qwen2Config(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=shape.tied,
        # Logits that vary by about one nat at any width, as a trained model's do: errors show in the log-probs.
        initializer_range=shape.hidden**-0.5,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, shape.dtype))
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    return {"parameters": sum(weight.numel() for weight in model.parameters()), "tokens": tokens}


def shape_of(name: str) -> Shape:
    """Of SHAPES, or of a model's folder (Llama, Qwen2 and what is built alike)."""
    if name in SHAPES:
        return SHAPES[name]
    config = json.loads((Path(name) / "config.json").read_text())
    heads = config["num_attention_heads"]
    return Shape(
        config["vocab_size"],
        config["hidden_size"],
        config["intermediate_size"],
        config["num_hidden_layers"],
        heads,
        config.get("num_key_value_heads", heads),
        config.get("tie_word_embeddings", False),
    )


def copy_model(folder: Path, source: Path) -> dict[str, Any]:
    """The model in `source`, with our template: that every contender renders the pairs alike."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(source, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = TEMPLATE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"parameters": model.num_parameters(), "tokens": len(tokenizer)}


def build(folder: Path, name: str, texts: Iterable[str], context: int) -> Iterator[dict[str, Any]]:
    """The model for a worker, whose end gives back what it took of the device."""
    yield make_model(folder, SHAPES[name], texts, context) if name in SHAPES else copy_model(folder, Path(name))


def make_tokenizer(folder: Path, texts: Iterable[str], vocab: int) -> int:
    """Byte-level BPE with at most `vocab` entries, fewer where the texts end first; returns how many."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=SPECIAL[0], eos_token=SPECIAL[2], pad_token=SPECIAL[0]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return core.get_vocab_size()
