"""Whatever gives a pair's four log-probabilities: `curate`, and what one would use without it.

Each `open_*` loads the model and returns a function that scores; everything heavy is imported inside, because each
contender has a process of its own.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from work import NUMBERS, Work


class Settings(NamedTuple):
    model: Path  # folder
    dtype: str
    context: int  # tokens
    padded_pairs: int  # pairs in a forward pass of the padded contenders
    harness_batch: int  # sequences in a forward pass of lm-evaluation-harness


class Result(NamedTuple):
    numbers: np.ndarray  # float64, [pairs, 4]: `NUMBERS`, nats
    rendering: float | None = None  # seconds of the run that went into chat template and tokenizer, where it renders


Run = Callable[[Work], Result]


def open_curate(settings: Settings, engine: str) -> Run:
    """`curate.scoring.score.score` with an empty store; engine and tokenizer are loaded once, before."""
    from curate.base.progress import console
    from curate.models import rendering
    from curate.models.resolve import resolve
    from curate.project.params import ScoreParams
    from curate.scoring import scorer
    from curate.scoring.score import score

    console.quiet = True
    model = resolve(settings.model)
    params = ScoreParams(engine=engine, dtype=settings.dtype)
    kept = _KeptEngine(scorer.open_engine(params, model))
    tokenizer = rendering.load_tokenizer(model)
    render_pairs = rendering.render_pairs
    seconds = 0.0

    def timed(*args: Any) -> Any:
        nonlocal seconds
        start = time.perf_counter()
        rendered = render_pairs(*args)
        seconds += time.perf_counter() - start
        return rendered

    scorer.open_engine = lambda *_: kept
    rendering.load_tokenizer = lambda _: tokenizer
    rendering.render_pairs = timed

    def run(work: Work) -> Result:
        nonlocal seconds
        seconds = 0.0
        with tempfile.TemporaryDirectory() as store:
            scores = score(work.pairs, model, params, Path(store)).scores
        return Result(scores.select(NUMBERS).to_numpy(), seconds)

    return run


class _KeptEngine:
    """An engine that outlives the run that closes it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        pass


def open_vllm(settings: Settings, *, logprobs: bool) -> Run:
    """Prompt log-probs of the four sequences of each pair, in one `generate`.

    Args:
        logprobs: else bare prefill, one token and no number of it: what scoring with vLLM can come to at best. Prompts
            that sequences share are computed once, and a run finds nothing of the one before.

    On a CPU what is set makes it start sooner and take less memory. The fastest of four runs (30M model, 2 busy cores)
    took 1.8-1.9 s with steps of 1024, 2048 and 4096 tokens and without bound threads, 2.1 s with steps of 512.
    """
    import torch

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    options: dict[str, Any] = {}
    if not torch.cuda.is_available():
        options["max_num_batched_tokens"] = settings.context
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    import vllm

    engine = vllm.LLM(
        str(settings.model),
        dtype=settings.dtype,
        max_model_len=settings.context,
        enforce_eager=True,
        disable_log_stats=True,
        **options,
    )
    asked: dict[str, Any] = {"prompt_logprobs": 0, "flat_logprobs": True} if logprobs else {}
    params = vllm.SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, **asked)

    def run(work: Work) -> Result:
        sequences = work.sequences()
        prompts = [vllm.TokensPrompt(prompt_token_ids=prompt + response) for prompt, response in sequences]
        engine.reset_prefix_cache()
        outputs = engine.generate(prompts, params, use_tqdm=False)
        if not logprobs:
            return Result(np.full((work.pairs.height, len(NUMBERS)), np.nan))
        sums = [
            sum(output.prompt_logprobs.logprobs[-len(sequence.response) :])
            for output, sequence in zip(outputs, sequences, strict=True)
        ]
        return Result(np.array(sums).reshape(-1, len(NUMBERS)))

    return run


def open_trl(settings: Settings, *, fused: bool) -> Run:
    """TRL's pass over a data set for reference log-probs: once for (x, y_w, y_l), once for (null, y_w, y_l).

    Its collator (right padding, all chosen before all rejected) on batches in the order of the data, as
    `DPOTrainer._precompute_ref_logps` and `compute_ref_log_probs` have it.

    Args:
        fused: the LM head in tiles of the vocabulary, as TRL 1 has it; else full logits, as before.
    """
    import torch
    from torch.utils.data import DataLoader
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.utils import add_fused_lm_head, selective_log_softmax

    model = _causal_lm(settings)
    if fused:
        add_fused_lm_head(model)
    collate = DataCollatorForPreference(pad_token_id=0)

    @torch.no_grad()
    def pass_over(examples: list[dict[str, list[int]]]) -> Iterator[torch.Tensor]:
        """[pairs of the batch, 2]"""
        for cpu in DataLoader(examples, batch_size=settings.padded_pairs, collate_fn=collate):
            batch = {name: tensor.to(model.device) for name, tensor in cpu.items()}
            mask = batch.pop("completion_mask")
            if fused:
                labels = batch["input_ids"].masked_fill(mask == 0, -100)
                per_token = model(**batch, use_cache=False, labels=labels, fused_lm_head=True).log_probs
            else:
                logits = model(**batch, use_cache=False).logits[:, :-1]
                per_token = selective_log_softmax(logits, batch["input_ids"][:, 1:]) * mask[:, 1:]
            yield torch.stack(per_token.sum(dim=1).chunk(2), dim=1).double().cpu()

    def run(work: Work) -> Result:
        examples = work.ids.drop("pair_id").to_dicts()
        null = [{**example, "prompt_ids": work.null} for example in examples]
        return Result(torch.cat([torch.cat(list(pass_over(part))) for part in (examples, null)], dim=1).numpy())

    return run


def _causal_lm(settings: Settings) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=getattr(torch, settings.dtype))
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def open_harness(settings: Settings) -> Run:
    """lm-evaluation-harness: `HFLM.loglikelihood` after its own tokenizer; it sorts by length itself."""
    import logging

    import torch
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model = HFLM(
        str(settings.model),
        device="cuda" if torch.cuda.is_available() else "cpu",
        dtype=settings.dtype,
        batch_size=settings.harness_batch,
    )

    def run(work: Work) -> Result:
        requests = [(None, prompt, response) for prompt, response in work.sequences()]
        answers = model._loglikelihood_tokens(requests, disable_tqdm=True)
        return Result(np.array([logp for logp, _ in answers]).reshape(-1, len(NUMBERS)))

    return run


CONTENDERS: dict[str, Callable[[Settings], Run]] = {
    "curate-transformers": partial(open_curate, engine="transformers"),
    "curate-vllm": partial(open_curate, engine="vllm"),
    "vllm": partial(open_vllm, logprobs=True),
    "vllm-prefill": partial(open_vllm, logprobs=False),
    "trl": partial(open_trl, fused=True),
    "transformers-padded": partial(open_trl, fused=False),
    "lm-eval": open_harness,
}
OURS = ("curate-transformers", "curate-vllm")
