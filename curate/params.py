"""params.yaml as typed, validated models. Every default lives here, once; every key says what it means.

`python -m curate.params` prints the commented params.yaml that the defaults amount to; a preset is the same
file with other values.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curate.errors import InputError, UsageError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
SAMPLE_FOLDER = "curate/sample"
Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


S = TypeVar("S", bound=BaseModel)


class ModelParams(Section):
    """The reference model: it comprehends (scores) the pairs, and training starts from it."""

    name: str = Field(
        "scratch",
        description="`scratch` (trained by the reference stage), a local folder, or a Hub id",
        min_length=1,
    )
    revision: str | None = Field(None, description="Hub branch, tag or commit; resolved to a commit and recorded")
    watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: the model's folder where `name` is one, else curate/sample",
        min_length=1,
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")


class ReferenceParams(Section):
    """The model that `model.name: scratch` trains; without effect for any other model."""

    texts: list[str] = Field(
        ["sample"],
        description="what it reads: `sample`, preference files (training pairs), .txt, .txt.gz, instruction .json",
        min_length=1,
    )
    watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: a file or folder that has all files of `texts`, else curate/sample",
        min_length=1,
    )
    text_tokens: int = Field(
        0, ge=0, description="of each plain-text file, read at most this many tokens (0: all of it)"
    )
    vocab_size: int = Field(2048, ge=300, le=65536, description="entries of the byte-level BPE tokenizer")
    hidden_size: Positive = Field(128, description="width; hidden_size / heads must be 32, 64, 96 or 128 for vLLM")
    layers: Positive = Field(3, description="transformer blocks")
    heads: Positive = Field(4, description="attention heads")
    context: int = Field(512, ge=64, description="longest sequence, tokens")
    steps: Positive = Field(600, description="optimiser steps")
    batch_tokens: Positive = Field(2048, description="tokens a step")
    learning_rate: float = Field(4e-3, gt=0, description="peak; warm-up over 5% of the steps, cosine to a tenth")
    null_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="dialogues read with an empty user turn, so that log p(y|null) is in distribution",
    )
    seed: Seed = Field(0, description="of the initial weights and the order of the texts")

    @model_validator(mode="after")
    def _head_dim(self) -> ReferenceParams:
        if self.hidden_size % self.heads or self.hidden_size // self.heads not in (32, 64, 96, 128):
            raise ValueError(
                f"hidden_size / heads is {self.hidden_size}/{self.heads}; it must be 32, 64, 96 or 128 (vLLM's kernels)"
            )
        return self


class DataParams(Section):
    """Which pairs."""

    source: str = Field(
        "sample", description="`sample`, a file (JSON, JSONL, CSV, Parquet, also .gz), or hub:owner/name"
    )
    watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: the source itself where it is a file, else curate/sample",
        min_length=1,
    )
    format: str = Field("auto", description="a name that `curate prepare --help` lists; `auto` looks at the rows")
    hub_config: str | None = Field(None, description="configuration of a Hub dataset")
    hub_split: str = Field("train", description="split of a Hub dataset")
    hub_revision: str | None = Field(None, description="branch, tag or commit of a Hub dataset")
    sample_pairs: Positive = Field(1600, description="pairs that `sample` makes")
    heldout_fraction: Fraction = Field(0.2, description="of each query type's prompts, kept out of training")
    seed: Seed = Field(0, description="of the sample and of the held-out draw")


class CleaningParams(Section):
    """Rules that are a choice; the others (empty, identical, malformed) always hold."""

    duplicates: Literal["drop", "keep"] = Field("drop", description="an exact repeat of an earlier pair")
    contradictions: Literal["drop_both", "keep_first", "keep"] = Field(
        "drop_both", description="the same two responses preferred in both directions"
    )
    max_pairs_per_prompt: int = Field(0, ge=0, description="keep the first so many pairs of a prompt (0: all)")
    max_pairs_per_query_type: int = Field(
        0, ge=0, description="keep a draw of so many pairs of each query type, safe, unsafe, unknown (0: all)"
    )
    draw_seed: Seed = Field(0, description="of that draw")


class ScoreParams(Section):
    """log pi_ref(y|x) and log pi_ref(y|null) of both responses."""

    engine: Literal["auto", "vllm", "transformers", "server", "ray"] = Field(
        "auto", description="auto (the fastest on this device), vllm, transformers, server or ray"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of the weights and activations")
    null_prompt: Literal["empty_user", "bos", "contrastive"] = Field(
        "empty_user", description="what `null` is: empty_user, bos or contrastive (METHOD 1.1)"
    )
    contrastive_prompts: int = Field(
        4, ge=1, description="other prompts of the same query type in the contrastive mean, own x added"
    )
    contrastive_seed: Seed = Field(0, description="of the draw of those prompts")
    too_long: Literal["error", "reject"] = Field(
        "error", description="a pair longer than the model's context: stop, or put it among the rejects"
    )
    unrenderable: Literal["error", "reject"] = Field(
        "error", description="a pair whose prompt and responses cannot be told apart exactly in token ids: as too_long"
    )
    max_length: int = Field(0, ge=0, description="longest sequence in tokens (0: the model's context)")
    server_urls: list[str] = Field(
        [], description="engine server: base URLs of OpenAI-compatible vLLM servers that serve this very model"
    )
    server_model: str | None = Field(None, description="engine server: the name it serves the model by, if another")
    server_concurrency: Positive = Field(16, description="engine server: requests under way at each URL")
    ray_address: str | None = Field(None, description="engine ray: cluster to join (auto, host:port); none: start one")
    ray_workers: Positive = Field(2, description="engine ray: actors, each with one GPU where there are any")
    ray_engine: Literal["auto", "vllm", "transformers"] = Field("auto", description="engine ray: what each actor runs")

    @model_validator(mode="after")
    def _servers_are_named(self) -> ScoreParams:
        if self.engine == "server" and not self.server_urls:
            raise ValueError("engine: server needs server_urls, for example [http://localhost:8000/v1]")
        return self


class SplitParams(Section):
    """D_balanced, D_imbalanced and D_random, of one size (METHOD 1.5, ours)."""

    fraction: float = Field(1 / 3, gt=0, le=0.5, description="of the training pairs in each subset")
    match: list[Literal["sign", "length"]] = Field(
        ["sign", "length"],
        description="confounders held equal besides query type: the sign of the gap, the token-length difference",
    )
    length_bins: int = Field(4, ge=1, description="quantile bins of the token-length difference")
    seed: Seed = Field(0, description="of the random subset")


class WeighParams(Section):
    """w_w, w_l and s of every pair (METHOD 1.2 and 1.3, ours)."""

    scheme: Literal["tanh", "power", "geometric", "none"] = Field("tanh", description="tanh, power, geometric or none")
    alpha: float = Field(1.5, ge=0, description="strength; 0 is DPO; the paper finds 1.5 best")
    direction: Literal["higher_mi_lower_weight", "higher_mi_higher_weight"] = Field(
        "higher_mi_lower_weight",
        description="which response is pushed less: the one of higher MI, or of lower",
    )
    scaling: Literal["norm", "none", "constant"] = Field(
        "norm", description="pair_scale: norm (the gradient's coefficient norm stays DPO's), none or constant"
    )
    constant: float = Field(1.0, gt=0, description="pair_scale where scaling is `constant`")


class TrainParams(Section):
    """What the arms share; an arm's own `train` has the last word."""

    arms: list[str] = Field(["dpo", "bdpo"], description="which of `arms` run", min_length=1)
    seeds: list[Seed] = Field([0], description="of the order of the pairs; each arm runs once with each", min_length=1)
    beta: float = Field(0.1, gt=0, description="strength of the KL constraint, and unit of the logged rewards")
    learning_rate: float = Field(5e-5, gt=0, description="peak")
    scheduler: Literal["linear", "cosine", "constant"] = Field("cosine", description="after the warm-up")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="of the steps")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    epochs: Positive = Field(3, description="passes over the pairs")
    batch_pairs: Positive = Field(16, description="pairs in one forward pass, over all processes together")
    accumulation: Positive = Field(1, description="forward passes a step")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: autocast over float32 weights, with LoRA over bfloat16 ones"
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, more time")
    lora_rank: int = Field(0, ge=0, description="rank of LoRA adapters; 0 trains all weights")
    lora_alpha: float = Field(32.0, gt=0, description="adapters are scaled by lora_alpha / lora_rank")
    lora_targets: list[str] = Field(
        ["all-linear"], description="names of the modules with adapters; all-linear: all but the LM head", min_length=1
    )
    evaluations: Positive = Field(10, description="evaluations over the run, besides the one before step 1")
    eval_pairs: Positive = Field(256, description="at most so many pairs of each side in an evaluation")
    kl_prompts: int = Field(
        32,
        ge=0,
        description="held-out prompts that each evaluation answers to estimate the KL to the reference (0: none); "
        "without LoRA a second copy of the model is in memory for it",
    )
    kl_tokens: Positive = Field(64, description="of such an answer, at most; the KL is of answers cut there")
    early_stop: int = Field(
        0,
        ge=0,
        description="stop after so many evaluations without a higher held-out reward accuracy, keep the best; 0: never",
    )
    checkpoints: Positive = Field(5, description="points of the run at which an interrupted one resumes")
    check_pairs: Positive = Field(32, description="pairs whose stored reference log-probs are recomputed at the start")
    check_tolerance: float = Field(
        1e-3,
        gt=0,
        description="largest mean difference allowed there, nats/token (bfloat16 scores want about 2e-2)",
    )
    report_to: list[str] = Field([], description="also log to tensorboard, wandb, mlflow, ... as transformers' Trainer")
    accelerate: str | None = Field(
        None, description="an accelerate configuration to launch with: configs/ddp.yaml, configs/fsdp.yaml; none: plain"
    )

    @model_validator(mode="after")
    def _each_once(self) -> TrainParams:
        for name in ("arms", "seeds"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"train.{name} names one twice")
        return self


