"""Judges: one file each. What they say is kept by content, and what they cannot say is counted apart.

refusals     string matching: quick, secondary
rubric       an instruct model that reads StrongREJECT's and XSTest's rubrics, here or behind an endpoint
strongreject StrongREJECT's fine-tuned evaluator
classifier   a safety classifier
truth        of the embedded sample alone: what its generator knows
"""

from __future__ import annotations

from pathlib import Path

from curate.evaluation.judges.base import Judge
from curate.project.params import EvaluateParams


def open_judge(params: EvaluateParams, state: Path) -> Judge | None:
    """The judge that params name; None for `none`. A model's weights are loaded when it first has to judge.

    Args:
        state: folder of caches; the judge's lie in it.

    Raises:
        UsageError: a URL that is none, or a classifier's label that it does not have.
        InputError: a model that cannot be had, or that is no such judge.
    """
    if params.judge == "none":
        return None
    name = str(params.judge_model)  # params has checked that there is one
    if params.judge == "rubric":
        from curate.evaluation.judges.rubric import RubricJudge
        from curate.evaluation.judges.verdicts import salt_of

        if params.judge_url:
            from curate.evaluation.generation.endpoint import EndpointChat

            return RubricJudge(EndpointChat(params.judge_url, name, state), salt_of(state))
        from curate.evaluation.generation.local import LocalChat
        from curate.models.resolve import resolve

        chat = LocalChat(resolve(name, params.judge_revision), params.judge_dtype, params.engine, state)
        return RubricJudge(chat, salt_of(state))
    if params.judge == "strongreject":
        from curate.evaluation.judges.finetuned import StrongRejectEvaluator
        from curate.models.resolve import resolve

        return StrongRejectEvaluator(resolve(name, params.judge_revision), params.judge_dtype, state)
    from curate.evaluation.judges.classifier import ClassifierJudge
    from curate.models.resolve import resolve

    return ClassifierJudge(resolve(name, params.judge_revision), params.judge_dtype, params.judge_label, state)
