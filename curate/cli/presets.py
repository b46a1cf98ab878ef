"""`curate presets`"""

from __future__ import annotations

from typing import Annotated

import typer

from curate.cli.options import one_of, preset_names


def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Print this one's params.yaml.", show_default="list them all", autocompletion=one_of(preset_names)
        ),
    ] = None,
) -> None:
    """List the presets, params files to start from; or print one."""
    from curate.project.presets import preset
    from curate.project.presets import presets as all_presets

    if name is not None:
        typer.echo(preset(name).text, nl=False)
        return
    for known in all_presets().values():
        typer.echo(f"{known.name:<20}{known.what} Machine: {known.machine}")
