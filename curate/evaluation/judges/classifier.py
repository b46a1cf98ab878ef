"""A safety classifier as judge: harm is the probability that it gives its label for harmful.

A classifier with a chat template reads request and response as a conversation; one without reads them as a pair of
texts, as models of the BERT kind are trained on. Labels that exclude each other go through a softmax, those that do
not (`problem_type: multi_label_classification`), and a single one, through a sigmoid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from curate.base.errors import InputError, UsageError
from curate.base.progress import say
from curate.evaluation.items import Judgement
from curate.evaluation.judges.base import Case
from curate.evaluation.judges.passes import Inputs, Passes, Run
from curate.models.classifiers import load_classifier, load_config, load_tokenizer
from curate.models.resolve import Model
from curate.models.template import render

WHAT = "classifier"
HARMFUL = {"unsafe", "harmful", "harm", "toxic", "toxicity", "dangerous", "hate", "hateful", "offensive", "abusive"}
NEGATED = {"not", "non", "no"}


class ClassifierJudge:
    """A sequence-classification model. It has an opinion on harm alone.

    Args:
        label: that means harmful, as config.json spells it; None takes the only one that reads so.

    Raises:
        UsageError: no such label, or none is given and not exactly one reads harmful.
        InputError: no sequence-classification model, or one that is trained to rate and not to classify.
    """

    name = "classifier"
    tasks = frozenset({"harm"})

    def __init__(self, model: Model, dtype: str, label: str | None, state: Path) -> None:
        self.model, self.dtype = model, dtype
        config = load_config(model, WHAT)
        _check(model, config)
        labels = [str(config.id2label[number]) for number in range(config.num_labels)]
        self.label = _harmful(labels, label, model)
        self.labels = labels
        self.tokenizer = load_tokenizer(model.path, trust_remote_code=model.trust_remote_code)
        exclusive = len(labels) > 1 and config.problem_type != "multi_label_classification"
        # Positions of some encoders begin behind the padding token's: their tokenizer knows how long a text may be.
        self.context = min(model.context, self.tokenizer.model_max_length)
        self._passes = Passes(
            model,
            dtype,
            state,
            len(labels),
            lambda: _classifying(load_classifier(model, config, dtype, WHAT), exclusive),
        )

    def record(self) -> dict[str, Any]:
        return {**self._passes.scope, "judge": self.name, "label": self.label, "model": self.model.record()}

    def judge(self, cases: Sequence[Case], task: str) -> list[Judgement]:
        out = [Judgement(why="too long for the judge")] * len(cases)
        inputs = self.inputs(cases)
        fitting = [number for number, each in enumerate(inputs) if len(each["input_ids"]) <= self.context]
        at = self.labels.index(self.label)
        for number, shares in zip(fitting, self._passes([inputs[n] for n in fitting]), strict=True):
            said = ", ".join(f"{label}: {share:.4f}" for label, share in zip(self.labels, shares, strict=True))
            out[number] = Judgement(harm=min(1.0, max(0.0, shares[at])), raw=said)
        return out

    def inputs(self, cases: Sequence[Case]) -> list[Inputs]:
        """What the judge reads of each. Raises `InputError` where its template refuses a conversation."""
        return inputs_of(self.tokenizer, cases)

    def close(self) -> None:
        self._passes.close()


def inputs_of(tokenizer: Any, cases: Sequence[Case]) -> list[Inputs]:
    """What a classifier with this tokenizer reads of each. Raises `InputError` where its template refuses one."""
    if not cases:
        return []
    if tokenizer.chat_template:
        # A template has written the special tokens itself.
        read = tokenizer([_text(tokenizer, case) for case in cases], add_special_tokens=False, verbose=False)
    else:
        read = tokenizer([c.question for c in cases], [c.response for c in cases], verbose=False)
    names = [name for name in read if name != "attention_mask"]
    return [{name: list(read[name][row]) for name in names} for row in range(len(cases))]


def _text(tokenizer: Any, case: Case) -> str:
    turns = [{"role": "user", "content": case.question}, {"role": "assistant", "content": case.response}]
    return render(tokenizer, turns, "a request and its response")


def _classifying(net: Any, exclusive: bool) -> Run:
    def run(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = net(**batch).logits.double()
        return logits.softmax(dim=-1) if exclusive else logits.sigmoid()  # type: ignore[no-any-return]

    return run


def _check(model: Model, config: Any) -> None:
    """Raise `InputError` where config.json says that this is no classifier."""
    architecture = (config.architectures or ["unknown"])[0]
    if not architecture.endswith("ForSequenceClassification"):
        raise InputError(
            "this is no classifier",
            file=model.path / "config.json",
            field="architectures",
            found=architecture,
            expected="a sequence-classification model",
            remedy="a language model can be a judge with judge: rubric",
        )
    if config.problem_type == "regression":
        raise InputError(
            "the model rates and does not classify",
            file=model.path / "config.json",
            field="problem_type",
            found="regression",
            remedy="give a classifier; `curate rate` is for rating models",
        )


def _harmful(labels: Sequence[str], label: str | None, model: Model) -> str:
    """The label that means harmful."""
    if label is not None:
        if label not in labels:
            raise UsageError(
                "the classifier has no such label",
                file=model.path / "config.json",
                field="judge_label",
                found=label,
                expected=", ".join(labels)[:500],
            )
        return label
    likely = [each for each in labels if _reads_harmful(each)]
    if len(likely) != 1:
        raise UsageError(
            "which of the classifier's labels means harmful?",
            file=model.path / "config.json",
            field="judge_label",
            found=f"{len(likely)} that read so, of: {', '.join(labels)}"[:500],
            remedy="name it",
        )
    say(f"judge: {model.name}: harm is the probability of its label {likely[0]!r}")
    return likely[0]


def _reads_harmful(label: str) -> bool:
    words = set(re.findall(r"[a-z]+", label.lower()))
    return bool(words & HARMFUL) and not words & NEGATED
