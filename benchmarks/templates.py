"""Chat templates with the traits of well-known families, in few words of our own, and a tokenizer to read them."""

from __future__ import annotations

from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOTH = ("<|end|>", "<|endoftext|>")


def each(user: str, assistant: str, system: str = "", front: str = "", opener: str = "", last: str = "") -> str:
    """A template: what it writes for each turn (%s: the content), before all, and where a response is to begin."""
    parts = {"user": user, "assistant": assistant, "system": system}
    turns = "".join(
        "{% if m['role'] == '" + role + "' %}" + text.replace("%s", "{{ m['content'] }}") + "{% endif %}"
        for role, text in parts.items()
    )
    body = f"{front}{{% for m in messages %}}{turns}{{% endfor %}}"
    return f"{body}{{% if add_generation_prompt %}}{opener}{{% else %}}{last}{{% endif %}}"


PHI4 = each("<|user|>%s<|end|>", "<|assistant|>%s<|end|>", opener="<|assistant|>", last="{{ eos_token }}")
PHI3 = each("<|user|>\n%s<|end|>\n", "<|assistant|>\n%s<|end|>\n", opener="<|assistant|>\n", last="{{ eos_token }}")
COHERE2 = each(
    "<|turn|><|user|>%s<|end_turn|>",
    "<|turn|><|assistant|><|start|>%s<|stop|><|end_turn|>",
    opener="<|turn|><|assistant|>",
)
LLAMA2 = each("{{ bos_token }}[INST] %s [/INST]", " %s {{ eos_token }}")
GLM4 = each("<|user|>\n%s", "<|assistant|>\n%s", front="[gMASK]<sop>", opener="<|assistant|>\n")
GEMMA = each(
    "<start_of_turn>user\n%s<end_of_turn>\n",
    "<start_of_turn>model\n%s<end_of_turn>\n",
    front="{{ bos_token }}",
    opener="<start_of_turn>model\n",
)
R1 = each("<|user|>%s", "<|assistant|>%s{{ eos_token }}", opener="<|assistant|><think>\n").replace(
    "<|assistant|>{{ m['content'] }}", "<|assistant|>{{ m['content'].split('</think>')[-1] }}"
)
SHUT = each(  # opens a thought, and shuts it in tokens that span the opening
    "<|user|>%s<|end|>\n", "<|assistant|>\n<think>\n\n</think>\n\n%s<|end|>\n", opener="<|assistant|>\n<think>\n"
)
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}{% set thought = m['content'].split('</think>')[0] "
    "if '</think>' in m['content'] else '' %}<think>\n{{ thought.split('<think>')[-1].strip() }}\n</think>\n\n"
    "{{ m['content'].split('</think>')[-1].lstrip() }}{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MISTRAL = (  # a system turn stands in the last turn, if a user's, and nowhere else
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set turns = messages %}{% endif %}{{ bos_token }}{% for m in turns %}"
    "{% if m['role'] == 'user' %}[INST] {% if loop.last and system is defined %}{{ system }}\n\n{% endif %}"
    "{{ m['content'] }}[/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
SMOLLM2 = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful fox<|im_end|>\n{% endif %}" + CHATML
)
DATED = "{{ strftime_now('%d %B %Y') }}<|im_end|>\n" + CHATML
DATE_STRING = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}<|im_end|>\n" + CHATML

TOKENS = [
    *("<|end|>", "<|user|>", "<|assistant|>", "<|turn|>", "<|end_turn|>", "<|start|>", "<|stop|>", "[gMASK]", "<sop>"),
    *("<start_of_turn>", "<end_of_turn>", "<think>", "</think>"),
]


def tokenizer_of(template: str, *ends: str, eos: str = "<|endoftext|>") -> Any:
    """A byte-level tokenizer, in which newlines merge, with that template; `ends`: what generation_config names."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
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
    core.train_from_iterator(["the\n\n\n fox " * 20], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|endoftext|>", eos_token=eos)
    tokenizer.add_tokens([AddedToken(token, special="think" not in token) for token in TOKENS])
    tokenizer.chat_template = template
    if ends:
        tokenizer.curate_ends = frozenset(tokenizer.convert_tokens_to_ids(list(ends)))
    return tokenizer


TRAITS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ChatML: a newline behind the end": (CHATML, ()),
    "Phi-4-mini: `<|end|>`, then the end of text": (PHI4, BOTH),
    "Phi-3: the same with newlines between": (PHI3, BOTH),
    "Cohere2: a token before and after the response": (COHERE2, ("<|end_turn|>",)),
    "Llama 2: a space before the end of text": (LLAMA2, ()),
    "GLM-4: no end": (GLM4, ("<|endoftext|>", "<|user|>")),
    "Gemma: an end that is not the tokenizer's": (GEMMA, ("<|endoftext|>", "<end_of_turn>")),
    "Mistral v0.3: a system turn in the last turn": (MISTRAL, ()),
    "DeepSeek-R1 distillations: opens a thought": (R1, ()),
    "a thought opened, and shut before a response": (SHUT, BOTH),
    "Qwen3: an empty thought": (QWEN3, ()),
    "SmolLM2, Qwen2.5: a system turn of its own": (SMOLLM2, ()),
    "Granite 3, SmolLM3: reads the clock": (DATED, ()),
    "Llama 3: takes a date": (DATE_STRING, ()),
}
"""What is particular about it: (template, the tokens that generation_config ends with; none named)."""
