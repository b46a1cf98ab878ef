"""A tokenizer with any vocabulary and template, a random model and pairs: for tests that need no comprehension."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl

from curate.models.rendering import TokenSequence
from curate.pairs.schema import PAIRS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

VOCABULARY = 250  # of `small` models and `ids`


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


def unigram_tokenizer(template: str | None = CHATML, byte_fallback: bool = True, nfkc: bool = False):
    """SentencePiece's kind: Unigram over Metaspace. Without `byte_fallback` it fuses what it lacks into one <unk>."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    core.train_from_iterator(LINES, trainer)
    pieces = sorted(core.get_vocab(), key=lambda piece: (piece != "<unk>", piece))
    # One score for all, so that the fewest pieces win: the trainer's scores differ from run to run.
    vocab = [(piece, -1.0) for piece in (*pieces, *(BYTES if byte_fallback else ()))]
    core.model = models.Unigram(vocab, unk_id=0, byte_fallback=byte_fallback)
    if nfkc:
        core.normalizer = normalizers.NFKC()
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return _with_template(core, template, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def metaspace_tokenizer(template: str | None = CHATML):
    """Llama 2's kind: BPE over whole texts, spaces as a letter of their own, bytes for what the vocabulary lacks."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    core.train_from_iterator(LINES, trainer)
    model = json.loads(core.to_str())["model"]
    vocab = model["vocab"] | {name: len(model["vocab"]) + i for i, name in enumerate(BYTES)}
    merges = [tuple(pair) for pair in model["merges"]]
    core.model = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _with_template(core, template, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def wordpiece_tokenizer(template: str | None = CHATML, lowercase: bool = False):
    """BERT's kind: words and letters; white space is lost, and a word with an unknown letter is one [UNK]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = {word for line in LINES for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(line))}
    letters = set("".join(words))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(words | letters), *(f"##{c}" for c in sorted(letters))]
    core = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer, core.decoder = normalizer, pre_tokenizer, decoders.WordPiece()
    return _with_template(core, template, unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]")


LINES = [
    f"{word} {line}"
    for line in ("the quick brown fox jumps over the lazy dog", "user: assistant: Answer [INST] the [/INST] 0123456789")
    for word in ("a", "foxes", "assistants", "Answers", "answer!")
] * 20
"""What the three tokenizers above know: ASCII only."""
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _with_template(core, template: str | None, **special: str):
    """Besides the named special tokens two that only the vocabulary marks as special, as Gemma 3 has them.

    Asked to, it writes its beginning and end around every text: a chat template has done so already.
    """
    from tokenizers import AddedToken, processors
    from transformers import PreTrainedTokenizerFast

    ends = [special["bos_token"], special["eos_token"]]
    core.post_processor = processors.TemplateProcessing(
        single=f"{ends[0]} $A {ends[1]}", special_tokens=[(token, core.token_to_id(token)) for token in ends]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
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


def break_weights(folder: Path) -> Path:
    """Have the model of `save_model` compute what is no number."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def little_memory(monkeypatch, net, tokens: int, after: int = 0) -> list[int]:
    """Have the model `net` run out of memory in every pass of more than so many tokens, but for the first `after`;
    what each pass asks for."""
    import torch

    asked: list[int] = []
    inner = net.base_model.forward

    def forward(input_ids=None, *args, inputs_embeds=None, **more):
        asked.append((input_ids if inputs_embeds is None else inputs_embeds[..., 0]).numel())
        if asked[-1] > tokens and len(asked) > after:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.16 GiB.\npages")
        return inner(input_ids, *args, inputs_embeds=inputs_embeds, **more)

    monkeypatch.setattr(net.base_model, "forward", forward)
    return asked


def told_of_memory(capsys) -> list[str]:
    """The lines that say so."""
    return [line for line in capsys.readouterr().err.splitlines() if "do not fit the device's memory" in line]


def small(kind, **more):
    """A random two-layer model of that architecture."""
    from transformers import AutoConfig

    options = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "pad_token_id": 0,
    }
    return AutoConfig.for_model(kind, **options | more)


def save_rater(folder: Path, seed: int = 0, outputs: int = 1, template: str | None = CHATML) -> Path:
    """A random two-layer Llama that rates a conversation, with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(seed)
    tokenizer = byte_tokenizer(template)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.2,
        num_labels=outputs,
        pad_token_id=None,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
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


def ids(*lengths, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(0, VOCABULARY, length, dtype=np.int32) for length in lengths]


def forest(seed=0):
    """Three prompts of 1, 9 and 40 tokens; shared, unshared and one-token responses, one of them twice."""
    one, nine, forty = ids(1, 9, 40, seed=seed)
    a, b, c, single = ids(12, 30, 3, 1, seed=seed + 1)
    pairs = [(nine, a), (one, a), (nine, b), (one, b), (forty, c), (nine, single), (one, single), (nine, a)]
    return [TokenSequence(*pair) for pair in pairs]
