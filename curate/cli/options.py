"""Command-line options made from the typed params, so that help, defaults and checks stand in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from curate.base.errors import UsageError
from curate.project import params

Out = Annotated[Path, typer.Option("--out", help="Where the result goes; replaced only when all went well.")]


def check_out(out: Path, source: str | Path) -> None:
    """Refuse an output that is no Parquet file's name, or that would overwrite the input.

    Raises:
        UsageError: either.
    """
    if out.suffix != ".parquet" or out.is_dir():
        found = "a folder" if out.is_dir() else out.name
        raise UsageError("--out must name a Parquet file", field="out", found=found, expected="a file *.parquet")
    if out.resolve() == Path(source).resolve():
        raise UsageError("--out is the input itself", field="out", found=out, remedy="give another name")


def _annotation(annotation: Any) -> Any:
    """typer takes no list of literals; the params model checks the words."""
    return list[str] if get_origin(annotation) is list else annotation


def with_params(section: type[params.Section], skip: tuple[str, ...] = ()) -> Callable[[Callable], Callable]:
    """Give a command one option for each key of `section`; it receives them checked, as `params`.

    The command's own parameters come first; `skip` names keys that it spells itself or does not offer.
    """
    fields = {name: field for name, field in section.model_fields.items() if name not in skip}

    def decorate(command: Callable) -> Callable:
        own = inspect.signature(command, eval_str=True)
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=Annotated[_annotation(field.annotation), typer.Option(help=field.description)],  # type: ignore[misc]
            )
            for name, field in fields.items()
        ]

        @wraps(command)
        def run(**given: Any) -> Any:
            values = {name: given.pop(name) for name in fields}
            return command(**given, params=params.check(section, values))

        kept = [parameter for parameter in own.parameters.values() if parameter.name != "params"]
        signature = own.replace(parameters=[*kept, *options])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        return run

    return decorate
