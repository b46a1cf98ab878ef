"""Command-line options made from the typed params, so that help, defaults and checks stand in one place."""

from __future__ import annotations

import inspect
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from curate.base import files
from curate.base.errors import OutputError, UsageError
from curate.base.progress import say
from curate.project import params

Out = Annotated[
    Path, typer.Option("--out", help="Where the result goes; an earlier result of curate there is replaced at the end.")
]


def check_out(out: Path, source: str | Path) -> None:
    """Refuse an output that is no Parquet file's name, or that would overwrite the input or somebody's own file.

    Raises:
        UsageError: either of the first; or it is a name that rows set aside have.
        OutputError: a file stands there that is not ours.
    """
    if out.suffix != ".parquet" or out.is_dir():
        found = "a folder" if out.is_dir() else out.name
        raise UsageError("--out must name a Parquet file", field="out", found=found, expected="a file *.parquet")
    if out.with_suffix("").suffix == REJECTS:
        raise UsageError(
            "--out has a name that is kept for rows set aside",
            field="out",
            found=out.name,
            expected=f"another name than *{REJECTS}.parquet",
        )
    check_beside(out, source)


def check_beside(path: Path, source: str | Path, ours: Callable[[Path], bool] = files.is_ours) -> None:
    """As `check_out`, of a file that a command writes beside its output, or for itself.

    Args:
        ours: whether the file that stands there is one that the command may replace.
    """
    if files.real(path) == files.real(source):
        raise UsageError("what is written would replace the input", found=path, remedy="give another name")
    check_spared(path, ours)


def check_spared(path: Path, ours: Callable[[Path], bool]) -> None:
    """Raise `OutputError` where a file stands that is not `ours`."""
    if path.is_file() and not ours(path):
        raise OutputError(
            "a file that curate did not write stands where the output goes",
            file=path,
            remedy="choose another name for the output, or move the file away",
        )


def with_keys(*keys: str) -> Callable[[Path], bool]:
    """Whether a file is JSON of ours, by its keys: an object that has them, or a list of nothing else; so is one that
    is gone, as in `files.is_ours`."""

    def ours(path: Path) -> bool:
        try:
            if path.stat().st_size > MOST_BYTES:
                return False
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return True
        except (OSError, ValueError, RecursionError):
            return False
        rows = value if isinstance(value, list) else [value]
        return all(isinstance(row, dict) and set(keys) <= row.keys() for row in rows)

    return ours


MOST_BYTES = 2**26
"""Of a JSON file of ours that a command replaces: it has counts and rates, and no text of a pair."""


def print_json(value: Any) -> None:
    """As a command's result, and JSON in whatever encoding it goes out."""
    plain = not (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    typer.echo(json.dumps(value, indent=2, ensure_ascii=plain, allow_nan=False))


def say_next(*commands: str) -> None:
    """What a person is likely to call next, as a line that can be pasted; one of several."""
    say("next: " + "\n  or: ".join(commands))


def assignments(given: Iterable[str]) -> dict[str, str]:
    """OURS=THEIRS, each. Raises `UsageError` where one is not."""
    pairs = [one.partition("=") for one in given]
    if wrong := [f"{ours}{equals}{theirs}" for ours, equals, theirs in pairs if not ours or not theirs]:
        raise UsageError("not OURS=THEIRS", field="field", found=", ".join(wrong), expected="such as prompt=question")
    check_once([ours for ours, _, _ in pairs], "field", "a field")
    return {ours: theirs for ours, _, theirs in pairs}


def check_once(names: Iterable[str], option: str, what: str) -> None:
    """Raise `UsageError` where two values of an option that may repeat are for the same name."""
    if twice := sorted(name for name, times in Counter(names).items() if times > 1):
        raise UsageError(f"{what} is named twice", field=option, found=", ".join(twice), expected="each once")


def one_of(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Completes an option's value; `names` is called when a shell asks, and not before."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def _formats() -> list[str]:
    from curate.pairs.sources import FORMATS

    return ["auto", *FORMATS]


def preset_names() -> list[str]:
    from curate.project.presets import presets

    return list(presets())


Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="OURS=THEIRS",
        help="Our name of a field and the file's, as --field prompt=question; may repeat.",
    ),
]
Keep = Annotated[
    list[str] | None, typer.Option("--keep", metavar="COLUMN", help=params.DataParams.model_fields["keep"].description)
]

COMPLETED = {"format": one_of(_formats)}
"""Options made from params whose values a shell completes, beside those that list theirs."""


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
                annotation=Annotated[  # type: ignore[misc]
                    _annotation(field.annotation),
                    field,  # with its bounds, for docs/options.md
                    typer.Option(help=field.description, autocompletion=COMPLETED.get(name)),
                ],
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


REJECTS = ".rejects"


def rejects_path(out: Path) -> Path:
    """Where the rows go that are set aside while `out` is made."""
    return out.with_suffix(f"{REJECTS}.parquet")
