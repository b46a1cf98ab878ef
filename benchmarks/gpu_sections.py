"""The sections of benchmarks/gpu.py: `python benchmarks/gpu_sections.py NAME,NAME FOLDER` runs some in this process.

A section puts rows into FOLDER/NAME.json as it goes: what was found before it failed, or its time was up, is kept.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import gpu_answers
import gpu_attention
import gpu_vllm
import numpy as np
import torch
from limits import open_gemm
from random_model import SHAPES, Shape, make_model
from worker import GIB

import curate.base.threads  # noqa: F401
from curate.base.progress import console
from curate.models import rendering
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model, resolve
from curate.pairs.prepare import prepare
from curate.project import params

CONTEXT = 2048  # tokens, of models made here
CARD = 24  # GiB: the memory that the LoRA recipe of docs/training.md is for
PACKAGES = ("torch", "transformers", "accelerate", "peft", "trl", "polars", "pydantic", "vllm")
TINY = Shape(400, 64, 128, 2, 2, 1)
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")


class Setup:
    """What sections share: sizes, models, pairs; and the rows that they find."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.tiny, self.scratch, self.study = options.tiny, options.scratch, options.study
        self.alone = options.tiny or options.alone
        self.dtypes = ("float32",) if options.tiny else tuple(options.dtypes.split(","))
        self.given: Path | None = options.model
        self.section: dict[str, Any] = {}

    def run(self, section: Callable[[Setup], None]) -> None:
        """A section and its file; its error is put there too."""
        self.file = self.scratch / f"{section.__name__}.json"
        self.section = {"rows": []}
        started = time.monotonic()
        try:
            section(self)
        except Exception as error:  # of whatever kind: the rest goes on
            traceback.print_exc()
            self.section["error"] = f"{type(error).__name__}: {error}"[:1500]
        self.section |= {"seconds": time.monotonic() - started, "done": True}
        self._write()
        forget()

    def add(self, **row: Any) -> None:
        self.section["rows"].append(row)
        self._write()

    def _write(self) -> None:
        self.file.write_text(json.dumps(self.section), encoding="utf-8")

    @cached_property
    def pairs(self) -> Any:
        """schema.PAIRS of the embedded sample."""
        count = 24 if self.tiny else 2000
        return prepare(params.DataParams(sample_pairs=count), params.CleaningParams()).pairs

    @property
    def small(self) -> Model:
        """The model that was given; else a random one of 120M, or the tiniest."""
        if self.given:
            return resolve(self.given)
        return self.made("tiny" if self.tiny else "120m-32k")

    def made(self, name: str) -> Model:
        """A random model of a shape, made once; `tiny` stands for all where sizes are tiny."""
        name = "tiny" if self.tiny else name
        folder = self.scratch / name
        if not (folder / "config.json").exists():
            texts = [turn["content"] for row in self.pairs["chosen"].to_list() for turn in row]
            make_model(folder, TINY if self.tiny else SHAPES[name], texts, CONTEXT)
        return resolve(folder)

    def models(self) -> Iterator[tuple[str, Model, tuple[str, ...]]]:
        """Name, model, and the dtypes to run it in."""
        yield (self.given.name if self.given else "random small"), self.small, self.dtypes
        if not self.alone:
            yield "random 1.5B", self.made("1.5b-151k"), ("bfloat16",)

    def prompts(self, model: Model, count: int) -> list[np.ndarray]:
        """Token ids of so many different prompts."""
        pairs = self.pairs.unique("prompt_key", maintain_order=True).head(count)
        rendered = rendering.render_pairs(rendering.load_tokenizer(model), pairs)
        return [np.array(ids, dtype=np.int32) for ids in rendered["prompt_ids"]]

    def sequences(self, model: Model, pairs: int) -> list[TokenSequence]:
        """Four a pair: both responses after the prompt, and after the null prompt."""
        tokenizer = rendering.load_tokenizer(model)
        null = rendering.null_prompt_ids(tokenizer, "empty_user")
        rendered = rendering.render_pairs(tokenizer, self.pairs.head(pairs))
        return [
            TokenSequence(np.array(prompt, dtype=np.int32), np.array(response, dtype=np.int32))
            for own, *responses in rendered.select("prompt_ids", "chosen_ids", "rejected_ids").iter_rows()
            for prompt in (own, null)
            for response in responses
        ]