OBJECTIVES = ("bdpo", "dpo", "ipo", "cpo", "simpo", "safedpo", "wpo", "kldpo", "cdpo", "door", "w-door")
ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""A folder's name, and a key's: DVC reads a dot as a path."""


class ArmParams(Section):
    """One training arm: an objective on all or some training pairs."""

    objective: Literal[*OBJECTIVES] = Field("dpo", description=", ".join(OBJECTIVES))  # type: ignore[valid-type]
    subset: Literal["all", "balanced", "imbalanced", "random"] = Field("all", description="which training pairs")
    balance_weight: bool = Field(True, description="bdpo: use chosen_weight and rejected_weight (BW); else 1")
    scaling_factor: bool = Field(True, description="bdpo: use pair_scale (SF); else 1")
    weigh: dict[str, Any] = Field({}, description="bdpo: keys of `weigh` that this arm has otherwise")
    settings: dict[str, float] = Field({}, description="of the objective, by name (`curate objectives` lists them)")
    train: dict[str, Any] = Field({}, description="keys of `train` that this arm has otherwise")

    @model_validator(mode="after")
    def _fits_the_objective(self) -> ArmParams:
        if self.objective != "bdpo" and not (self.balance_weight and self.scaling_factor and not self.weigh):
            raise ValueError("balance_weight, scaling_factor and weigh are bdpo's")
        for name, section, barred in (("weigh", WeighParams, ()), ("train", TrainParams, ("arms", "seeds"))):
            given = getattr(self, name)
            if unknown := set(given) - (set(section.model_fields) - set(barred)):
                raise ValueError(f"{name} has no key {', '.join(sorted(unknown))} that an arm may set")
            try:
                section.model_validate(given)
            except ValidationError as error:
                fault = error.errors()[0]
                raise ValueError(f"{name}.{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
        return self

    def training(self, shared: TrainParams) -> TrainParams:
        """`shared` with what this arm has otherwise."""
        own = TrainParams.model_validate(self.train)
        return shared.model_copy(update={name: getattr(own, name) for name in self.train})

    def weighing(self, shared: WeighParams) -> WeighParams:
        """`shared` with what this arm has otherwise."""
        own = WeighParams.model_validate(self.weigh)
        return shared.model_copy(update={name: getattr(own, name) for name in self.weigh})

    def record(self) -> dict[str, Any]:
        """The keys that say something: the objective, and what differs from the defaults."""
        return {"objective": self.objective} | self.model_dump(exclude_defaults=True)


SUITE_FILES = ("suffixes", "templates", "include_path")
"""Options of suites that name files."""


class EvaluateParams(Section):
    """What the trained arms, and the model they started from (`base`), are evaluated on."""

    suites: list[str] = Field(
        ["sample", "prefill=sample"],
        description="NAME or NAME=SOURCE, a file, hub:owner/name or `sample`; `curate suites` lists the names",
    )
    watch: str = Field(
        SAMPLE_FOLDER,
        description="what DVC watches for changes: a file or folder that has all files of `suites`, else curate/sample",
        min_length=1,
    )
    limit: int = Field(0, ge=0, description="a draw of so many prompts of each part of a suite (0: all)")
    seed: Seed = Field(0, description="of the draws: items, answers, attacks")
    engine: Literal["auto", "vllm", "transformers"] = Field(
        "auto", description="that generates: auto (vllm on a GPU, transformers on a CPU), vllm or transformers"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of the model under test")
    max_tokens: Positive = Field(96, description="of an answer, at most")
    temperature: float = Field(0.0, ge=0, description="of an answer; 0: the likeliest token each time")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus that an answer's tokens are drawn from")
    judge: Literal["none", "rubric", "strongreject", "classifier"] = Field(
        "none",
        description="rubric (an instruct model reads the rubric), strongreject (the fine-tuned evaluator), classifier "
        "(a safety classifier), none: string matching of refusals alone; the suite `sample` has its own",
    )
    judge_model: str | None = Field(None, description="the judge: a folder, or a Hub id")
    judge_revision: str | None = Field(None, description="branch, tag or commit of a Hub judge")
    judge_url: str | None = Field(
        None, description="rubric: an OpenAI-compatible endpoint that serves judge_model, instead of this machine"
    )
    judge_dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of a judge on this machine")
    judge_label: str | None = Field(None, description="classifier: the label that means harmful")
    attacker_model: str | None = Field(None, description="pair: the model that writes attacks: a folder, or a Hub id")
    attacker_url: str | None = Field(None, description="pair: an endpoint that serves it, instead of this machine")
    options: dict[str, dict[str, Any]] = Field({}, description="a suite's own settings, by its name")

    @model_validator(mode="after")
    def _judge_is_named(self) -> EvaluateParams:
        if (self.judge == "none") != (self.judge_model is None):
            raise ValueError("judge and judge_model go together: name both, or neither")
        if self.judge_url and self.judge != "rubric":
            raise ValueError("judge_url is for judge: rubric; the others run on this machine")
        return self


class ReportParams(Section):
    """The figures and the page."""

    title: str = Field("B-DPO on the embedded sample", description="of the page")
    scatter_points: Positive = Field(4000, description="points in the MI scatter's figure, a seeded draw beyond it")
    compare_with: list[str] = Field(
        ["base", "dpo"],
        description="what every evaluated arm is compared with, where it is there; base: the model before training",
    )
    examples: int = Field(6, ge=0, description="pairs shown (masked until clicked): largest gaps of either sign")
    texts: int = Field(
        2000,
        ge=0,
        description="pairs at most whose texts the page holds (masked): the examples and a seeded draw; 0: none",
    )


REPOSITORY = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*$"
"""A repository's name on the Hub."""


