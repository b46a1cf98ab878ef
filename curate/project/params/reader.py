"""Reading a params file: what is wrong is named by its key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from curate.base import files, limits
from curate.base.credentials import redacted_value
from curate.base.errors import UsageError
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
    files.existing(path, "run where params.yaml lies")
    data = limits.read_bytes(path)
    if len(data) > MOST_BYTES:
        raise UsageError("this is too large for parameters", file=path, found=f"{len(data):,} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("the parameters are not UTF-8 text", file=path, found=error) from error
    return check(Params, read_yaml(text, file=path), file=path)


MOST_BYTES = 2**20
MOST_VALUES = 100_000  # of a YAML file, an alias's anew at each place


def read_yaml(text: str, **where: Any) -> Any:
    """The value of a YAML text; a key written twice is an error.

    Args:
        where: `file` or `field` of errors.

    Raises:
        UsageError: not YAML, a value that is none of its kind (a 13th month, 0x without digits, 5,000 digits), a number
            that another version of YAML reads otherwise, nested too deeply, or aliases that amount to too much.
    """
    try:
        value = yaml.load(text, Loader=_UniqueKeys)
        left = [value]
        for seen in range(MOST_VALUES + 1):
            if not left:
                return value
            part = left.pop()
            left += [*part.keys(), *part.values()] if isinstance(part, dict) else part if _holds(part) else []
            if len(left) + seen > MOST_VALUES:
                break
    except _TwoNumbers as error:
        raise UsageError(
            "a number that YAML 1.1 and YAML 1.2, which DVC reads, take for different ones",
            found=error,
            expected="a decimal number without a leading zero",
            **where,
        ) from None
    except yaml.YAMLError as error:
        raise UsageError("not a YAML file", found=str(error).replace("\n", " "), **where) from error
    except RecursionError:
        raise UsageError("the YAML is nested too deeply", **where) from None
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise UsageError("a value in the YAML is none of its kind", found=error, **where) from error
    raise UsageError("the YAML amounts to too much", expected=f"at most {MOST_VALUES:,} values", **where)


def _holds(value: object) -> bool:
    return isinstance(value, list | tuple | set)


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


class _TwoNumbers(Exception):
    """The number as it is written, and its line."""


_OTHERWISE = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
"""010 is 8 in YAML 1.1, and 1:30 is 90."""


def _one_number(loader: _UniqueKeys, node: yaml.ScalarNode) -> Any:
    if _OTHERWISE.fullmatch(node.value):
        raise _TwoNumbers(f"{node.value} in line {node.start_mark.line + 1}")
    kind = node.tag.rpartition(":")[2]
    return loader.construct_yaml_int(node) if kind == "int" else loader.construct_yaml_float(node)


for _kind in ("int", "float"):
    _UniqueKeys.add_constructor(f"tag:yaml.org,2002:{_kind}", _one_number)


def check(model: type[S], value: Any, *, file: str | Path | None = None) -> S:
    """Validate `value` against a section; the first fault becomes a `UsageError` that names the key's path."""
    try:
        return model.model_validate({} if value is None else value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        path = [str(part) for part in fault["loc"]]
        raise UsageError(
            "unknown parameter" if fault["type"] == "extra_forbidden" else "wrong parameter",
            file=file,
            field=".".join(path) or None,
            found=_found(fault["input"], path) if fault["loc"] else None,
            expected=_expected(model, path, fault),
            remedy=f"{error.error_count() - 1} more such faults follow" if error.error_count() > 1 else None,
        ) from error
    except (OSError, RecursionError) as error:  # a model's name of 300 letters is looked for as a folder
        found = getattr(error, "strerror", None) or type(error).__name__
        raise UsageError(
            "wrong parameter", file=file, found=found, expected="names of files, words and numbers"
        ) from None


def _found(value: Any, path: list[str]) -> str:
    """What stands there, without passwords and keys."""
    name = next((part for part in reversed(path) if not part.isdecimal()), "")
    try:
        return repr(redacted_value(value, name))
    except (RecursionError, ValueError):  # nested, a number of 5,000 digits
        return type(value).__name__


def _expected(model: type[BaseModel], path: list[str], fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        # `arms` is a dictionary: whatever lies below it, and is called what it may, is an arm.
        section: Any = ArmParams if path[0] == "arms" and len(path) > 1 else model
        if section is model:
            for part in path[:-1]:
                section = section.model_fields[part].annotation
        names = list(section.model_fields)
        close = difflib.get_close_matches(path[-1], names, n=1)
        return f"{close[0]}?" if close else f"one of: {', '.join(names)}"
    if fault["type"] == "tuple_type":
        return "a list, like [a, b]"
    return str(fault["msg"]).removeprefix("Value error, ")
