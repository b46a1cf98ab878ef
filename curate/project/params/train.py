"""What the arms share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curate.project.params.section import CONFIGS_FOLDER, Count, Positive, Section, Seed, TrainingDtype

PIPELINE_KEYS = ("arms", "seeds", "more_arms", "more_seeds", "watch")
"""Keys of `train` that say what the pipeline runs, not how a run goes."""

IDLE_KEYS = ("report_to", "accelerate", "check_pairs", "check_tolerance", "checkpoints", "save")
"""Keys of `train` that change neither what a run learns nor what it measures of it."""


class TrainParams(Section):
    """What the arms share; an arm's own `train` has the last word."""

    arms: list[str] = Field(["dpo", "bdpo"], description="which of `arms` run", min_length=1)
    seeds: list[Seed] = Field(
        [0], description="seeds of the order of the pairs; each arm runs once with each", min_length=1
    )
    more_arms: list[str] = Field([], description="those of `arms` that run with each of `more_seeds` too")
    more_seeds: list[Seed] = Field([], description="seeds besides `seeds`, for the arms that a claim rests on")
    beta: float = Field(0.1, gt=0, le=1000, description="strength of the KL constraint, and unit of the logged rewards")
    learning_rate: float = Field(5e-5, gt=0, le=10, description="peak learning rate")
    scheduler: Literal["linear", "cosine", "constant"] = Field(
        "cosine", description="the learning rate after the warm-up"
    )
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0, le=1000, description="AdamW's weight decay")
    max_grad_norm: float = Field(
        1.0, gt=0, allow_inf_nan=True, description="gradients are clipped to this norm; .inf: never"
    )
    epochs: int = Field(3, ge=1, le=10**6, description="passes over the pairs")
    batch_pairs: Positive = Field(16, description="pairs in one forward pass, over all processes together")
    accumulation: Positive = Field(1, description="forward passes per step")
    dtype: TrainingDtype = Field(
        "float32", description="bfloat16: autocast over float32 weights, with LoRA over bfloat16 ones"
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, more time")
    lora_rank: int = Field(0, ge=0, le=65536, description="rank of LoRA adapters; 0 trains all weights")
    lora_alpha: float = Field(32.0, gt=0, le=10**6, description="adapters are scaled by lora_alpha / lora_rank")
    lora_targets: list[str] = Field(
        ["all-linear"], description="names of the modules with adapters; all-linear: all but the LM head", min_length=1
    )
    save: Literal["merged", "adapter", "both"] = Field(
        "merged",
        description="with LoRA: one plain model, in bfloat16 rounded; the adapter alone, which names its base; "
        "or both, the adapter in model/adapter",
    )
    evaluations: int = Field(
        10, ge=1, le=10**6, description="evaluations over the run, at most, besides the one before step 1"
    )
    eval_pairs: Positive = Field(128, description="pairs of each side in an evaluation, at most")
    end_pairs: Count = Field(
        256,
        description="pairs of each side that a run is measured on at its end, at most, in metrics.json and "
        "rewards.parquet; eval_pairs if that is more",
    )
    validation_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training prompts to measure on, not train on, instead of the held-out pairs: to "
        "choose settings by (0: none)",
    )
    kl_prompts: Count = Field(
        32,
        description="held-out prompts that each evaluation answers to estimate the KL to the reference (0: none); "
        "without LoRA a second copy of the model is in memory while it does",
    )
    kl_tokens: Positive = Field(64, description="longest of these answers, tokens")
    early_stop: Count = Field(
        0,
        description="stop after this many evaluations without a higher held-out accuracy, keep the best; 0: never",
    )
    checkpoints: int = Field(
        5, ge=1, le=10**6, description="checkpoints over the run, at most, from which an interrupted run resumes"
    )
    check_pairs: Positive = Field(32, description="pairs whose stored reference log-probs are recomputed at the start")
    check_tolerance: float = Field(
        1e-3,
        gt=0,
        le=10**6,
        description="largest mean difference allowed there, nats/token (bfloat16 scores need about 2e-2)",
    )
    report_to: list[str] = Field([], description="also log to tensorboard, wandb, mlflow, ... as transformers' Trainer")
    accelerate: str | None = Field(
        None, description="an accelerate configuration to launch with: configs/ddp.yaml, configs/fsdp.yaml; none: plain"
    )

    watch: str = Field(
        CONFIGS_FOLDER,
        description="what DVC watches for changes: the file that `accelerate` names, an arm's too, or a folder above",
        min_length=1,
    )

    @model_validator(mode="after")
    def _each_once(self) -> TrainParams:
        for name in ("arms", "seeds", "more_arms", "more_seeds"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"train.{name} names one twice")
        if other := set(self.more_arms) - set(self.arms):
            raise ValueError(f"train.more_arms names {', '.join(sorted(other))}, not in train.arms")
        if same := set(self.more_seeds) & set(self.seeds):
            raise ValueError(f"train.more_seeds names {', '.join(map(str, sorted(same)))}, which train.seeds has")
        if bool(self.more_arms) != bool(self.more_seeds):
            raise ValueError("train.more_arms and train.more_seeds go together: name both, or neither")
        return self

    @property
    def measured_pairs(self) -> int:
        """Of each side, at most, at a run's end."""
        return max(self.end_pairs, self.eval_pairs)

    def seeds_of(self, arm: str) -> list[int]:
        """The seeds that this arm runs with."""
        return [*self.seeds, *(self.more_seeds if arm in self.more_arms else [])]
