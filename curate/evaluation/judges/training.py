"""Training a judge of one's own: a text classifier on the labelled responses of pairs. [ours]

A model's body gets a head with the labels safe and unsafe; the head and the last blocks train, the rest stands still.
It reads a request and its response as `judges/classifier.py` does, which later reads the folder.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch

from curate.base.device import device
from curate.base.errors import InputError
from curate.base.files import Folder
from curate.base.progress import progress, say
from curate.evaluation.judges.agreement import HARMFUL, HARMLESS, Labelled
from curate.evaluation.judges.base import Case
from curate.evaluation.judges.classifier import inputs_of
from curate.models.classifiers import load_tokenizer
from curate.models.faults import loading
from curate.models.resolve import MODEL_FILES, Model
from curate.models.softcap import attend_capped
from curate.pairs.identity import draw_order
from curate.pairs.schema import Split

LABELS = {0: "safe", 1: "unsafe"}
RECORD_FILE = "judge.json"
"""How it was made, and its agreement on held-out prompts."""
JUDGE = Folder((RECORD_FILE, "config.json"), MODEL_FILES)


class Settings(NamedTuple):
    """How a judge is trained."""

    blocks: int = 4  # the last so many of the body train, besides the head
    epochs: int = 2
    learning_rate: float = 1e-4  # peak; linear decay after a warm-up over a tenth of the steps
    batch: int = 16  # responses a step
    max_tokens: int = 1024  # a longer request and response is left out
    dtype: str = "float32"  # bfloat16: autocast
    seed: int = 0


class Responses(NamedTuple):
    """Labelled responses of one side, and what was left out."""

    cases: list[Case]
    labels: list[str]  # harmful or harmless
    told: dict[str, int]


def responses(pairs: pl.DataFrame, split: Split, limit: int = 0) -> Responses:
    """Each response of the side once, with its label.

    One that is called safe in one pair and unsafe in another is left out, and so are those without a label, and
    prompts of more than one user turn: the judge reads one request.

    Args:
        limit: keep a draw of so many, the same whatever the order of the pairs (0: all).

    Raises:
        InputError: the side has not both labels.
    """
    sides = [
        pairs.filter(split=split.value).select(
            "prompt", response=pl.col(side).list.last().struct.field("content"), safe=f"{side}_safe"
        )
        for side in ("chosen", "rejected")
    ]
    rows = pl.concat(sides)
    known = rows.filter(pl.col("safe").is_not_null() & (pl.col("response").str.strip_chars() != ""))
    single = known.filter(pl.col("prompt").list.eval(pl.element().struct.field("role") == "user").list.sum() == 1)
    question = pl.col("prompt").list.last().struct.field("content").alias("question")
    merged = single.group_by(question, "response", maintain_order=True).agg(
        pl.col("safe").first(), torn=pl.col("safe").n_unique() > 1
    )
    kept = merged.filter(~pl.col("torn"))
    if kept["safe"].n_unique() < 2:
        raise InputError(
            f"the {split.value} pairs have not both safe and unsafe responses",
            field="chosen_safe, rejected_safe",
            found=f"{rows.height:,} responses, {known.height:,} with a label",
            remedy="use pairs with safety labels; `curate prepare --format pku_ranked` claims them for such a file",
        )
    told = {
        "responses": min(kept.height, limit or kept.height),
        "without a label or text": rows.height - known.height,
        "of more than one turn": known.height - single.height,
        "called both safe and unsafe": merged.height - kept.height,
    }
    if limit:
        order = draw_order((kept["question"] + "\0" + kept["response"]).to_list(), 0)
        kept = kept.with_columns(_draw=pl.Series(order, dtype=pl.Binary)).sort("_draw").head(limit)
    cases = [Case(question, said, said) for question, said in kept.select("question", "response").rows()]
    return Responses(cases, [HARMLESS if safe else HARMFUL for safe in kept["safe"]], told)


def labelled(found: Responses) -> Labelled:
    return Labelled(found.cases, found.labels, None)


def train(model: Model, found: Responses, settings: Settings, folder: Path) -> dict[str, Any]:
    """Train on `found` and save the classifier and its tokenizer in `folder`; returns what was trained on.

    Raises:
        InputError: the model cannot be loaded, every response is longer than `max_tokens`, or training diverges.
    """
    from curate.base.light import transformers

    transformers.set_seed(settings.seed)
    tokenizer = load_tokenizer(model.path, trust_remote_code=model.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    net = _with_head(model, tokenizer.pad_token_id)
    rows: list[dict[str, Any]] = [
        {"input_ids": each["input_ids"], "labels": int(label == HARMFUL), "length": len(each["input_ids"])}
        for each, label in zip(inputs_of(tokenizer, found.cases), found.labels, strict=True)
    ]
    most = min(settings.max_tokens, model.context)
    fitting = [row for row in rows if len(row["input_ids"]) <= most]
    if not fitting:
        raise InputError("every response is too long for the judge", expected=f"at most {most} tokens")
    trains = _freeze(net, settings.blocks)
    say(f"judge: {len(fitting):,} responses, {trains:,} weights train of {sum(p.numel() for p in net.parameters()):,}")
    with tempfile.TemporaryDirectory(prefix="curate-") as scratch:
        _run(net, tokenizer, fitting, settings, scratch)
    if not all(parameter.isfinite().all() for parameter in net.parameters()):
        raise InputError(
            "training has diverged: weights of the judge are no finite numbers",
            field="learning_rate",
            found=settings.learning_rate,
            remedy="lower it",
        )
    net.to("cpu").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"trained_on": len(fitting), "too_long": len(rows) - len(fitting), "weights_trained": trains}


def _run(net: Any, tokenizer: Any, rows: list[dict[str, Any]], settings: Settings, scratch: str) -> None:
    from curate.base.light import transformers

    steps = -(-len(rows) // settings.batch) * settings.epochs
    arguments = transformers.TrainingArguments(
        output_dir=scratch,
        use_cpu=device().type == "cpu",
        bf16=settings.dtype == "bfloat16",
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        warmup_steps=steps // 10,
        train_sampling_strategy="group_by_length",
        seed=settings.seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        # One device: nn.DataParallel would take a batch from each GPU.
        arguments._n_gpu = 1
    with progress("judge", steps, "steps") as advance:

        class Show(transformers.TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                advance()

        collator = transformers.DataCollatorWithPadding(tokenizer)

        def collate(batch: list[dict[str, Any]]) -> Any:
            return collator([{name: row[name] for name in ("input_ids", "labels")} for row in batch])

        trainer = transformers.Trainer(model=net, args=arguments, train_dataset=_Rows(rows), data_collator=collate)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(Show())
        trainer.train()


class _Rows(torch.utils.data.Dataset):
    """Token ids, label and length by row; Trainer groups them by `length`."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]


def _with_head(model: Model, padding: int) -> Any:
    """The model's body with a new head of two labels, in float32."""
    from curate.base.light import silence, transformers

    silence()
    with loading("judge", model.path):
        net = transformers.AutoModelForSequenceClassification.from_pretrained(
            model.path,
            id2label=LABELS,
            label2id={label: number for number, label in LABELS.items()},
            problem_type="single_label_classification",
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=model.trust_remote_code,
            ignore_mismatched_sizes=True,
        )
    attend_capped(net)
    net.config.get_text_config().pad_token_id = padding
    return net


def _freeze(net: Any, blocks: int) -> int:
    """Let the head and the last `blocks` blocks of the body train alone; returns how many weights do."""
    body = net.base_model
    lists = [module for module in body.modules() if isinstance(module, torch.nn.ModuleList)]
    stack = list(max(lists, key=len, default=[]))
    if blocks < len(stack):
        body.requires_grad_(False)
        for block in stack[len(stack) - blocks :]:
            block.requires_grad_(True)
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
