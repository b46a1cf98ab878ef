"""Reading a params file: what is wrong is named by its key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from curate.base.errors import InputError, UsageError
from curate.project.params.arms import ArmParams
from curate.project.params.whole import Params

S = TypeVar("S", bound=BaseModel)


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check a params file.

    Raises:
        InputError: no such file.
        UsageError: not YAML, an unknown key or a wrong value; the message names the key's path.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("the parameters are not UTF-8 text", file=path, found=error) from error
    except OSError as error:
        raise InputError(
            "cannot read the parameters", file=path, found=error.strerror, remedy="run where params.yaml lies"
        ) from error
    try:
        value = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise UsageError("not a YAML file", file=path, found=str(error).replace("\n", " ")) from error
    return check(Params, value, file=path)


class _UniqueKeys(yaml.SafeLoader):
    """YAML where a key written twice is an error, not the later one silently; 1e-3 is a number, as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: a key must be a word")
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value!r} stands twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def check(model: type[S], value: Any, *, file: str | Path | None = None) -> S:
    """Validate `value` against a section; the first fault becomes a `UsageError` that names the key's path."""
    try:
        return model.model_validate({} if value is None else value)
    except ValidationError as error:
        fault = error.errors()[0]
        path = [str(part) for part in fault["loc"]]
        raise UsageError(
            "unknown parameter" if fault["type"] == "extra_forbidden" else "wrong parameter",
            file=file,
            field=".".join(path) or None,
            found=repr(fault["input"]) if fault["loc"] else None,
            expected=_expected(model, path, fault),
            remedy=f"{error.error_count() - 1} more such faults follow" if error.error_count() > 1 else None,
        ) from error


def _expected(model: type[BaseModel], path: list[str], fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        section: Any = model
        for part in path[:-1]:
            field = section.model_fields.get(part)
            # `arms` is a dictionary: whatever lies below it is an arm.
            section = field.annotation if field and part != "arms" else ArmParams
        names = list(section.model_fields)
        close = difflib.get_close_matches(path[-1], names, n=1)
        return f"{close[0]}?" if close else f"one of: {', '.join(names)}"
    return str(fault["msg"]).removeprefix("Value error, ")