class PublishParams(Section):
    """The weighted pairs as a dataset on the Hugging Face Hub."""

    repos: list[Annotated[str, Field(pattern=REPOSITORY)]] = Field(
        [], description="dataset repositories to push to, owner/name; none: nothing is published"
    )
    public: bool = Field(False, description="make the repository public; one that is there keeps its visibility")
    license: str | None = Field(
        None, description="identifier on the Hub of the licence they go out under; none: the source's"
    )
    pretty_name: str | None = Field(None, description="title of the dataset; none: the card's own, or the name")
    language: list[str] = Field(["en"], description="of the texts, ISO 639-1; a card that names one keeps its own")
    patience: float = Field(300, ge=0, description="seconds that a busy or failing Hub is asked again, at most")


DEFAULT_ARMS = {
    "dpo": ArmParams(),
    "bdpo": ArmParams(objective="bdpo"),
    "bw": ArmParams(objective="bdpo", scaling_factor=False),
    "sf": ArmParams(objective="bdpo", balance_weight=False),
    "dpo-balanced": ArmParams(subset="balanced"),
    "dpo-imbalanced": ArmParams(subset="imbalanced"),
    "dpo-random": ArmParams(subset="random"),
    **{name: ArmParams(objective=name) for name in OBJECTIVES[2:]},
}


