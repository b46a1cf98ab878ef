"""`curate rate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.base.progress import quoted
from curate.cli.options import Out
from curate.project.params import Dtype

LOST = "no rating is kept, the same command rates from the start"


def rate(
    pairs: Annotated[Path, typer.Argument(help="What `curate prepare` or a later stage wrote.")],
    out: Out = Path("rated.parquet"),
    reward: Annotated[str | None, typer.Option(help="A reward model's folder or Hub id (helpfulness).")] = None,
    cost: Annotated[str | None, typer.Option(help="A cost model's folder or Hub id (harmfulness).")] = None,
    reward_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit, on the Hub.")] = None,
    cost_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit, on the Hub.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="Of the weights and activations.")] = "float32",
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the models.")] = False,
) -> None:
    """Rate both responses of every pair, for the objective C-DPO.

    It adds the columns *_reward and *_cost, in place of any that the file has. The models are
    sequence-classification models with one output: a higher reward is better, a higher cost worse.
    """
    from curate.base.errors import UsageError
    from curate.base.exits import losing
    from curate.base.progress import say
    from curate.cli.options import check_out, say_next
    from curate.models.resolve import resolve
    from curate.pairs.artefact import scan_artefact

    asked = {"reward": (reward, reward_revision), "cost": (cost, cost_revision)}
    if reward is None and cost is None:
        raise UsageError("no rating model is named", expected="--reward MODEL, --cost MODEL or both")
    check_out(out, pairs)
    scan_artefact(pairs, "pairs")  # before models are fetched
    resolved = {
        rating: resolve(name, revision, trust_remote_code=trust_remote_code)
        for rating, (name, revision) in asked.items()
        if name is not None
    }
    with losing(LOST):
        from curate.scoring.rating import rate_file

        frame = rate_file(pairs, resolved, dtype, out).pairs
    shares = ", ".join(
        f"{rating} of chosen higher in {(frame[f'chosen_{rating}'] > frame[f'rejected_{rating}']).mean():.1%}"
        for rating in resolved
    )
    say(f"rate: {frame.height:,} pairs, {shares} -> {out}")
    say_next(f"curate score {quoted(out)} --model MODEL")
