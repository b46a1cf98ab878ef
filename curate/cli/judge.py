"""`curate judge train`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.base.progress import quoted
from curate.cli.options import say_next
from curate.project.params import LARGEST_SEED, MANY, TrainingDtype

if TYPE_CHECKING:
    import polars as pl

    from curate.evaluation.judges.training import Responses
    from curate.pairs.schema import Split

LOST = "no judge is kept half-trained, the same command trains it from the start"

app = typer.Typer(name="judge", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Train a safety classifier of your own from labelled pairs."""


@app.command()
def train(
    pairs: Annotated[Path, typer.Argument(help="Pairs with safety labels, from `curate prepare` or a later step.")],
    model: Annotated[
        str, typer.Option(help="Where its body comes from: a language model or a classifier, a folder or a Hub id.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the judge; an earlier judge there is replaced.")] = Path(
        "judge"
    ),
    blocks: Annotated[
        int, typer.Option(min=0, max=MANY, help="How many of the body's last blocks train, besides the head.")
    ] = 4,
    epochs: Annotated[int, typer.Option(min=1, max=MANY, help="Passes over the responses.")] = 2,
    learning_rate: Annotated[float, typer.Option(min=1e-9, max=10, help="Peak learning rate.")] = 1e-4,
    batch: Annotated[int, typer.Option(min=1, max=MANY, help="Responses per step.")] = 16,
    max_tokens: Annotated[int, typer.Option(min=1, max=MANY, help="Longer request and response: left out.")] = 1024,
    dtype: Annotated[TrainingDtype, typer.Option(help="Of the products in training; weights are float32.")] = "float32",
    limit: Annotated[
        int, typer.Option(min=0, max=MANY, help="Only a draw of this many responses, for a try (0: all).")
    ] = 0,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of the head's first weights and the order of the responses.")
    ] = 0,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the model.")] = False,
) -> None:
    """Train a judge on the labelled responses of pairs.

    It learns from the training side; how far it agrees with the labels is measured on the held-out prompts, and
    printed as by `curate agreement`. That says nothing of prompts of another kind. No text is printed.
    """
    from curate.base import files
    from curate.base.exits import losing
    from curate.base.progress import say
    from curate.cli.agreement import lines
    from curate.evaluation import statistics
    from curate.evaluation.judges import agreement, training
    from curate.evaluation.judges.classifier import ClassifierJudge
    from curate.models.resolve import resolve, resolve_given
    from curate.pairs.artefact import read_with
    from curate.pairs.schema import Split

    statistics.check_installed()  # what measures it: asked before it is trained
    files.check_replaceable(out, training.JUDGE)
    frame, read = read_with(files.file_digest, pairs, "pairs")
    learnt, heldout = (_responses(frame, side, limit) for side in (Split.TRAIN, Split.HELDOUT))
    settings = training.Settings(blocks, epochs, learning_rate, batch, max_tokens, dtype, seed)
    resolved = resolve_given(model, revision, trust_remote_code=trust_remote_code)
    with losing(LOST), files.replacing(out, training.JUDGE) as folder:
        told = training.train(resolved, learnt, settings, folder)
        trained = resolve(str(folder))._replace(name=str(out))
        judge = ClassifierJudge(trained, "float32", training.LABELS[1], files.state_folder())
        found = agreement.agreement(training.labelled(heldout), judge, "harm")
        judge.close()
        made = {"settings": settings._asdict(), "model": resolved.record(), "pairs": read}
        seen = {"training": learnt.told | told, "heldout": heldout.told, "agreement": found}
        files.write_json(made | seen, folder / training.RECORD_FILE)
    typer.echo("\n".join(lines(found, "classifier")))
    say(f"judge: agreement on held-out prompts is in {out / training.RECORD_FILE}")
    say_next(f"curate evaluate MODEL --suite strongreject --judge classifier --judge-model {quoted(out)}")


def _responses(pairs: pl.DataFrame, side: Split, limit: int) -> Responses:
    """Of one side, with a line of how many there are."""
    from curate.base.progress import say
    from curate.evaluation.judges import training

    found = training.responses(pairs, side, limit)
    name = "training" if side == "train" else "held-out"
    say(f"judge: {name} side: " + ", ".join(f"{count:,} {what}" for what, count in found.told.items() if count))
    return found
