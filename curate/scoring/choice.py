"""Which engine scores where params say `auto`, by what the score store holds already."""

from __future__ import annotations

from pathlib import Path

from curate.base.errors import InputError
from curate.models.resolve import Model
from curate.project.params import ScoreParams
from curate.scoring.engines import version
from curate.scoring.engines.choice import choose_engine, say_choice
from curate.scoring.scorer import store_of


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
    say_choice("score", choice, "on a CPU --engine transformers, or score.engine, is faster: docs/scaling.md")
    return params.model_copy(update={"engine": choice.engine})
