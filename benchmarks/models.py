"""Which families and which traits of templates were tried, and what came out: writes docs/models.md.

    python benchmarks/models.py [--only llama,mamba] [--out docs/models.md]

A family is a model of random weights, two layers and width 64, made from transformers' own configuration class: what
is tried is its architecture, not what it says. Its log-probs by the engine that scores, packed or not, are compared
with the plain model's in float64, one sequence at a time. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from templates import CHATML, TRAITS, tokenizer_of

import curate.base.threads  # noqa: F401  (before torch)
from curate.base.progress import say
from curate.models import turn
from curate.models.rendering import prefill_token_ids, render_responses
from curate.models.resolve import resolve
from curate.scoring.check import exact
from curate.scoring.engines.transformers import TransformersEngine
from curate.scoring.packing import probe

CONTEXT = 256
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "num_key_value_heads": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}
WINDOW = {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}
PLAIN = """llama qwen2 qwen3 gemma phi olmo olmo2 glm glm4 granite cohere stablelm nemotron persimmon starcoder2 smollm3
helium arcee seed_oss apertus hunyuan_v1_dense ernie4_5 exaone4 vaultgemma bitnet diffllama nanochat phi3 ministral
ministral3 cwm gpt2 gpt_bigcode openai-gpt codegen opt xglm biogpt gpt_neox bloom mamba falcon_mamba xlstm"""
MIXTURES = "mixtral qwen2_moe qwen3_moe olmoe flex_olmo granitemoe phimoe minimax dots1"
FAMILIES: dict[str, dict[str, Any]] = {
    **{name: {} for name in PLAIN.split()},
    **dict.fromkeys(MIXTURES.split(), EXPERTS),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "glm4_moe_lite"), LATENT),
    "falcon": {"head_dim": None},  # None: not given
    "gptj": {"rotary_dim": 16},
    "mistral": {"sliding_window": 7},
    "gemma2": WINDOW,
    "gemma3_text": WINDOW,
    "cohere2": WINDOW,
    "olmo3": WINDOW,
    "gpt_oss": EXPERTS | WINDOW,
    "llama4_text": EXPERTS | {"intermediate_size_mlp": 96, "attention_chunk_size": 32},
    "mpt": {"max_seq_len": CONTEXT, "d_model": 64, "n_heads": 4, "n_layers": 2},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 7},
    "ctrl": {"dff": 96},
    "rwkv": {"context_length": CONTEXT},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "attention_window_size": 16},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1, "state_size": 16, "expand": 2},
    "jamba": EXPERTS | {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_d_ssm": 128},
    "qwen3_next": EXPERTS | {"layer_types": ["linear_attention", "full_attention"]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="families, by commas")
    parser.add_argument("--out", type=Path, help="the page to write; else it is printed")
    settings = parser.parse_args()
    warnings.filterwarnings("ignore")
    families = settings.only.split(",") if settings.only else sorted(FAMILIES)
    rows, unmade = [], []
    for name in families:
        try:
            rows.append(_family(name))
            say(rows[-1])
        except Exception as error:  # a configuration that is not so small, a part that transformers wants installed
            unmade.append(name)
            say(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    page = _page(rows, unmade)
    settings.out.write_text(page, encoding="utf-8") if settings.out else print(page)


def _family(name: str) -> str:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    tokenizer = tokenizer_of(CHATML, eos="<|im_end|>")
    options = SMALL | {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 2} | FAMILIES[name]
    options = {key: value for key, value in options.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **options)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        model = resolve(folder)
        engine = TransformersEngine(model, "float32", tell=lambda _: None)
        with engine.own_attention():
            padding = probe.padding_fault(engine.model, "float32")
        sequences = [s for seed in range(2, 5) for s in probe.sequences(len(tokenizer), seed)]
        tokens = np.array([len(sequence.response_ids) for sequence in sequences])
        apart = float((np.abs(engine.logps(sequences) - exact(model, sequences)) / tokens).max())
        kind = type(engine.model).__name__
        packed = f"no: {engine.fault}" if engine.fault else "yes"
    return f"| {name} | {kind} | {packed} | {'one length' if padding else 'any'} | {apart:.0e} |"


OTHER = ("system_turn", "date", "thought")


def _traits() -> Iterator[str]:
    prompt = [{"role": "user", "content": "Q"}]
    for name, (template, ends) in TRAITS.items():
        tokenizer = tokenizer_of(template, *ends)
        (sequence,) = render_responses(tokenizer, [prompt], ["A"], ["a response"])
        (prefill,) = prefill_token_ids(tokenizer, [prompt], ["A"], ["a response"])
        told = turn.record(tokenizer)
        texts = [tokenizer.decode(ids) for ids in (sequence.prompt_ids, sequence.response_ids, prefill)]
        shown = " | ".join(f"`{text!r}`".replace("|", "\\|") for text in texts)
        more = "; ".join(
            f"{key.replace('_', ' ')}: {told[key]}" for key in ("system_turn", "date", "thought") if told[key]
        )
        yield f"| {name.replace('|', chr(92) + '|')} | {shown} | {more} |"


PAGE = """# Models that were tried

Written by `python benchmarks/models.py --out docs/models.md`; `curate check MODEL` tests yours in the same way.

## Families

Models of random weights, two layers, width 64, from transformers' own classes: {versions}, CPU, {machine}.

- Packed: whether sequences share passes without padding; tested by whether a few of them get the same numbers as alone.
  A model that is not packed is scored as exactly, but slower.
- Padding: `one length` means that left-padding changes the numbers. Then a training batch has sequences of one length,
  and generation takes one request at a time.
- Difference: the largest over 15 sequences, nats/token, between the engine's float32 and the plain model's float64, one
  sequence at a time.

| family | class | packed | padding | difference |
|---|---|---|---|---|
{families}

{unmade}## Templates

Our own templates with those traits (`benchmarks/templates.py`); the user's turn is `Q`, the response `A`.

| trait | prompt | response, as it is scored | prefill | what else it does |
|---|---|---|---|---|
{traits}
"""


def _page(rows: list[str], unmade: list[str]) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    left = f"Not tried, as this command cannot make them so small: {', '.join(unmade)}.\n\n" if unmade else ""
    return PAGE.format(
        versions=versions,
        machine=platform.machine(),
        families="\n".join(rows),
        unmade=left,
        traits="\n".join(_traits()),
    )


if __name__ == "__main__":
    main()
