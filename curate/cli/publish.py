"""`curate publish`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.base.progress import say
from curate.cli.options import check_beside, with_keys, with_params
from curate.project.params import REPOSITORY, PublishParams, is_repository


@with_params(PublishParams, skip=("repos",))
def publish(
    weights: Annotated[Path, typer.Argument(help="What `curate weigh` wrote.")],
    repo: Annotated[str, typer.Option(help="Dataset repository on the Hub, owner/name; made if it is not there.")],
    params: PublishParams,
    prepare: Annotated[Path | None, typer.Option(help="pairs.prepare.json: the card tells what was refused.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; print what would be sent.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the folder that is sent, or would be.")] = None,
    receipt: Annotated[
        Path, typer.Option(help="Written after the push: repository, commit, every file's digest.")
    ] = Path("publish.json"),
) -> None:
    """Publish weighted pairs on the Hugging Face Hub.

    They go with a card, as one commit; private unless --public.

    The token comes from HF_TOKEN or `hf auth login`. What the repository has already is not sent again.
    """
    from curate.base.errors import UsageError
    from curate.hub import publish as hub

    if not is_repository(repo):
        raise UsageError("not a repository's name", field="--repo", found=repo, expected=REPOSITORY)
    if not dry_run:
        check_beside(receipt, weights, with_keys("repository", "commit", "files"))
        hub.publish(weights, repo, params, prepare=prepare, out=out, receipt=receipt)
        return
    found = hub.rehearse(weights, repo, params, prepare=prepare, out=out)
    typer.echo(f"would be sent to {repo}, {'public' if params.public else 'private'} if it is a new repository:")
    for name, size, rows, digest in found.iter_rows():
        typer.echo(f"{digest}  {size:>12,} bytes  {'' if rows is None else f'{rows:,} rows':>14}  {name}")
    typer.echo(f"{found.height} files, {found['bytes'].sum():,} bytes; a card that is there keeps its own text")
    say("next: the same command without --dry-run")
