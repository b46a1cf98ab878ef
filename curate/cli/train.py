"""`curate train`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from curate.base.progress import quoted
from curate.cli.options import check_once, one_of, say_next, with_params
from curate.project.params import DEFAULT_ARMS, LARGEST_SEED, MANY, PIPELINE_KEYS, ArmParams, TrainParams, check

if TYPE_CHECKING:
    import polars as pl


@with_params(TrainParams, skip=PIPELINE_KEYS)
def train(
    model: Annotated[str, typer.Option(help="The model that scored the pairs: a folder or a Hub id.")],
    params: TrainParams,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run; a run there is replaced [default: runs/ARM/seed-SEED, where no finished run may "
            "stand]."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Argument(help="What `curate weigh` wrote, or a published dataset: hub:owner/name or its folder."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The same as WEIGHTS, as an option.")] = None,
    arm: Annotated[
        str, typer.Option(help=f"One of: {', '.join(DEFAULT_ARMS)}.", autocompletion=one_of(lambda: DEFAULT_ARMS))
    ] = "bdpo",
    subset: Annotated[
        Literal["all", "balanced", "imbalanced", "random"] | None,
        typer.Option(help="Which training pairs [default: the arm's]."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER, a setting of the objective (`curate objectives` lists them); may repeat."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order of the pairs.", min=0, max=LARGEST_SEED)] = 0,
    limit: Annotated[
        int, typer.Option(min=0, max=MANY, help="Only the first pairs of each side, this many, for a try (0: all).")
    ] = 0,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the model.")] = False,
) -> None:
    """Train a model on weighted pairs.

    An arm is an objective and the pairs that it trains on. OUT gets model/, curve.csv, rewards.parquet and
    metrics.json. An interrupted run goes on from its last checkpoint (in .curate/checkpoints) when called again.
    """
    from curate.base import files
    from curate.base.progress import say
    from curate.models.resolve import resolve_given
    from curate.training.launch import launch

    source = _named_once(weights, data)
    out = out or _new_run(Path("runs") / arm / f"seed-{seed}")
    changes = {"subset": subset} if subset is not None else {}
    settings = check(ArmParams, _named_arm(arm).record() | changes | {"settings": _numbers(setting or [])})
    code = launch(params.accelerate, "curate", sys.argv[1:])
    if code is not None:
        raise typer.Exit(code)
    frame, provenance = _weighted(source, settings, limit)
    resolved = resolve_given(model, revision, trust_remote_code=trust_remote_code)

    from curate.training.train import train as train_arm

    metrics = train_arm(frame, resolved, params, settings, arm, out, files.state_folder(), provenance, seed)
    rewards = {name: metrics["heldout"][f"rewards/{name}"] for name in ("accuracies", "margins")}
    measured = "validation" if params.validation_fraction else "held-out"
    say(f"train {arm}: {measured} accuracy {rewards['accuracies']:.3f}, margin {rewards['margins']:.3f} -> {out}")
    _say_next(out, source)


def _say_next(out: Path, source: str) -> None:
    """On the Hub the held-out pairs are a split of their own."""
    heldout = f"{source}#test" if source.startswith("hub:") else source
    say_next(f"curate evaluate {quoted(out / 'model')} --suite heldout={quoted(heldout)}", f"curate show {quoted(out)}")


def _named_once(weights: str | None, data: str | None) -> str:
    from curate.base.errors import UsageError

    source = weights or data
    if source is None or (weights and data):
        raise UsageError(
            "name the weighted pairs once",
            field="weights, --data",
            found="both" if source else "neither",
            expected="what `curate weigh` wrote, or hub:owner/name",
        )
    return source


def _named_arm(arm: str) -> ArmParams:
    """The arm of this name. Raises `UsageError` where there is none."""
    import difflib

    from curate.base.errors import UsageError

    if arm not in DEFAULT_ARMS:
        close = difflib.get_close_matches(arm, DEFAULT_ARMS, n=1)
        raise UsageError(
            "no such arm",
            field="--arm",
            found=arm,
            expected=f"{close[0]}?" if close else None,
            remedy="`curate train --help` lists the arms; one of your own stands in a project's params.yaml",
        )
    return DEFAULT_ARMS[arm]


def _weighted(source: str, arm: ArmParams, limit: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The pairs, the first `limit` of each side where it is not 0, and their provenance."""
    import polars as pl

    from curate.cli import inputs

    stages = ["pairs", "scores", *(["splits"] if arm.subset != "all" else []), "weights"]
    frame, provenance = inputs.weighted(source, *stages)
    if limit:
        return frame.filter(pl.int_range(pl.len()).over("split") < limit), provenance | {"limit": limit}
    return frame, provenance


def _new_run(folder: Path) -> Path:
    """`folder`, where no run is finished: hours of work are replaced only by name."""
    from curate.base.errors import OutputError

    if (folder / "model").exists():
        raise OutputError(
            "a finished run stands here already", file=folder, remedy=f"name another --out; --out {folder} replaces it"
        )
    return folder


def _numbers(given: list[str]) -> dict[str, str]:
    from curate.base.errors import UsageError

    parts = [text.partition("=") for text in given]
    for text, (name, equals, _) in zip(given, parts, strict=True):
        if not (name and equals):
            raise UsageError("cannot read a setting", field="--setting", found=text, expected="NAME=NUMBER")
    check_once((name for name, _, _ in parts), "--setting", "a setting")
    return {name: value for name, _, value in parts}


def objectives() -> None:
    """List the objectives, with their settings and defaults."""
    from curate.objectives.registry import OBJECTIVES
    from curate.training.arms import DATA_SETTINGS

    for name, objective in OBJECTIVES.items():
        settings = objective.settings | DATA_SETTINGS.get(name, {})
        shown = (f"{key}={'train.beta' if value is None else f'{value:g}'}" for key, value in settings.items())
        typer.echo(f"{name}: {objective.about}\n    {', '.join(shown)}")
