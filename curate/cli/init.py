"""`curate init`"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from curate.base.errors import InputError, UsageError
from curate.cli.options import one_of


def _preset_names() -> list[str]:
    from curate.project import presets

    return list(presets.presets())


def init(
    folder: Annotated[Path, typer.Argument(help="Made if it is not there; no file in it is overwritten.")] = Path(),
    preset: Annotated[
        str,
        typer.Option(
            help="Where params.yaml starts from; `curate presets` lists them.", autocompletion=one_of(_preset_names)
        ),
    ] = "default",
    data: Annotated[
        str | None, typer.Option(help="A preference file, or hub:owner/name [default: the preset's].")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model's folder or Hub id [default: the preset's].")] = None,
) -> None:
    """Start a project that DVC runs, in a folder of your own.

    It gets params.yaml, dvc.yaml and what they need. Neither git nor dvc is run: the commands that come next are
    printed.
    """
    from curate.base.progress import say
    from curate.models.resolve import is_hub_id
    from curate.project import create, presets

    chosen, read_as = presets.preset(preset), None
    if folder.exists() and not folder.is_dir():
        raise UsageError("a project is a folder", field="FOLDER", found=f"a file {folder}", remedy="give another name")
    is_folder = model is not None and Path(model).is_dir()
    if data is not None and data != "sample" and not data.startswith("hub:"):
        read_as = _format(_file(data))
        data = _seen_from(folder, Path(data))
    if model is not None and is_folder:
        model = _seen_from(folder, Path(model))
    elif model is not None and model != "scratch" and not is_hub_id(model):
        raise InputError("no such model", field="--model", found=model, expected="a folder that exists, or owner/name")
    params = create.parameters(chosen, data, model, is_folder=is_folder)
    texts = create.contents(params)
    written = create.create(folder, texts)
    if read_as is not None:
        say(f"init: {data} is read as {read_as}")
    say(f"init: {', '.join(written)} -> {folder}")
    for name in [name for name in texts if name not in written]:
        has = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
        if lines := [line for line in texts[name].splitlines() if line not in has]:
            say(f"{name} was there and stays as it is; add to it: {' '.join(lines)}")
    if absent := create.missing(folder, params):
        say(f"not there: {', '.join(absent)}; name your own in params.yaml, or start with --data FILE")
    say("next:\n" + "\n".join(f"  {line}" for line in create.next_commands(folder)))


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        expected = "a preference file, or hub:owner/name"
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError("cannot read the data", file=path, field="--data", found=found, expected=expected)
    return path


def _format(path: Path) -> str:
    """The format that the rows of this file have. Raises `InputError` where they have none that is known."""
    from curate.pairs.sources.choosing import choose
    from curate.pairs.sources.reading import read
    from curate.project.params import DataParams

    source = read(DataParams(source=str(path)))
    return choose("auto", source.records, source.path).name


def _seen_from(folder: Path, path: Path) -> str:
    """`path` as params.yaml in `folder` has it; its own name is kept where it is a link."""
    if path.is_absolute():
        return str(path)
    path = path.absolute()
    return os.path.relpath(path.parent.resolve() / path.name, folder.resolve())