@contextmanager
def memory() -> Iterator[dict[str, float | None]]:
    """GiB of device memory at the peak of this block."""
    found: dict[str, float | None] = {"peak GiB": None}
    if ON_GPU:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    yield found
    if ON_GPU:
        torch.cuda.synchronize()
        found["peak GiB"] = torch.cuda.max_memory_allocated() / GIB


def forget() -> None:
    """Give the device back what is not used any more."""
    from curate.base.memory import give_back

    give_back()


def machine(setup: Setup) -> None:
    """What the numbers are of."""
    setup.add(what="Python", value=platform.python_version())
    name = f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / GIB:.0f} GiB" if ON_GPU else "CPU"
    setup.add(what="device", value=name)
    for package in PACKAGES:
        try:
            setup.add(what=package, value=metadata.version(package))
        except metadata.PackageNotFoundError:
            setup.add(what=package, value="not there")
    for dtype in ("float32", "bfloat16"):
        rates = open_gemm(dtype)() if ON_GPU else {}
        for way, rate in rates.items():
            setup.add(what=f"products, {dtype}, {way}", value=f"{rate / 1e12:,.0f} TFLOP/s")


def padded(model: Model, dtype: str, sequences: Sequence[TokenSequence], at_once: int) -> Callable[[], np.ndarray]:
    """What one would write without curate: sequences as they come, padded on the right, full logits."""
    from curate.models.load import load_model

    net: Any = load_model(model, dtype).eval()

    @torch.inference_mode()
    def run() -> np.ndarray:
        out = []
        for start in range(0, len(sequences), at_once):
            part = sequences[start : start + at_once]
            longest = max(one.length for one in part)
            ids = torch.zeros((len(part), longest), dtype=torch.int64)
            mask, scored = torch.zeros_like(ids), torch.zeros_like(ids)
            for row, one in enumerate(part):
                ids[row, : one.length] = torch.from_numpy(np.concatenate(one))
                mask[row, : one.length] = 1
                scored[row, len(one.prompt_ids) : one.length] = 1
            ids, mask, scored = ids.to(DEVICE), mask.to(DEVICE), scored.to(DEVICE)
            logits = net(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            logps = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
            out += (logps.double() * scored[:, 1:]).sum(1).cpu().tolist()
        return np.array(out)

    return run


def ways(model: Model, dtype: str, sequences: Sequence[TokenSequence]) -> Iterator[tuple[str, Callable[[], Any], str]]:
    """Name of a way to score, what scores all sequences, and what there is to say; one is in memory at a time."""
    from curate.scoring.engines.transformers import TransformersEngine

    for name, packed in (("packs", True), ("one length", False)):
        engine = TransformersEngine(model, dtype, packed=packed, tell=lambda _: None)
        yield name, lambda engine=engine: engine.logps(sequences), engine.fault or ""
        engine.close()
    together = 64 if ON_GPU else 16
    yield "padded", padded(model, dtype, sequences, together), f"full logits, {together} sequences at once"
    forget()


class Truth:
    """Sequences, and what they score in float64, one at a time."""

    def __init__(self, setup: Setup, model: Model) -> None:
        from curate.scoring.check import exact

        self.sequences = setup.sequences(model, 2 if setup.tiny else 24)
        self.logps = exact(model, self.sequences)
        self.tokens = np.array([len(one.response_ids) for one in self.sequences])
        forget()

    def apart(self, score: Callable[[Sequence[TokenSequence]], np.ndarray]) -> dict[str, float]:
        """How far a way to score is from it."""
        apart = np.abs(score(self.sequences) - self.logps) / self.tokens
        return {"max, nats/token": float(apart.max()), "mean": float(apart.mean())}


def timed(setup: Setup, run: Callable[[], Any], tokens: int) -> dict[str, float]:
    """The median of three runs after a first one."""
    seconds = []
    for _ in range(2 if setup.tiny else 4):
        start = time.perf_counter()
        run()
        if ON_GPU:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    middle = float(np.median(seconds[1:]))
    return {"tokens/s": tokens / middle, "seconds": middle, "first": seconds[0]}


def parity(setup: Setup) -> None:
    """Packs (on a GPU FlexAttention), batches of one length, and padding against float64, one sequence at a time."""
    truth = Truth(setup, setup.small)
    for dtype in ("float32", "bfloat16"):
        for name, score, told in ways(setup.small, dtype, truth.sequences):
            setup.add(dtype=dtype, way=name, **truth.apart(lambda _, score=score: score()), note=told)


def scoring(setup: Setup) -> None:
    """Tokens of all sequences a second, the median of three; beside TRL's pass where it is installed."""
    pairs = 3 if setup.tiny else 200
    for name, model, dtypes in setup.models():
        sequences = setup.sequences(model, pairs)
        tokens = sum(one.length for one in sequences)
        for dtype in dtypes:
            for way, score, told in ways(model, dtype, sequences):
                _measure(setup, score, tokens, model=name, dtype=dtype, way=way, note=told)
            if beside_trl(setup):
                _trl_scoring(setup, model, dtype, name, pairs)


def beside_trl(setup: Setup) -> bool:
    """Whether TRL is run too: where it is installed; its import is too long for tiny sizes."""
    return importlib.util.find_spec("trl") is not None and not setup.tiny


def _measure(setup: Setup, score: Callable[[], Any], tokens: int, **about: Any) -> None:
    """One row: `timed`, and the memory that it took."""
    note = about.pop("note")
    with memory() as peak:
        found = timed(setup, score, tokens)
    setup.add(**about, **found, **peak, note=note)


def _trl_scoring(setup: Setup, model: Model, dtype: str, name: str, pairs: int) -> None:
    """TRL's pass for reference log-probs, its LM head in tiles."""
    from contenders import Settings, open_trl
    from work import render

    work = render(rendering.load_tokenizer(model), setup.pairs.head(pairs), CONTEXT)
    run = open_trl(Settings(model.path, dtype, CONTEXT, 16, 16), fused=True)
    tokens = sum(one.length for one in work.sequences())
    _measure(setup, lambda: run(work), tokens, model=name, dtype=dtype, way="trl", note="")
    forget()


def training(setup: Setup) -> None:
    """Steps of DPO with stored reference log-probs: curate's in packs and padded, and TRL's where it is installed."""
    from trainers import Settings, train
    from training import referred
    from work import render

    theirs = ["trl"] if ON_GPU else ["trl", "trl-compact"]  # TRL's own is compact on a GPU
    names = ["curate", *(theirs if beside_trl(setup) else []), "curate-padded"]
    steps, batch = (2, 4) if setup.tiny else (6, 16)
    for model_name, model, dtypes in setup.models():
        drawn = setup.pairs.head(steps * batch)
        rendered = render(rendering.load_tokenizer(model), drawn, CONTEXT)
        config = json.loads((model.path / "config.json").read_text(encoding="utf-8"))
        work = referred(rendered, rendered.pairs, TINY._replace(vocab=config["vocab_size"]))
        tokens = sum(work.pairs[f"{side}_tokens"].sum() for side in ("chosen", "rejected"))
        prompts = 2 * work.ids["prompt_ids"].list.len().sum()
        for dtype in dtypes:
            for name in names:
                settings = Settings(
                    model.path, setup.scratch / "trainer", dtype, batch, steps, "adamw_torch", 1e-6, checkpointing=False
                )
                about = {"model": model_name, "dtype": dtype, "trainer": name}
                try:
                    contender = train(name, settings, work)
                    next(contender)
                    run: Any = next(contender)
                    del contender
                except Exception as error:  # such as a model that does not fit: the others go on
                    setup.add(**about, note=f"{type(error).__name__}: {str(error)[:200]}")
                    forget()
                    continue
                setup.add(
                    **about,
                    **{
                        "s/step": float(np.median(run.steps)),
                        "tokens/s": (tokens + prompts) / steps / float(np.median(run.steps)),
                        "peak GiB": run.device,
                        "first loss": run.losses[0],
                        "last loss": run.losses[-1],
                    },
                )
                forget()


def weighted(setup: Setup, model: Model, dtype: str, pairs: int) -> Any:
    """Pairs that the model has scored, split and weighed, as the commands do."""
    from curate.scoring.score import score
    from curate.selection.subsets import split
    from curate.selection.weights import weigh

    scoring = params.ScoreParams(engine="transformers", dtype=dtype, max_length=1024, too_long="reject")
    scored = score(setup.pairs.head(pairs), model, scoring, setup.scratch / "store").scores
    return weigh(split(scored, params.SplitParams(match=[])), params.WeighParams())


def lora(setup: Setup) -> None:
    """docs/training.md's recipe for a 7B model on a card of 24 GB: scoring and LoRA in bfloat16, all in that much."""
    from curate.training.train import train

    with memory() as peak:
        started = time.perf_counter()
        model = setup.made("7b-151k")
        forget()
    setup.add(phase="make a random 7B", seconds=time.perf_counter() - started, **peak)
    if ON_GPU:
        torch.cuda.set_per_process_memory_fraction(min(1.0, CARD * GIB / torch.cuda.mem_get_info()[1]))
    with memory() as peak:
        started = time.perf_counter()
        weights = weighted(setup, model, "bfloat16", 16 if setup.tiny else 64)
        forget()
    setup.add(phase="score", seconds=time.perf_counter() - started, pairs=weights.height, **peak)
    settings = params.TrainParams(
        dtype="bfloat16",
        lora_rank=16,
        gradient_checkpointing=True,
        batch_pairs=4,
        accumulation=2 if setup.tiny else 8,
        epochs=1,
        evaluations=1,
        eval_pairs=8,
        checkpoints=1,
        check_pairs=8,
        kl_prompts=4,
        kl_tokens=8,
        learning_rate=1e-5,
        check_tolerance=0.05,
        save="adapter",
    )
    with memory() as peak:
        started = time.perf_counter()
        arm = params.DEFAULT_ARMS["bdpo"]
        metrics = train(weights, model, settings, arm, "bdpo", setup.scratch / "lora", setup.scratch / "state")
    setup.add(
        phase="train",
        seconds=time.perf_counter() - started,
        pairs=weights.filter(weights["split"] == "train").height,
        **peak,
        **{
            "loss at step 0": metrics["start"]["loss"],
            "after": metrics["train"]["loss"],
            "KL": metrics["heldout"].get("kl"),
        },
    )


def fsdp(setup: Setup) -> None:
    """The same run plain and under accelerate: FSDP with one process on a GPU, on a CPU one process of DDP."""
    from curate.base import files
    from curate.training.train import train

    model = setup.small
    weights = weighted(setup, model, "float32", 24 if setup.tiny else 48)
    file, kind = setup.scratch / "weights.parquet", "fsdp" if ON_GPU else "ddp"
    files.write_parquet(weights, file, {"stage": "weigh"})
    settings = {"epochs": 1, "evaluations": 1, "kl_prompts": 0, "batch_pairs": 8, "checkpoints": 1, "eval_pairs": 8}
    started = time.perf_counter()
    arm, out = params.DEFAULT_ARMS["bdpo"], setup.scratch / "plain"
    metrics = train(weights, model, params.TrainParams(**settings), arm, "bdpo", out, setup.scratch / "state")
    seconds = time.perf_counter() - started
    losses = {"loss at step 0": metrics["start"]["loss"], "after": metrics["train"]["loss"]}
    setup.add(run="plain", seconds=seconds, **losses, note="")
    forget()
    text = Path(f"configs/{kind}.yaml").read_text(encoding="utf-8")
    plan = setup.scratch / "accelerate.yaml"
    lines = ["num_processes: 1" if line.startswith("num_processes") else line for line in text.splitlines()]
    plan.write_text("\n".join(lines), encoding="utf-8")
    call = [sys.executable, "-m", "curate", "train", str(file), "--model", str(model.folder), "--arm", "bdpo"]
    for name, value in settings.items():
        call += [f"--{name.replace('_', '-')}", str(value)]
    out = setup.scratch / "launched"
    started = time.perf_counter()
    call += ["--accelerate", str(plan), "--out", str(out)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    seconds, losses, note = time.perf_counter() - started, {}, (done.stderr or done.stdout)[-300:]
    if not done.returncode:
        metrics, note = json.loads((out / "metrics.json").read_text(encoding="utf-8")), ""
        losses = {"loss at step 0": metrics["start"]["loss"], "after": metrics["train"]["loss"]}
    setup.add(run=f"{kind}, one process", seconds=seconds, **losses, note=note)


def divergence(setup: Setup) -> None:
    """The KL of a policy to its reference."""
    import copy

    from curate.models.load import load_model
    from curate.training.divergence import Divergence
    from curate.training.policy import make_policy

    model = setup.small
    prompts = setup.prompts(model, 4 if setup.tiny else 32)
    policy = make_policy(load_model(model, "float32")).eval()
    reference = copy.deepcopy(policy).eval().requires_grad_(False)
    reference.set_attn_implementation(reference.curate_attention)
    ends = sorted(rendering.stop_token_ids(rendering.load_tokenizer(model), model))
    for autocast in (False, True):
        estimate = Divergence(prompts, ends, 8 if setup.tiny else 64, model.context, 0, autocast, lambda: reference)
        for name in ("the reference itself", "moved"):
            if name == "moved":
                with torch.no_grad():
                    for weight in policy.parameters():
                        weight.mul_(1.02)
            with memory() as peak:
                started = time.perf_counter()
                kl = estimate(policy)
                seconds = time.perf_counter() - started
            setup.add(what=f"KL, {name}", dtype="bfloat16" if autocast else "float32", KL=kl, seconds=seconds, **peak)
        policy.load_state_dict(reference.state_dict())


def study(setup: Setup) -> None:
    """Another script for the same machine, where there is one: its last line is kept."""
    script = Path(setup.study)
    if not script.is_file():
        setup.add(script=script.name, note="not there")
        return
    call = [sys.executable, str(script), *([f"--model={setup.given}"] if setup.given else [])]
    done = subprocess.run([*call, *(["--tiny"] if setup.tiny else [])], capture_output=True, text=True, check=False)
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
    setup.add(script=script.name, **{"exit code": done.returncode}, note=" ".join(last)[:300])


SECTIONS = (
    machine,
    parity,
    scoring,
    training,
    lora,
    fsdp,
    divergence,
    *gpu_answers.SECTIONS,
    *gpu_attention.SECTIONS,
    *gpu_vllm.SECTIONS,
    study,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", help=", ".join(section.__name__ for section in SECTIONS))
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--study", default="")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    options = parser.parse_args()
    console.quiet = True
    setup = Setup(options)
    for name in options.names.split(","):
        setup.run(next(section for section in SECTIONS if section.__name__ == name))


if __name__ == "__main__":
    main()
