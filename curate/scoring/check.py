"""Whether a model can be used, and how: its template, its boundary, its numbers. What a newcomer runs first."""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from curate.base.errors import CurateError, InputError
from curate.base.machine import Fact
from curate.models import rendering, turn
from curate.models.load import load_model
from curate.models.rendering import TokenSequence
from curate.models.resolve import UNBOUNDED, Model, resolve_given
from curate.scoring.engines.transformers import TransformersEngine
from curate.scoring.packing import probe
from curate.scoring.packing.forward import pad, response_logps

EXACT = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}  # nats/token from float64, at most
FLOAT64_WEIGHTS = 10**9  # of the largest model that is loaded in float64, too
SIZE = 4  # sequences run in float64

_QUESTIONS = (
    "How do I bake bread?",
    "What is 12 * 34? Show the steps.",
    "Écris un poème sur la pluie.",
    "Sort these:\n- pear\n- apple\n- fig",
    "x",
    "Please explain what a prime number is, in one sentence, to a child of ten years.",
)
_ANSWERS = (
    ("Mix flour, water, salt and yeast; let it rise for an hour; bake it hot.", "I cannot help with that."),
    ("12 * 34 = 12 * 30 + 12 * 4 = 360 + 48 = 408.", "408"),
    ("La pluie tombe, douce et grise,\nsur le toit de la remise. 🌧", "Non."),
    ("1. apple\n2. fig\n3. pear", "```python\nsorted(['pear', 'apple', 'fig'])\n```"),
    (" y", "An answer that begins and ends with a space. "),
    ("It is a number with no divisors but one and itself, like 7.", "A number."),
)


def check(
    name: str, revision: str | None, dtype: str, pairs: pl.DataFrame | None, *, trust_remote_code: bool = False
) -> Iterator[Fact]:
    """All that can be said of a model, in the order of finding it; a fault ends what depends on it.

    Args:
        pairs: columns schema.PAIRS, to render and score; None: six plain questions of our own.
    """
    try:
        model = resolve_given(name, revision, trust_remote_code=trust_remote_code)
    except CurateError as error:
        yield Fact("model", error.what, fault=error)
        return
    whose = " (an adapter over its base)" if model.adapter else ""
    yield Fact("model", f"{model.record()['name']}{whose}, digest {model.digest[:12]}", model.record())
    limit = "no limit named: give --max-length" if model.context == UNBOUNDED else f"{model.context:,} tokens"
    yield Fact("context", limit, model.record()["context"])
    sequences: list[TokenSequence] = []
    try:
        tokenizer = rendering.load_tokenizer(model)
        yield from _template(tokenizer, model)
        frame = sample() if pairs is None else pairs
        boundary, sequences = _boundary(tokenizer, frame, model.context)
        yield boundary
    except CurateError as error:
        yield Fact("template", error.what, fault=error)
    yield from _numbers(model, dtype, sequences)


def sample() -> pl.DataFrame:
    """Six pairs of ours: lines, spaces, code, letters beyond ASCII."""

    def turns(role: str, texts: Sequence[str]) -> list[list[dict[str, str]]]:
        return [[{"role": role, "content": text}] for text in texts]

    return pl.DataFrame(
        {
            "pair_id": [f"sample {number}" for number in range(len(_QUESTIONS))],
            "prompt": turns("user", _QUESTIONS),
            "chosen": turns("assistant", [one for one, _ in _ANSWERS]),
            "rejected": turns("assistant", [other for _, other in _ANSWERS]),
        }
    )


def _template(tokenizer: Any, model: Model) -> Iterator[Fact]:
    found = turn.record(tokenizer)
    stops = tokenizer.convert_ids_to_tokens(sorted(rendering.stop_token_ids(tokenizer, model)))
    yield Fact("end of turn", f"{found['end_of_turn']} (generation stops at {', '.join(map(str, stops))})", found)
    own = found["system_turn"]
    text = f"before a prompt that has none: {textwrap.shorten(own, 60, placeholder=' ...')!r}" if own else "none"
    yield Fact("own system", text, own)
    date = found["date"]
    yield Fact("clock", f"read; it is told {date}, always" if date else "not read", date)
    if found["thought"]:
        yield Fact("thought", f"the generation prompt opens one, which is {found['thought']}")