class Params(Section):
    """Everything that changes a result."""

    model: ModelParams = Field(default_factory=ModelParams)
    reference: ReferenceParams = Field(default_factory=ReferenceParams)
    data: DataParams = Field(default_factory=DataParams)
    cleaning: CleaningParams = Field(default_factory=CleaningParams)
    score: ScoreParams = Field(default_factory=ScoreParams)
    split: SplitParams = Field(default_factory=SplitParams)
    weigh: WeighParams = Field(default_factory=WeighParams)
    train: TrainParams = Field(default_factory=TrainParams)
    arms: dict[ArmName, ArmParams] = Field(
        default_factory=lambda: dict(DEFAULT_ARMS),
        description="Training arms by name; train.arms says which run.",
    )
    evaluate: EvaluateParams = Field(default_factory=EvaluateParams)
    report: ReportParams = Field(default_factory=ReportParams)
    publish: PublishParams = Field(default_factory=PublishParams)

    @model_validator(mode="after")
    def _source_is_watched(self) -> Params:
        source = self.data.source
        expected = SAMPLE_FOLDER if source == "sample" or source.startswith("hub:") else source
        if self.data.watch != expected:
            raise ValueError(f"data.watch must be {expected}, or a change of the source would go unnoticed")
        is_folder = self.model.name != "scratch" and Path(self.model.name).is_dir()
        expected = self.model.name if is_folder else SAMPLE_FOLDER
        if self.model.watch != expected:
            raise ValueError(f"model.watch must be {expected}, or a change of the model would go unnoticed")
        for suite in self.evaluate.suites:
            _, named, source = suite.partition("=")
            watched = Path(self.evaluate.watch)
            options = self.evaluate.options.get(suite.partition("=")[0], {})
            read = [str(options[name]) for name in SUITE_FILES if options.get(name)]
            if named and source != "sample" and not source.startswith("hub:"):
                read.append(source)
            for file in read:
                if watched not in (Path(file), *Path(file).parents):
                    raise ValueError(f"evaluate.watch must be {file} or a folder above it, or its changes go unnoticed")
        watched = Path(self.reference.watch)
        for text in self.reference.texts:
            if text not in ("sample", self.data.source) and watched != Path(text) and watched not in Path(text).parents:
                raise ValueError(f"reference.watch must be {text} or a folder above it, or its changes go unnoticed")
        return self

    @model_validator(mode="after")
    def _arms_exist(self) -> Params:
        if "base" in self.arms:
            raise ValueError("an arm cannot be named base: that is the model before training, in the evaluation")
        for name in self.train.arms:
            if name not in self.arms:
                raise ValueError(f"train.arms names {name!r}, which is not in arms: {', '.join(self.arms)}")
        return self


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check a params file.

    Raises:
        InputError: no such file.
        UsageError: not YAML, an unknown key or a wrong value; the message names the key's path.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("the parameters are not UTF-8 text", file=path, found=error) from error
    except OSError as error:
        raise InputError(
            "cannot read the parameters", file=path, found=error.strerror, remedy="run where params.yaml lies"
        ) from error
    try:
        value = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise UsageError("not a YAML file", file=path, found=str(error).replace("\n", " ")) from error
    return check(Params, value, file=path)


