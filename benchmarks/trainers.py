"""Whatever takes DPO steps on pairs whose reference log-probs are known: curate's trainer, whole and without its
parts, and TRL's.

Each `open_*` loads the model and returns a `transformers.Trainer`; everything heavy is imported inside, because each
contender has a process of its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from work import Work
from worker import GIB, forget_peak, memory

from curate.base.memory import give_back

BETA = 0.1


class Settings(NamedTuple):
    model: Path  # folder
    scratch: Path  # folder that trainers may write to
    dtype: str  # float32; bfloat16 is autocast over float32 weights
    batch_pairs: int
    steps: int  # of a run, the warm-up step included
    optimizer: str  # as TrainingArguments.optim has it
    learning_rate: float
    checkpointing: bool  # of gradients


class Trained(NamedTuple):
    """One run."""

    steps: list[float]  # seconds of each step after the first: loading, forward, backward, clipping, optimiser
    processor: list[float]  # processor seconds of the same steps, all threads together
    losses: list[float]  # of every step
    peak: float  # GiB of resident memory, since the process began
    raised: float  # GiB by which training raised it
    device: float | None  # GiB of device memory at the peak of training; None on a CPU

    @property
    def seconds(self) -> float:
        return sum(self.steps) / len(self.steps)


def train(name: str, settings: Settings, work: Work) -> Iterator[float | Trained]:
    """A `rounds.Contend`: every run loads the model and begins anew."""
    start = time.perf_counter()
    trainer = _opened(name, settings, work)
    yield time.perf_counter() - start
    while True:
        yield _run(trainer)
        del trainer
        give_back()
        trainer = _opened(name, settings, work)


def _opened(name: str, settings: Settings, work: Work) -> Any:
    import torch

    torch.use_deterministic_algorithms(False)  # curate's turns them on, for all that follow in this process
    return TRAINERS[name](settings, work)


def _run(trainer: Any) -> Trained:
    import torch
    from transformers import TrainerCallback

    on_gpu = torch.cuda.is_available()
    times: list[tuple[float, float]] = []  # by the clock, of the processor
    losses: list[torch.Tensor] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            times.append((time.perf_counter(), time.process_time()))

    training_step = trainer.training_step

    def recorded(*args: Any, **options: Any) -> Any:
        losses.append(training_step(*args, **options))
        return losses[-1]

    trainer.training_step = recorded
    trainer.add_callback(Clock())
    _, earlier_peak = memory()
    forget_peak()
    before, _ = memory()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    _, peak = memory()
    device = torch.cuda.max_memory_allocated() / GIB if on_gpu else None
    steps, processor = ([end - start for start, end in itertools.pairwise(each)] for each in zip(*times, strict=True))
    numbers = [float(loss) for loss in losses]
    return Trained(steps, processor, numbers, max(earlier_peak, peak), peak - before, device)


def open_curate(settings: Settings, work: Work, *, packs: bool = True, onednn: bool = True) -> Any:
    """`curate.training.trainer.PairTrainer`, as `curate train` sets it up.

    Args:
        packs: else padded buckets and the model's own attention.
        onednn: else PyTorch's own matrix products.
    """
    from transformers import TrainingArguments

    from curate.base.progress import console
    from curate.models.load import load_model
    from curate.models.products import linear
    from curate.models.rendering import load_tokenizer
    from curate.models.resolve import resolve
    from curate.objectives.registry import OBJECTIVES
    from curate.training import policy
    from curate.training.build import settle
    from curate.training.pairs import NUMBERS, Collator, PairDataset
    from curate.training.trainer import PairTrainer

    console.quiet = True
    settle()
    if not onednn:
        linear.onednn = lambda: False
    model = resolve(settings.model)
    loaded = load_model(model, "float32")
    attention = loaded.config._attn_implementation
    made = policy.make_policy(loaded, gradient_checkpointing=settings.checkpointing)
    if not made.curate_packs:
        raise AssertionError("packs do not suit this model")
    if not packs:
        made.curate_packs = False
        made.set_attn_implementation(attention)
    # What B-DPO and others need beside the reference, and DPO does not.
    unused = [name for name in NUMBERS if name not in work.pairs.columns and not name.endswith("_unsafe")]
    return PairTrainer(
        objective=OBJECTIVES["dpo"],
        settings={"beta": BETA},
        beta=BETA,
        model=made,
        args=TrainingArguments(**_arguments(settings), remove_unused_columns=False),
        train_dataset=PairDataset(load_tokenizer(model), work.pairs.with_columns(pl.lit(1.0).alias(n) for n in unused)),
        data_collator=Collator(),
    )


def open_trl(settings: Settings, work: Work, *, compact: bool = False) -> Any:
    """TRL's DPOTrainer on the text, with its own tokenisation and with the reference log-probs as columns.

    Args:
        compact: run the LM head where a response's token is predicted, as TRL does where it has Triton; elsewhere it
            runs it on every position, prompts and padding too.

    Raises:
        AssertionError: its token ids are not those that the others train on.
    """
    import trl
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging
    from trl.trainer import utils

    from curate.models.rendering import load_tokenizer
    from curate.models.resolve import resolve

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    if compact:
        utils._use_triton = lambda _: True

    class Trainer(trl.DPOTrainer):
        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            return dataset  # they are there

    tokenizer = load_tokenizer(resolve(settings.model))
    # TRL trains on the newline that the template writes after the last end of turn, curate does not.
    ended = "{% endset %}{{ text if add_generation_prompt else text.rstrip('\\n') }}"
    tokenizer.chat_template = "{% set text %}" + tokenizer.chat_template + ended
    columns = ("prompt", "chosen", "rejected", "ref_chosen_logps", "ref_rejected_logps")
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype="float32")
    trainer = Trainer(
        model=model,
        args=trl.DPOConfig(
            **_arguments(settings),
            beta=BETA,
            precompute_ref_log_probs=True,
            max_length=None,
            gradient_checkpointing=settings.checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        ),
        train_dataset=Dataset.from_list(work.pairs.select(columns).to_dicts()),
        processing_class=tokenizer,
    )
    theirs = trainer.train_dataset
    for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
        if list(theirs[name]) != work.ids[name].to_list():
            raise AssertionError(f"{name} are not the same")
    return trainer


def _arguments(settings: Settings) -> dict[str, Any]:
    """Of `TrainingArguments`, for all: plain steps on batches in the order of the data."""
    import torch

    return {
        "output_dir": str(settings.scratch),
        "use_cpu": not torch.cuda.is_available(),
        "bf16": settings.dtype == "bfloat16",
        "per_device_train_batch_size": settings.batch_pairs,
        "train_sampling_strategy": "sequential",
        "dataloader_drop_last": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "max_steps": settings.steps,
        "optim": settings.optimizer,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }


TRAINERS: dict[str, Callable[[Settings, Work], Any]] = {
    "curate": open_curate,
    "curate-padded": partial(open_curate, packs=False),
    "curate-torch": partial(open_curate, onednn=False),
    "curate-padded-torch": partial(open_curate, packs=False, onednn=False),
    "trl": open_trl,
    "trl-compact": partial(open_trl, compact=True),
}