def _boundary(tokenizer: Any, pairs: pl.DataFrame, context: int) -> tuple[Fact, list[TokenSequence]]:
    """How many pairs render with an exact boundary, and their sequences: with their prompts, and the null prompt.

    Raises:
        InputError: none does; the first one's reason.
    """
    rendered, faults = rendering.render_or_set_aside(tokenizer, pairs)
    if not rendered.height:
        rendering.render_pairs(tokenizer, pairs.head(1))
    text = f"exact in {rendered.height} of {pairs.height} pairs"
    if faults:
        (reason, count), *_ = Counter(fault.partition(":")[0] for fault in faults.values()).most_common(1)
        text += f"; {count} set aside: {reason} (--unrenderable reject)"
    null = np.asarray(rendering.null_prompt_ids(tokenizer, "empty_user"), dtype=np.int32)
    sequences = [
        TokenSequence(before, np.asarray(ids, dtype=np.int32))
        for prompt, *sides in rendered.select("prompt_ids", "chosen_ids", "rejected_ids").iter_rows()
        for ids in sides
        for before in (np.asarray(prompt, dtype=np.int32), null)
    ]
    fact = Fact("boundary", text, {"exact": rendered.height, "of": pairs.height})
    return fact, [sequence for sequence in sequences if sequence.length <= context]


def _numbers(model: Model, dtype: str, sequences: list[TokenSequence]) -> Iterator[Fact]:
    """Packs, padding, parity and speed, by the engine that scores."""
    told: list[str] = []
    try:
        engine = TransformersEngine(model, dtype, tell=told.append)
        weights = sum(parameter.numel() for parameter in engine.model.parameters())
    except CurateError as error:
        yield Fact("weights", error.what, fault=error)
        return
    vocabulary = engine.model.config.get_text_config().vocab_size
    sequences = sequences or [s for seed in range(4) for s in probe.sequences(vocabulary, seed, model.context)]
    family = type(engine.model).__name__
    yield Fact("family", family, {"class": family, "weights": weights})
    yield Fact("packs", f"no, which is slower: {engine.fault}" if engine.fault else "yes", engine.fault is None)
    with engine.own_attention():
        padding = probe.padding_fault(engine.model, dtype)
    yield Fact("padding", f"{padding}: batches of one length" if padding else "disturbs nothing", padding is None)
    try:
        yield from _parity(engine, model, dtype, sequences, weights)
        started = time.monotonic()
        engine.logps(sequences)
        seconds, tokens = time.monotonic() - started, sum(sequence.length for sequence in sequences)
        rate = tokens / max(seconds, 1e-9)
        yield Fact("speed", f"{rate:,.0f} tokens/s (scored {tokens:,} in {seconds:.1f} s, {dtype})", rate)
    except CurateError as error:
        yield Fact("numbers", error.what, fault=error)


def _parity(
    engine: TransformersEngine, model: Model, dtype: str, sequences: list[TokenSequence], weights: int
) -> Iterator[Fact]:
    """Largest differences, nats/token: the engine's batches against one by one, and against float64."""
    tokens = np.array([len(sequence.response_ids) for sequence in sequences])
    found = engine.logps(sequences)
    if not np.isfinite(found).all():
        raise InputError(
            "the model gives log-probabilities that are no finite numbers",
            file=model.path,
            remedy="use --dtype float32 or bfloat16, and check the model's weights",
        )
    with engine.own_attention(), torch.inference_mode():
        alone = np.array([float(response_logps(engine.model, pad([s]).to(engine.device))[0]) for s in sequences])
    apart = float((np.abs(found - alone) / tokens).max())
    text = f"{apart:.1e} nats/token from one by one ({len(sequences)} sequences)"
    value: dict[str, Any] = {"one_by_one": apart, "float64": None}
    if weights <= FLOAT64_WEIGHTS:
        some = sorted(range(len(sequences)), key=lambda number: sequences[number].length)[-SIZE:]
        plain = exact(model, [sequences[number] for number in some])
        value["float64"] = float((np.abs(found[some] - plain) / tokens[some]).max())
        text += f", {value['float64']:.1e} from float64 ({len(some)})"
    fault = None
    if not max(apart, value["float64"] or 0.0) <= EXACT[dtype]:
        fault = InputError(
            "the engine's numbers are not the model's",
            file=model.path,
            found=text,
            expected=f"at most {EXACT[dtype]:g} nats/token",
            remedy="use --engine vllm where it knows the model, and report this with the output of `curate check`",
        )
    yield Fact("parity", text, value, fault)


@torch.inference_mode()
def exact(model: Model, sequences: Sequence[TokenSequence]) -> np.ndarray:
    """Log-probs by the plain model in float64, with the attention that its makers wrote out, one sequence at a time:
    float64 [sequences], nats."""
    net: Any = load_model(model, "float64").eval()
    if not getattr(net.config, "alibi", False):  # Falcon's, which transformers adds twice there
        net.set_attn_implementation("eager")
    if hasattr(net, "set_experts_implementation"):
        net.set_experts_implementation("eager")  # torch's grouped product has no float64
    out = np.empty(len(sequences))
    for row, (prompt, response) in enumerate(sequences):
        both = torch.from_numpy(np.concatenate([prompt, response]).astype(np.int64))[None].to(net.device)
        logps = net(input_ids=both, use_cache=False).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        out[row] = logps.gather(-1, both[0, len(prompt) :, None]).sum().item()
    return out
