"""Write docs/options.md from the typed params and the commands' own declarations, and docs/formats.md.

python docs/write.py
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from curate.cli import app
from curate.project.params import ArmParams, Params, Section

FILE = Path(__file__).resolve().parent / "options.md"
FORMATS_FILE = FILE.with_name("formats.md")
HEAD = """# Options

Written by `python docs/write.py` from `curate/project/params/` and `curate/cli/`; a test holds it to them.
"""
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", dict: "keys"}
SIGNS = {Gt: (">", "gt"), Ge: ("≥", "ge"), Lt: ("<", "lt"), Le: ("≤", "le")}


def allowed(annotation: Any, constraints: list[Any]) -> str:
    """The type or the words of `annotation`, and what bounds it."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        own = [bound for item in more for bound in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return allowed(inner, [*own, *constraints])
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{word}`" for word in arguments)
    if NoneType in arguments:
        return " or ".join([*(allowed(one, constraints) for one in arguments if one is not NoneType), "none"])
    if get_origin(annotation) is list:
        at_least = ", at least one" if any(isinstance(item, MinLen) for item in constraints) else ""
        return f"list of: {allowed(arguments[0], [])}{at_least}"
    bounds = (
        f"{SIGNS[type(item)][0]} {_number(getattr(item, SIGNS[type(item)][1]))}"
        for item in constraints
        if type(item) in SIGNS
    )
    name = NAMES[get_origin(annotation) or annotation]
    return " ".join([name, ", ".join(bounds)]).strip()


def _number(value: float) -> str:
    return f"{value:g}" if value < 1e6 else "2³²" if value == 2**32 else f"{value:,}"


def table(head: str, rows: list[list[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head.split(","), ["---"] * len(head.split(",")), *escaped])


def written(value: object) -> str:
    """A default, as YAML and a command line have it."""
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(written, value))
    if isinstance(value, float):
        return f"`{value:.4g}`"
    return f"`{json.dumps(value).lower() if isinstance(value, bool) else value}`"


def section(model: type[Section]) -> str:
    """The keys of one section of params.yaml."""
    rows = [
        [
            f"`{name}`",
            written(field.get_default(call_default_factory=True)),
            allowed(field.annotation, field.metadata),
            field.description or "",
        ]
        for name, field in model.model_fields.items()
    ]
    return table("key,default,allowed,what it means", rows)


def parameters() -> Iterator[str]:
    yield "## params.yaml\n\nA wrong key or value is refused at once. `curate presets default` prints the whole file."
    for name, field in Params.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield f"### `{name}`\n\n{inspect.getdoc(field.annotation)}\n\n{section(field.annotation)}"
        else:
            yield f"### `{name}.NAME`\n\n{field.description}\n\n{section(ArmParams)}"


def commands(group: typer.Typer, before: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The name (`curate store merge`) and the function of every command of `group`."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield f"{before} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        name = f"{before} {inner.name or inner.typer_instance.info.name}"
        callback = inner.typer_instance.registered_callback
        if callback is not None and callback.callback is not None:
            yield name, callback.callback
        yield from commands(inner.typer_instance, name)


def command(name: str, function: Callable[..., Any]) -> str:
    """A command's heading, what it does, and its options."""
    rows, arguments = [], []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if get_origin(parameter.annotation) is not Annotated:
            continue  # typer's own context
        annotation, *made_from, info = get_args(parameter.annotation)
        required = parameter.default in (parameter.empty, ...)
        if isinstance(info, typer.models.ArgumentInfo):
            shown = info.metavar or parameter.name.upper()
            arguments.append(shown if required else f"[{shown}]")
        else:
            # typer takes the first declaration for a default until it has seen the annotation.
            declared = (info.default, *(info.param_decls or ()))
            flags = [flag for flag in declared if isinstance(flag, str) and flag.startswith("--")]
            shown = (flags or ["--" + parameter.name.replace("_", "-")])[0]
            if parameter.default is True:
                shown = shown.replace("--", "--no-", 1)
        bounds = [*([Ge(info.min)] if info.min is not None else []), *([Le(info.max)] if info.max is not None else [])]
        if made_from:  # a key of params.yaml, with the key's own bounds
            annotation, bounds = made_from[0].annotation, made_from[0].metadata
        kinds = "flag" if annotation is bool else allowed(annotation, bounds).removesuffix(" or none")
        kinds = re.sub(r"^list of: (.*)$", r"\1; may repeat", kinds)
        default = "required" if required else "off" if annotation is bool else written(parameter.default)
        rows.append([f"`{shown}`", default, kinds, info.help or ""])
    about, _, listed = (inspect.getdoc(function) or "").partition("\b\n")
    parts = [f"### `{' '.join([name, *arguments])}`", about.strip()]
    if listed.startswith("Formats"):
        parts.append("The formats: [formats.md](formats.md).")
    elif listed:
        parts.append(re.sub(r"(?m)^(?! {2})(.*)$", r"\1\n", listed.rstrip(), count=1).replace("\n  ", "\n    "))
    if rows:
        parts.append(table("option,default,allowed,what it means", rows))
    return "\n\n".join(parts)


def text() -> str:
    """The file."""
    listed = (command(name, function) for name, function in commands(app, "curate"))
    return "\n\n".join([HEAD.strip(), *parameters(), "## Commands", *listed]) + "\n"


def formats() -> str:
    """docs/formats.md, whose text is docs/formats.py's, loaded from the file: docs/ is no package."""
    spec = importlib.util.spec_from_file_location("docs_formats", FORMATS_FILE.with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.text())


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    FORMATS_FILE.write_text(formats(), encoding="utf-8")
