"""`curate train`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from curate.cli.options import Out, with_params
from curate.params import DEFAULT_ARMS, ArmParams, TrainParams


@with_params(TrainParams, skip=("arms",))
def train(
    weights: Annotated[Path, typer.Argument(help="What `curate weigh` wrote.")],
    model: Annotated[str, typer.Option(help="The model that scored the pairs: a folder or a Hub id.")],
    out: Out,
    params: TrainParams,
    arm: Annotated[str, typer.Option(help=f"One of: {', '.join(DEFAULT_ARMS)}.")] = "bdpo",
    subset: Annotated[
        Literal["all", "balanced", "imbalanced", "random"] | None,
        typer.Option(help="Which training pairs [default: the arm's]."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the model.")] = False,
) -> None:
    """Train one arm on weighted pairs; OUT gets model/, curve.csv and metrics.json.

    An interrupted run goes on from its last checkpoint (in .curate/checkpoints) when called again.
    """
    from curate import files, models
    from curate.errors import UsageError
    from curate.progress import say
    from curate.training.train import train as train_arm

    if arm not in DEFAULT_ARMS:
        raise UsageError("no such arm", field="--arm", found=arm, expected=", ".join(DEFAULT_ARMS))
    settings = DEFAULT_ARMS[arm]
    if subset is not None:
        settings = ArmParams(**settings.model_dump() | {"subset": subset})
    stages = ["pairs", "scores", "weights"] + (["splits"] if settings.subset != "all" else [])
    frame = files.read_artefact(weights, *stages)
    resolved = models.resolve(model, revision, trust_remote_code=trust_remote_code)
    metrics = train_arm(
        frame, resolved, params, settings, arm, out, files.state_folder(), files.read_provenance(weights)
    )
    heldout = metrics["heldout"]
    say(
        f"train {arm}: held-out accuracy {heldout['rewards/accuracies']:.3f}, "
        f"margin {heldout['rewards/margins']:.3f} -> {out}"
    )
