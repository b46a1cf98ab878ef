"""The command line: one file a command, its heavy imports inside it, so that `curate --help` answers at once.

Exit codes: curate/base/exits.py.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

import curate
import curate.base.threads  # (before torch)
from curate.base.exits import INTERRUPTED, told
from curate.base.namesake import refuse_namesake
from curate.cli import (
    agreement,
    check,
    evaluate,
    init,
    judge,
    prepare,
    presets,
    publish,
    rate,
    reference,
    report,
    score,
    show,
    split,
    store,
    train,
    weigh,
)

app = typer.Typer(
    name="curate",
    help="Score safety-preference pairs by mutual information, split and weigh them, train B-DPO on the result.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    init.init,
    check.check,
    presets.presets,
    prepare.prepare,
    reference.reference,
    rate.rate,
    score.score,
    split.split,
    weigh.weigh,
    train.objectives,
    train.train,
    evaluate.suites,
    evaluate.evaluate,
    evaluate.compare,
    agreement.agreement,
    report.report,
    publish.publish,
    show.show,
):
    app.command()(command)
app.add_typer(judge.app)
app.add_typer(store.app)


def _version(value: bool) -> None:
    if value:
        typer.echo(curate.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001  (its callback reads it)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    refuse_namesake()


def main() -> None:
    """Run a command; a user's mistake is one message and an exit code, never a traceback."""
    with told():
        try:
            code = app(standalone_mode=False)
        except TyperException as error:  # the call cannot be read
            getattr(error, "show")()  # noqa: B009  (which errors of a call have, though their public base does not)
            sys.exit(error.exit_code)
        if code == INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code)