class _UniqueKeys(yaml.SafeLoader):
    """YAML where a key written twice is an error, not the later one silently; 1e-3 is a number, as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: a key must be a word")
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value!r} stands twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def check(model: type[S], value: Any, *, file: str | Path | None = None) -> S:
    """Validate `value` against a section; the first fault becomes a `UsageError` that names the key's path."""
    try:
        return model.model_validate({} if value is None else value)
    except ValidationError as error:
        fault = error.errors()[0]
        path = [str(part) for part in fault["loc"]]
        raise UsageError(
            "unknown parameter" if fault["type"] == "extra_forbidden" else "wrong parameter",
            file=file,
            field=".".join(path) or None,
            found=repr(fault["input"]) if fault["loc"] else None,
            expected=_expected(model, path, fault),
            remedy=f"{error.error_count() - 1} more such faults follow" if error.error_count() > 1 else None,
        ) from error


def _expected(model: type[BaseModel], path: list[str], fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        section: Any = model
        for part in path[:-1]:
            field = section.model_fields.get(part)
            # `arms` is a dictionary: whatever lies below it is an arm.
            section = field.annotation if field and part != "arms" else ArmParams
        names = list(section.model_fields)
        close = difflib.get_close_matches(path[-1], names, n=1)
        return (f"{close[0]}? " if close else "") + f"one of: {', '.join(names)}"
    return str(fault["msg"]).removeprefix("Value error, ")


def to_yaml(params: Params) -> str:
    """The params file, a comment above every key (each field's description)."""
    lines = [
        "# Every number that changes a result. A wrong key or value is refused at once.",
        "# `dvc exp run -S weigh.alpha=2.0` runs what depends on a key, and nothing else.",
    ]
    for name, field in Params.model_fields.items():
        value = getattr(params, name)
        doc = field.description or (type(value).__doc__ or "")
        lines += ["", *(f"# {line}" for line in doc.strip().splitlines()), f"{name}:"]
        if isinstance(value, Section):
            lines += _section(value, "  ")
        else:
            for key, arm_field in ArmParams.model_fields.items():
                lines.insert(-1, f"#   {key}: {arm_field.description}")
            for arm, arm_params in value.items():
                lines += [f"  # {_describe_arm(arm_params)}", f"  {arm}: {_flow(arm_params.record())}"]
    return "\n".join(lines) + "\n"


def _section(section: Section, indent: str) -> list[str]:
    lines = []
    for name, field in type(section).model_fields.items():
        lines += [f"{indent}# {field.description}", f"{indent}{name}: {_flow(getattr(section, name))}"]
    return lines


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _describe_arm(arm: ArmParams) -> str:
    names = {"bdpo": "B-DPO", "cdpo": "C-DPO", "safedpo": "SafeDPO", "simpo": "SimPO"}
    what = names.get(arm.objective, arm.objective.upper())
    if arm.objective == "bdpo" and not (arm.balance_weight and arm.scaling_factor):
        parts = [
            name
            for flag, name in ((arm.balance_weight, "balance weights"), (arm.scaling_factor, "scaling factor"))
            if flag
        ]
        what = "DPO" + (" with " + " and ".join(parts) if parts else "")
    return f"{what} on {'all training pairs' if arm.subset == 'all' else f'D_{arm.subset}'}"


if __name__ == "__main__":
    sys.stdout.write(to_yaml(Params()))
