"""`curate init`"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
import yaml

from curate.base.errors import InputError, UsageError
from curate.base.files import real
from curate.cli.options import Fields, Keep, assignments, one_of, preset_names, with_params
from curate.project.params import DataParams, is_file
from curate.project.params import check as checked

_SKIP = ("source", "watch", "fields", "keep", "limit", "sample_pairs", "heldout_fraction", "seed")


@with_params(DataParams, skip=_SKIP)
def init(
    params: DataParams,
    folder: Annotated[Path, typer.Argument(help="Made if it is not there; no file in it is overwritten.")] = Path(),
    preset: Annotated[
        str,
        typer.Option(
            help="Where params.yaml starts from; `curate presets` lists them.", autocompletion=one_of(preset_names)
        ),
    ] = "default",
    data: Annotated[
        str | None, typer.Option(help="A preference file, or hub:owner/name [default: the preset's].")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model's folder or Hub id [default: the preset's].")] = None,
    field: Fields = None,
    keep: Keep = None,
) -> None:
    """Start a project that DVC runs, in a folder of your own.

    It gets params.yaml, dvc.yaml and what they need. --field and the options below it say how DATA is read, as in
    `curate prepare`. Neither git nor dvc is run: the commands that come next are printed.
    """
    from curate.base.progress import say
    from curate.models.resolve import is_hub_id
    from curate.project import create, presets

    chosen, read_as = presets.preset(preset), None
    if folder.exists() and not folder.is_dir():
        raise UsageError("a project is a folder", field="FOLDER", found=f"a file {folder}", remedy="give another name")
    is_folder = model is not None and Path(model).is_dir()
    named = _named(data, params, assignments(field or []), keep or [])
    if named is not None and is_file(named.source):
        read_as = _read_as(named)
        named = named.model_copy(update={"source": _seen_from(folder, _file(named.source))})
    if model is not None and is_folder:
        model = _seen_from(folder, Path(model))
    elif model is not None and model != "scratch" and not is_hub_id(model):
        raise InputError("no such model", field="--model", found=model, expected="a folder that exists, or owner/name")
    text = create.parameters(chosen, named, model, is_folder=is_folder)
    texts = create.contents(text)
    written = create.create(folder, texts)
    if read_as is not None:
        say(f"init: {named.source if named else data} is read as {read_as}")
    if named is not None and yaml.safe_load(text)["score"]["too_long"] == "reject":
        say("init: pairs longer than the model's context will be set aside and counted (score.too_long)")
    say(f"init: {', '.join(written)} -> {folder}")
    for name in [name for name in texts if name not in written]:
        has = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
        if lines := [line for line in texts[name].splitlines() if line not in has]:
            say(f"{name} was there and stays as it is; add to it: {' '.join(lines)}")
    if absent := create.missing(folder, text):
        say(f"not there: {', '.join(absent)}; name your own in params.yaml, or start with --data FILE, --model MODEL")
    say("next:\n" + "\n".join(f"  {line}" for line in create.next_commands(folder)))


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        expected = "a preference file, or hub:owner/name"
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError("cannot read the data", file=path, field="--data", found=found, expected=expected)
    return path


def _named(data: str | None, how: DataParams, fields: dict[str, str], keep: list[str]) -> DataParams | None:
    """`data` and how it is read; None where none is named. Raises `UsageError` where it is said how nothing is read."""
    given = how.model_dump() | {"fields": fields, "keep": keep}
    if data is not None:
        return checked(DataParams, given | {"source": data})
    if said := [name for name, value in given.items() if value != getattr(DataParams(), name)]:
        names = ", ".join("--" + {"fields": "field"}.get(name, name).replace("_", "-") for name in said)
        raise UsageError("this says how data is read, and none is named", found=names, remedy="name it: --data FILE")
    return None


def _read_as(data: DataParams) -> str:
    """The format that the file has, or that is named for it, in words.

    Raises:
        InputError: it has none that is known, none of its first rows fits the one that is named, or it lacks a column.
    """
    from curate.base import limits
    from curate.pairs.keeping import kept_columns
    from curate.pairs.prepare import format_of
    from curate.pairs.sources.mapping import check_asked
    from curate.pairs.sources.parsing import misfit
    from curate.pairs.sources.reading import read

    _file(data.source)
    with limits.given(data.input_limit):
        source = read(data)
        form = format_of(data, source)
        check_asked(source.records, form.asked, source.path)
        if reason := misfit(source, form):
            raise InputError(
                "none of the first rows gives a pair",
                file=source.path,
                found=f"the first: {reason}",
                expected=f"{form.name}: {form.about}",
            )
        kept_columns(source.records, [], data.keep, source.path)
    return f"{form.name} ({form.about})" if data.fields else form.name


def _seen_from(folder: Path, path: Path) -> str:
    """`path` as params.yaml in `folder` has it; its own name is kept where it is a link."""
    if path.is_absolute():
        return str(path)
    path = path.absolute()
    return os.path.relpath(real(path.parent) / path.name, real(folder))
