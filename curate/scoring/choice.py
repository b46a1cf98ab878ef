"""Which engine scores where params say `auto`, by what the score store holds already."""

from __future__ import annotations

from pathlib import Path

from curate.base.device import device_type
from curate.base.errors import InputError
from curate.models.resolve import Model
from curate.project.params import ScoreParams
from curate.scoring.engines import version
from curate.scoring.engines.choice import choose_engine, say_choice
from curate.scoring.scorer import store_of

SMALL = 2**30
"""Bytes of weights: up to there vLLM spends a GPU's time on what it does for each request, not on the model."""


def choose(params: ScoreParams, model: Model, root: Path) -> ScoreParams:
    """The params with `auto` replaced by an engine; one line says which.

    A project that was scored by one engine stays with it: numbers of engines are not mixed, and none is made twice.

    Args:
        model: its `context` the longest sequence allowed, as `Scorer` has it.
        root: folder of the score store.
    """
    if params.engine != "auto":
        return params

    def kept(engine: str) -> int:
        try:
            made_by = version(params.model_copy(update={"engine": engine}), model)
        except InputError:  # it is not installed
            return 0
        return store_of(root, model, params.dtype, engine, made_by).bytes()

    choice = choose_engine(model, params.dtype, kept)
    say_choice("score", choice, faster(model))
    return params.model_copy(update={"engine": choice.engine})


def faster(model: Model) -> str:
    """What to say of vLLM where transformers in packs is faster: on a CPU, and of a small model on a GPU."""
    if device_type() == "cpu":
        return "on a CPU --engine transformers, or score.engine, is faster: docs/scaling.md"
    if sum(file.stat().st_size for file in model.path.glob("*.safetensors")) <= SMALL:
        return "for a model this small --engine transformers, or score.engine, is faster: docs/gpu.md"
    return ""
